"""How a role gets from the variants that it has to those of its mix: new replicas first, then the old ones go.

Requests are spread evenly, so while a slow replica answers, each faster one counts as one like it. An old replica may
go for each new one that is ready; once all of the mix are, they bear the load alone, and the count is theirs from then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stowage.api.durations import instant
from stowage.api.model_service_reasons import ServiceReason
from stowage.api.model_service_role import Role
from stowage.api.model_service_status import RoleMix
from stowage.decide.serving.role_prospect import Prospect
from stowage.decide.serving.variant_state import Placing, VariantState, most_of, place

_CLOSE = 1e-6


@dataclass(frozen=True, slots=True)
class Course:
    """Where a role's replicas go, with its mix in mind.

    Attributes:
        placing: that.
        mix: as it stands after this.
        switched: replicas that bear alone what was decided, where a switch has just ended; None: none has.
    """

    placing: Placing
    mix: RoleMix | None
    switched: int | None = None


def is_switching(mix: RoleMix | None) -> bool:
    """Whether replicas of the mix are still to take over."""
    return mix is not None and mix.reason == ServiceReason.MIX_SWITCHING


def order_of(mix: RoleMix | None) -> tuple[str, ...]:
    """The order of variants that a mix gives; empty where there is none in force."""
    known = mix is not None and mix.reason in {ServiceReason.MIX_IN_FORCE, ServiceReason.MIX_SWITCHING}
    return tuple(one.name for one in mix.variants) if mix is not None and known else ()


def order_of_spares(mix: RoleMix | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Variants that spares are of, and such as have some only where those can have no more; empty: any variant may."""
    failed = mix is not None and mix.reason == ServiceReason.MIX_SWITCH_FAILED
    if mix is None or not (failed or order_of(mix)):
        return (), ()
    stay = tuple(one.name for one in mix.variants if (one.replicas > 0) is not failed)
    return stay, tuple(one.name for one in mix.variants if one.name not in stay)


def placed(
    count: int, role: Role, states: Sequence[VariantState], prospect: Prospect, mix: RoleMix | None, now: float
) -> Placing:
    """A role's count over its variants in the order of the mix, without any move."""
    return place(count, role, states, prospect.prices, prospect.capacities, now, order=order_of(mix))


def course(
    count: int, role: Role, states: Sequence[VariantState], prospect: Prospect, mix: RoleMix | None, now: float
) -> Course:
    """The same with what a switch asks for besides: replicas of the mix beside those that they replace.

    Args:
        count: replicas that the role shall have, each worth the slowest one in use.
        role: which one.
        states: of its variants.
        prospect: of the role.
        mix: of it; None: there is none.
        now: the time.
    """
    stays = placed(count, role, states, prospect, mix, now)
    if mix is None or not is_switching(mix) or not count:
        return Course(stays, mix)
    usable = {one.name: one for one in states}
    parts = [one for one in mix.variants if one.replicas]
    ready = {name: sum(one.is_ready and one.takes_requests for one in state.pods) for name, state in usable.items()}
    blocked = {name for name, one in usable.items() if _is_blocked(one, now)}
    target = _target(count, role, usable, prospect, mix)
    targets = target.counts if target is not None else {}
    if target is None or blocked & {name for name, wanted in targets.items() if wanted > ready[name]}:
        failed = mix.model_copy(
            update={"reason": ServiceReason.MIX_SWITCH_FAILED.value, "since": instant(float(int(now)))}
        )
        limits = {one.name: ready[one.name] for one in parts if one.name in blocked}
        before = [name for name in usable if all(one.name != name for one in parts)]  # that go on, so they stay first
        halted = place(count, role, states, prospect.prices, prospect.capacities, now, order=before, at_most=limits)
        return Course(halted, failed)
    if all(ready[name] >= wanted for name, wanted in targets.items()):
        ended = mix.model_copy(update={"reason": ServiceReason.MIX_IN_FORCE.value})
        return Course(_placing(targets, usable, stays), ended, sum(targets.values()))
    old = {name: max(0, one.current - targets.get(name, 0)) for name, one in usable.items()}
    beside = count - sum(min(ready[name], wanted) for name, wanted in targets.items())
    if target.is_slower:  # spares are beyond what is in use, and may go
        spares = sum(min(old[name], sum(pod.is_spare for pod in one.pods)) for name, one in usable.items())
        beside = max(beside, sum(old.values()) - spares)
    for name in reversed([one for one in order_of(mix) if one in old]):
        old[name] -= max(0, min(old[name], sum(old.values()) - max(0, beside)))
    return Course(_placing({name: targets.get(name, 0) + old[name] for name in usable}, usable, stays), mix)


@dataclass(frozen=True, slots=True)
class _Target:
    """Replicas of the mix by variant; `is_slower`: than some that are in use, so none of those may go before the end.

    The count is then still one of the faster ones, until decisions have been made that know of slower ones.
    """

    counts: Mapping[str, int]
    is_slower: bool


def _target(
    count: int, role: Role, usable: Mapping[str, VariantState], prospect: Prospect, mix: RoleMix
) -> _Target | None:
    """Replicas of the mix that bear as much as `count` of the slowest in use; None: they can not be had."""
    parts = [one for one in mix.variants if one.replicas]
    if not parts or any(one.name not in usable for one in parts) or any(one.foreign for one in usable.values()):
        return None
    in_use = [name for name, one in usable.items() if one.current > 0]
    bears = prospect.capacities
    rates = {one.name: float(one.requests_per_second or 0.0) for one in mix.variants}
    times, is_slower = 0.0, not in_use
    if in_use:
        slowest = min(in_use, key=lambda name: bears[name])
        for model in (rates, bears):  # both, so that the load fits whichever of them is right
            least = min(model[one.name] for one in parts)
            if least <= 0:
                return None
            times = max(times, model.get(slowest, 0.0) / least)
            is_slower = is_slower or least < max(model.get(name, 0.0) for name in in_use)
    planned = sum(one.replicas for one in parts)
    # `count` of faster ones says little about slower ones: the last of them may be needed in part
    target = max(1, role.bounds.min, math.ceil(count * times - _CLOSE) if times <= 1 + _CLOSE else planned)
    if is_slower:
        target = max(target, planned)
    found: dict[str, int] = {}
    for one in parts:
        found[one.name] = max(0, min(most_of(usable[one.name], role), target - sum(found.values())))
    return _Target(found, is_slower) if sum(found.values()) == target else None


def _is_blocked(state: VariantState, now: float) -> bool:
    """Whether replicas of it do not come."""
    return bool(state.stuck(now) or state.failing or state.failure) or state.out_of_stock_until(now) is not None


def _placing(counts: Mapping[str, int], usable: Mapping[str, VariantState], stays: Placing) -> Placing:
    whole = {name: counts.get(name, 0) for name in usable}
    return Placing(whole, whole, stays.out_of_stock_until, None)
