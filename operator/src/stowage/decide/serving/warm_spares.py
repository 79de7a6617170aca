"""Warm spares: replicas that are started beyond those that are asked for, and take no requests until they are needed.

A role has `warm.pods` replicas beside its count: of each variant the best take requests, and the next ones are spares.
So a rise, or a replica that fails, needs a label and no cold start, and a replica that is no longer needed becomes a
spare where one is wanted, which spares the next start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from stowage.api.model_service import ModelService
from stowage.api.model_service_role import Role
from stowage.decide.serving.service_facts import PodFact
from stowage.decide.serving.spend import Claim, limits_of, paid_for


@dataclass(frozen=True, slots=True)
class Divided:
    """Which pods take requests, and which are spares, of those that stay; what is in neither stays as it is."""

    serve: tuple[PodFact, ...]
    spare: tuple[PodFact, ...]


def divide(pods: Sequence[PodFact], target: int, spares: int, may_stop: int | None) -> Divided:
    """The `target` best of the pods take requests, the next `spares` are kept.

    Whoever answers comes first, so a spare stands in for a replica that does not. Then, in a roll-out, pods of the
    newest template: old ones become spares, end what they have, and are the first that the roll-out takes. Then those
    that take requests already, spares, those that drain. At last the oldest: its caches hold the most.

    Args:
        pods: that stay.
        target: that shall take requests.
        spares: that shall be kept beside them.
        may_stop: of those that answer, how many may stop taking requests now; None: any.
    """
    newest = max(pods, key=lambda one: (one.created_at, one.ref)).template if pods else ""

    def rank(one: PodFact) -> tuple[bool, bool, bool, bool]:
        return not one.is_ready, one.template != newest, not one.takes_requests, not one.is_spare

    ordered = sorted(pods, key=lambda one: (*rank(one), one.created_at, one.ref))
    left = len(ordered) if may_stop is None else max(0, may_stop)
    kept: list[PodFact] = []
    for one in ordered[target : target + spares]:
        if one.is_ready and one.takes_requests:
            if left == 0:
                continue
            left -= 1
        kept.append(one)
    return Divided(tuple(ordered[:target]), tuple(kept))


@dataclass(frozen=True, slots=True)
class Wish:
    """What a role asks for.

    Attributes:
        role: which one.
        count: replicas that shall take requests.
        spares: by variant, of which ones so many spares would be.
        spend: what its replicas use, with so many spares.
    """

    role: Role
    count: int
    spares: Callable[[int], Mapping[str, int]]
    spend: Callable[[int], Mapping[str, float]]


def spares_of(service: ModelService, wishes: Sequence[Wish]) -> Mapping[str, Mapping[str, int]]:
    """By role and variant, the spares beside the replicas that take requests.

    They are never beyond `bounds.max`, and only what the budget leaves after all replicas, those included that a switch
    between variants asks for. While the service is paused they stay as many as they are, and a first role that is at
    zero by hand has none.

    Args:
        service: with its last status.
        wishes: of its roles, in the spec's order.
    """
    kept = _kept(service, wishes)
    return {one.role.name: one.spares(kept[one.role.name]) for one in wishes}


def told_spares(service: ModelService, role: str) -> int:
    """Spares that the role shall have by the last status."""
    return sum(one.spare for known in service.status.roles if known.name == role for one in known.variants)


def _kept(service: ModelService, wishes: Sequence[Wish]) -> Mapping[str, int]:
    """By role, how many there are."""
    if service.spec.scaling.paused:
        return {one.role.name: told_spares(service, one.role.name) for one in wishes}
    wanted = {one.role.name: _wanted(service, one) for one in wishes}
    limits = limits_of(service.spec.scaling.budget)
    if not limits or not any(wanted.values()):
        return wanted
    return paid_for([Claim(one.role.name, 0, wanted[one.role.name], one.spend) for one in wishes], limits)


def _wanted(service: ModelService, wish: Wish) -> int:
    if wish.count == 0 and service.spec.replicas == 0 and wish.role is service.spec.roles[0]:
        return 0
    return min(wish.role.warm.pods, max(0, wish.role.bounds.max - wish.count))
