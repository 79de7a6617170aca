"""One variant of a role as it is: what it may have more of now, and why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from stowage.api.model_service_reasons import ScalingReason
from stowage.api.model_service_role import Role, Variant
from stowage.decide.serving.drain import CLOCKS_SECONDS
from stowage.decide.serving.service_facts import (
    OUT_OF_STOCK_UNTIL_ANNOTATION,
    DeploymentFact,
    PodFact,
    seconds_of,
)
from stowage.decide.serving.split import VariantShare, split

MANY_RESTARTS: Final = 2
"""A container that began again so often fails also while it happens to run: between two crashes it does not wait."""
STUCK_SECONDS: Final = 120.0
"""For so long a replica may find no node before another variant is tried: autoscalers of nodes need about as long."""
OUT_OF_STOCK_SECONDS: Final = 600.0
"""For so long the variant is then asked for no more."""


def is_troubled(pod: PodFact) -> bool:
    """Whether a pod can not start, as far as it tells."""
    return bool(pod.trouble) or pod.restarts >= MANY_RESTARTS


def is_stuck(pod: PodFact, now: float) -> bool:
    """Whether no node was found for it for long."""
    since = pod.unschedulable_since
    return pod.node is None and since is not None and now - since >= STUCK_SECONDS


@dataclass(frozen=True, slots=True)
class VariantState:
    """Of one role.

    Attributes:
        spec: the variant.
        deployment: its Deployment, or the same of what stands in for one; None: not made yet.
        pods: that are there; such as have been deleted are not.
        told: replicas that it shall have by the last status, spares included; None: it does not say.
    """

    spec: Variant
    deployment: DeploymentFact | None
    pods: tuple[PodFact, ...]
    told: int | None = None

    @property
    def name(self) -> str:
        """Of the variant."""
        return self.spec.name

    @property
    def replicas(self) -> int:
        """That its Deployment asks for."""
        return self.deployment.replicas if self.deployment is not None else 0

    @property
    def current(self) -> int:
        """Replicas that it shall have so far, spares included: those that leave are not among them.

        One that has left the Deployment's number may still be seen, and must not be taken off it once more.
        """
        found = max(0, self.replicas - sum(one.is_draining for one in self.pods))
        beyond = max(0, len(self.pods) - self.replicas)
        return max(found, min(self.told or 0, self.replicas, found + beyond))

    @property
    def placed(self) -> int:
        """Replicas that have found a node, and do not leave."""
        return sum(one.node is not None and not one.is_draining for one in self.pods)

    @property
    def foreign(self) -> str:
        """Who else owns the number of its replicas; empty: nobody."""
        return self.deployment.replicas_manager if self.deployment is not None else ""

    @property
    def failure(self) -> str:
        """Why pods of it can not be made, in the API server's words; empty: they can."""
        return self.deployment.failure if self.deployment is not None else ""

    @property
    def is_quota_full(self) -> bool:
        """Whether a ResourceQuota is why."""
        return "exceeded quota" in self.failure

    @property
    def failing(self) -> tuple[PodFact, ...]:
        """Pods newer than any that is ready, where each of them can not start: more would fail the same way."""
        newest = max((one.created_at for one in self.pods if one.is_ready), default=float("-inf"))
        fresh = tuple(one for one in self.pods if one.created_at > newest and not one.is_ready)
        return fresh if fresh and all(map(is_troubled, fresh)) else ()

    @property
    def is_rolling_out(self) -> bool:
        """Whether pods of an older template answer yet: its controller gives them most of what is added meanwhile."""
        return self.deployment is not None and not self.deployment.is_settled and any(one.is_ready for one in self.pods)

    def stuck(self, now: float) -> tuple[PodFact, ...]:
        """Pods for which no node was found for long."""
        return tuple(one for one in self.pods if is_stuck(one, now))

    def out_of_stock_until(self, now: float) -> float | None:
        """Until when no more of it are asked for, as was decided before; None: nothing was, or it is over.

        A time that is further away than any decision puts it was written by somebody else, and counts for nothing.
        """
        annotations = self.deployment.annotations if self.deployment is not None else {}
        until = seconds_of(annotations.get(OUT_OF_STOCK_UNTIL_ANNOTATION))
        return until if until is not None and now < until <= now + OUT_OF_STOCK_SECONDS + CLOCKS_SECONDS else None


