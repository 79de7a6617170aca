"""What replicas use: GPUs, money, power; and how many of each role a budget for all of them pays for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from stowage.api.model_service_role import ServingTemplate, Variant
from stowage.api.model_service_scaling import Budget

GPUS: Final = "gpus"
COST: Final = "cost_per_hour"
POWER: Final = "power_watts"
_ROUNDING: Final = 1e-9
_MOST_DIGITS: Final = 9
"""Of a count of GPUs: what is longer is no count, and the API server says so when it is asked for such pods."""


def uses(variant: Variant) -> Mapping[str, float]:
    """What one replica uses, as far as its variant tells: GPUs, cost per hour, watts."""
    told: dict[str, float] = {GPUS: float(variant.gpus if variant.gpus is not None else gpus_of(variant))}
    if variant.cost_per_hour is not None:
        told[COST] = float(variant.cost_per_hour)
    if variant.power_watts is not None:
        told[POWER] = float(variant.power_watts)
    return told


def gpus_of(variant: Variant) -> int:
    """GPUs that the containers of one replica ask for, all its pods together."""
    first, group = _gpus_of(variant.template), variant.group
    if group is None:
        return first
    return first + (group.size - 1) * (first if group.workers is None else _gpus_of(group.workers))


def _gpus_of(template: ServingTemplate) -> int:
    return sum(_gpus(one.model_extra or {}) for one in template.spec.containers)


def _gpus(container: Mapping[str, Any]) -> int:
    resources = container.get("resources") or {}
    amounts = {**(resources.get("requests") or {}), **(resources.get("limits") or {})}
    found = 0
    for name, amount in amounts.items():
        vendor, slash, what = name.partition("/")
        text = str(amount)
        if slash and ("gpu" in what or "gpu" in vendor) and text.isdecimal() and len(text) <= _MOST_DIGITS:
            found += int(text)
    return found


def limits_of(budget: Budget | None) -> Mapping[str, float]:
    """The budget, by what it limits."""
    if budget is None:
        return {}
    told = {GPUS: budget.gpus, COST: budget.cost_per_hour, POWER: budget.power_watts}
    return {name: float(value) for name, value in told.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Claim:
    """What a role asks of the budget: `count` replicas, at least `least`; `spend` says what so many use.

    More replicas never use less.
    """

    role: str
    least: int
    count: int
    spend: Callable[[int], Mapping[str, float]]


def paid_for(claims: Sequence[Claim], limits: Mapping[str, float]) -> Mapping[str, int]:
    """By role, how many of its replicas the budget pays for: in order of roles, and none goes below its least.

    What the leasts of later roles use is put aside first.
    """
    found: dict[str, int] = {}
    spent = {name: sum(one.spend(min(one.least, one.count)).get(name, 0.0) for one in claims) for name in limits}
    for one in claims:
        least = min(one.least, one.count)
        floor = one.spend(least)
        rest = {name: spent[name] - floor.get(name, 0.0) for name in limits}
        count = _most_within(one, rest, limits)
        used = one.spend(count)
        spent = {name: rest[name] + used.get(name, 0.0) for name in limits}
        found[one.role] = count
    return found


def _most_within(claim: Claim, rest: Mapping[str, float], limits: Mapping[str, float]) -> int:
    """The most replicas between what is asked for and the least that fit beside `rest`, by bisection."""
    low, high = min(claim.least, claim.count), claim.count
    while low < high:
        middle = (low + high + 1) // 2
        if fits(claim.spend(middle), rest, limits):
            low = middle
        else:
            high = middle - 1
    return low


def fits(used: Mapping[str, float], rest: Mapping[str, float], limits: Mapping[str, float]) -> bool:
    """Whether what is used, and `rest` besides, is within the limits."""
    return all(rest.get(name, 0.0) + used.get(name, 0.0) <= most * (1 + _ROUNDING) for name, most in limits.items())
