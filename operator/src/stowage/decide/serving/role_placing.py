"""From how many replicas each role shall have to which variants get them, by budget, stock and mix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from stowage.api.model_service import ModelServiceSpec
from stowage.api.model_service_reasons import ScalingReason
from stowage.api.model_service_role import Role
from stowage.api.model_service_status import RoleMix
from stowage.decide.serving.decision import Decision
from stowage.decide.serving.mix_switch import Course, course, order_of_spares, placed
from stowage.decide.serving.role_memory import RoleMemory
from stowage.decide.serving.role_prospect import Prospect
from stowage.decide.serving.spend import fits, limits_of, uses
from stowage.decide.serving.split import VariantShare, split
from stowage.decide.serving.variant_state import Placing, VariantState, most_of
from stowage.decide.serving.warm_spares import Wish
from stowage.decide.serving.within_budget import held, within_budget


class PlacedRole(Protocol):
    """A role on its way through a step."""

    @property
    def name(self) -> str:
        """Of the role."""

    @property
    def spec(self) -> Role:
        """The role."""

    @property
    def states(self) -> tuple[VariantState, ...]:
        """Of its variants."""

    @property
    def prospect(self) -> Prospect:
        """What it is decided with."""

    @property
    def mix(self) -> RoleMix | None:
        """Of it."""


@dataclass(frozen=True, slots=True)
class Placed:
    """All roles of a service.

    Attributes:
        decisions: by role, with what budget, stock and a switch between variants make of them.
        placings: by role.
        mixes: by role, as they stand after this.
        switched: roles that another mix has just taken over.
        waiting: roles whose switch the budget does not pay for: old and new replicas at once.
    """

    decisions: Mapping[str, Decision]
    placings: Mapping[str, Placing]
    mixes: Mapping[str, RoleMix | None]
    switched: frozenset[str] = frozenset()
    waiting: frozenset[str] = frozenset()

    def remembered(self, memories: Mapping[str, RoleMemory]) -> Mapping[str, RoleMemory]:
        """What is remembered of counts speaks of other replicas once another mix has taken over."""
        return {name: self._anew(name, one) if name in self.switched else one for name, one in memories.items()}

    def _anew(self, name: str, memory: RoleMemory) -> RoleMemory:
        count = self.decisions[name].to_replicas if memory.decisions.last_good is not None else None
        return replace(memory, decisions=replace(memory.decisions, last_good=count, wanted=(), needed=()))


def place_roles(
    spec: ModelServiceSpec, roles: Sequence[PlacedRole], decisions: Mapping[str, Decision], now: float
) -> Placed:
    """Which variants the replicas of each role are of.

    Args:
        spec: of the service.
        roles: all of them, in its order.
        decisions: by role, about their counts.
        now: the time.
    """
    decisions = within_budget(spec, decisions, {one.name: partial(_spend_of, one, now) for one in roles})
    stays = {one.name: _stays(one, decisions[one.name].to_replicas, now) for one in roles}
    limits = limits_of(spec.scaling.budget)
    courses: dict[str, Course] = {}
    waiting = set[str]()
    for one in roles:
        is_fixed = spec.replicas is not None and one is roles[0]
        found = _course(one, decisions[one.name].to_replicas, now) if not is_fixed else None
        if found is not None and limits:
            counts = {**{name: placing.counts for name, placing in stays.items()}, one.name: found.placing.counts}
            counts |= {name: known.placing.counts for name, known in courses.items()}
            asks_more = sum(counts[one.name].values()) > sum(stays[one.name].counts.values())
            if asks_more and not fits(_spend(roles, counts), {}, limits):
                waiting.add(one.name)
                found = None
        courses[one.name] = found or Course(stays[one.name], one.mix)
    return Placed(
        {name: _as_placed(decision, courses[name]) for name, decision in decisions.items()},
        {name: one.placing for name, one in courses.items()},
        {name: one.mix for name, one in courses.items()},
        frozenset(name for name, one in courses.items() if one.switched is not None),
        frozenset(waiting),
    )


def wishes(roles: Sequence[PlacedRole], placed: Placed) -> list[Wish]:
    """What the roles ask for, how many spares left to be said."""
    return [
        Wish(
            one.spec,
            placed.decisions[one.name].to_replicas,
            partial(_spares_of, one, placed),
            partial(_spend_with_spares, one, placed),
        )
        for one in roles
    ]


def _spares_of(role: PlacedRole, known: Placed, count: int) -> Mapping[str, int]:
    """By variant, so many spares beside its replicas: those that are there stay, more go where replicas would.

    With a mix they are of its variants, and where those did not start of the others: a spare of one that the role
    leaves would keep it in use, and all replicas would count as slow as that.
    """
    found = known.placings[role.name]
    mix = known.mixes[role.name] if role.name not in known.waiting else None
    first, last = order_of_spares(mix)
    states = [one for one in role.states if not one.foreign]
    there = {one.name: 0 if one.name in last else one.current - found.counts.get(one.name, 0) for one in states}

    def shared(currents: Mapping[str, int], mosts: Mapping[str, int]) -> Mapping[str, int]:
        shares = [
            VariantShare(
                one.name,
                role.prospect.prices[one.name],
                role.prospect.capacities[one.name],
                max(0, currents[one.name]),
                max(0, mosts[one.name] - found.counts.get(one.name, 0)),
            )
            for one in states
        ]
        return split(count, shares, (*first, *last))

    most = {one.name: most_of(one, role.spec) for one in states}
    in_stock = {
        one.name: min(most[one.name], one.placed) if one.name in found.out_of_stock_until else most[one.name]
        for one in states
    }
    spares = shared(there, in_stock)
    return spares if sum(spares.values()) >= count else shared(spares, most)


def _spend_with_spares(role: PlacedRole, known: Placed, count: int) -> Mapping[str, float]:
    """What the replicas of a role use, those included that only a switch asks for, with so many spares."""
    spares, counts = _spares_of(role, known, count), known.placings[role.name].counts
    both = {one.name: counts.get(one.name, 0) + spares.get(one.name, 0) for one in role.states}
    return _spend([role], {role.name: both})


def _spend_of(role: PlacedRole, now: float, count: int) -> Mapping[str, float]:
    return _spend([role], {role.name: _stays(role, count, now).counts})


def _stays(role: PlacedRole, count: int, now: float) -> Placing:
    return placed(count, role.spec, role.states, role.prospect, role.mix, now)


def _course(role: PlacedRole, count: int, now: float) -> Course:
    return course(count, role.spec, role.states, role.prospect, role.mix, now)


def _spend(roles: Sequence[PlacedRole], counts: Mapping[str, Mapping[str, int]]) -> Mapping[str, float]:
    total = dict[str, float]()
    for role in roles:
        for one in role.states:
            for name, amount in uses(one.spec).items():
                total[name] = total.get(name, 0.0) + amount * counts[role.name].get(one.name, 0)
    return total


def _as_placed(decision: Decision, found: Course) -> Decision:
    """The decision with what the variants may have, where that is less, or with what a switch has made of it."""
    if found.switched is not None:
        return held(decision, found.switched, ScalingReason.MIX_SWITCHED)
    count = sum(found.placing.counts.values())
    if found.placing.short is None:
        return decision
    return held(decision, min(count, decision.to_replicas), found.placing.short)