@dataclass(frozen=True, slots=True)
class Placing:
    """Where a role's replicas go.

    Attributes:
        counts: by variant; where somebody else writes the number, that number.
        wanted: by variant, the same as if nobody else wrote any.
        out_of_stock_until: by variant, those that are asked for no more for a while.
        short: why fewer come than were decided; None: as many do.
    """

    counts: Mapping[str, int]
    wanted: Mapping[str, int]
    out_of_stock_until: Mapping[str, float]
    short: ScalingReason | None


def place(
    count: int,
    role: Role,
    states: Sequence[VariantState],
    prices: Mapping[str, float | None],
    capacities: Mapping[str, float],
    now: float,
    *,
    order: Sequence[str] = (),
    at_most: Mapping[str, int] | None = None,
) -> Placing:
    """A role's count over its variants.

    A variant whose new replicas can not start grows no more; one without room gives what it could not place to others,
    and keeps asking only for what those can not take. Replicas that somebody else counts stay as many as they are.

    Args:
        count: replicas of the role.
        role: which one.
        states: of its variants, in the spec's order.
        prices: by variant, of a replica.
        capacities: by variant, what a replica serves.
        now: the time.
        order: of variants, by the mix in force.
        at_most: of variants that shall have no more than so many.
    """
    foreign = {one.name: one.replicas for one in states if one.foreign}
    most = {one.name: most_of(one, role) for one in states}
    most.update({name: min(most[name], count) for name, count in (at_most or {}).items()})
    until = {one.name: at for one in states if (at := one.out_of_stock_until(now)) is not None}
    in_stock = [one for one in states if one.name not in until]
    for one in in_stock:
        elsewhere = any(other is not one and most[other.name] > other.current for other in in_stock)
        if elsewhere and one.stuck(now):
            until[one.name] = now + OUT_OF_STOCK_SECONDS

    def shared(count: int, among: Sequence[VariantState], currents: Mapping[str, int]) -> Mapping[str, int]:
        def shares(currents: Mapping[str, int], mosts: Mapping[str, int]) -> list[VariantShare]:
            return [
                VariantShare(one.name, prices[one.name], capacities[one.name], currents[one.name], mosts[one.name])
                for one in among
            ]

        now_most = {**most, **{name: min(most[name], placed[name]) for name in until}}
        found = split(count, shares(currents, now_most), order)
        return found if sum(found.values()) >= count else split(count, shares(found, most), order)

    placed = {one.name: one.placed for one in states}
    own = [one for one in states if one.name not in foreign]
    rest = max(0, count - sum(foreign.values()))
    counts = shared(rest, own, {one.name: one.current for one in own})
    wanted = counts
    if foreign:
        wanted = shared(count, states, {one.name: one.told if one.told is not None else one.current for one in states})
    # a rise may be asked for in one step, before anybody knows of the quota: nothing is left to ask for then
    refused = any(one.is_quota_full and counts[one.name] > len(one.pods) for one in own)
    short = _why_short(own) if refused or sum(counts.values()) < rest else None
    return Placing({**counts, **foreign}, wanted, until, short)


def most_of(state: VariantState, role: Role) -> int:
    """Replicas that a variant may have now: no more than it has where new ones can not start."""
    most = state.spec.max if state.spec.max is not None else max(role.bounds.max, state.current)
    held = bool(state.failure or (state.failing and not state.is_rolling_out))
    return min(most, state.current) if held else most


def _why_short(states: Sequence[VariantState]) -> ScalingReason:
    if any(one.failing or (one.failure and not one.is_quota_full) for one in states):
        return ScalingReason.REPLICAS_FAILING
    if any(one.is_quota_full for one in states):
        return ScalingReason.QUOTA_REACHED
    return ScalingReason.OUT_OF_STOCK
