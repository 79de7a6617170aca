"""Bounds of a ModelService that cannot hold together: stock, ratio and budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import ceil, floor

from stowage.admission.verdict import Problem
from stowage.api.model_service import ModelService, ModelServiceSpec
from stowage.api.model_service_role import DECODE, PREFILL, Role, Variant

_ROUNDING = 1e-9


def stock_too_small(service: ModelService) -> Iterator[Problem]:
    """A role whose variants together may have fewer replicas than it must have."""
    for number, role in enumerate(service.spec.roles):
        stock = _stock(role)
        if stock < role.bounds.min:
            rule = (
                f"the variants of the role may have {stock} replicas together (spec.roles[{number}].variants[].max); "
                "lower it, or raise those"
            )
            yield Problem(f"spec.roles[{number}].bounds.min", str(role.bounds.min), rule)


def ratio_cannot_hold(service: ModelService) -> Iterator[Problem]:
    """A ratio that no numbers of replicas within the bounds of both roles keep."""
    ratio, prefill, decode = service.spec.ratio, service.spec.role(PREFILL), service.spec.role(DECODE)
    if ratio is None or prefill is None or decode is None:
        return
    for count in range(prefill.bounds.min, prefill.bounds.max + 1):
        least = max(decode.bounds.min, ceil(count * ratio.least - _ROUNDING))
        most = min(decode.bounds.max, floor(count * ratio.most + _ROUNDING))
        if least <= most:
            return
    rule = (
        f"no {prefill.bounds.min} to {prefill.bounds.max} replicas of prefill and {decode.bounds.min} to "
        f"{decode.bounds.max} of decode keep it; change the bounds, or raise tolerance"
    )
    yield Problem("spec.ratio", f"{ratio.prefill}:{ratio.decode} ± {ratio.tolerance}", rule)


def budget_too_small(service: ModelService) -> Iterator[Problem]:
    """A budget that does not pay for the fewest replicas of all roles, even of the cheapest variants."""
    for name, limit, of in _limits(service.spec):
        least = _least(service.spec, of)
        if least > float(limit) + _ROUNDING:
            rule = f"bounds.min of all roles needs {least:g} with the cheapest variants; raise it, or lower those"
            yield Problem(f"spec.scaling.budget.{name}", limit, rule)


def number_beyond_budget(service: ModelService) -> Iterator[str]:
    """A number by hand that the budget does not pay for, even of the cheapest variants: fewer are asked for."""
    spec = service.spec
    for name, limit, of in _limits(spec):
        needs = _least(spec, of, spec.replicas)
        if spec.replicas is not None and needs > max(float(limit), _least(spec, of)) + _ROUNDING:
            yield (
                f"spec.replicas = {spec.replicas} needs {needs:g} with the cheapest variants and bounds.min of other "
                f"roles, and spec.scaling.budget.{name} = {limit}: fewer replicas are asked for"
            )


def _limits(spec: ModelServiceSpec) -> Iterator[tuple[str, str, Callable[[Variant], float | None]]]:
    """What the budget limits: its field, the limit, and how much of it a replica needs."""
    budget = spec.scaling.budget
    if budget is None:
        return
    if budget.cost_per_hour is not None:
        yield "costPerHour", str(budget.cost_per_hour), _price
    if budget.power_watts is not None:
        yield "powerWatts", str(budget.power_watts), lambda one: one.power_watts
    if budget.gpus is not None:
        yield "gpus", str(budget.gpus), lambda one: one.gpus


def _stock(role: Role) -> int:
    return sum(role.bounds.max if one.max is None else one.max for one in role.variants)


def _price(variant: Variant) -> float | None:
    return None if variant.cost_per_hour is None else float(variant.cost_per_hour)


def _least(spec: ModelServiceSpec, of: Callable[[Variant], float | None], by_hand: int | None = None) -> float:
    """What the fewest replicas of all roles need at least; a variant that does not tell may need nothing.

    `by_hand` are those of the first role, instead of its fewest.
    """
    total = 0.0
    for number, role in enumerate(spec.roles):
        missing = role.bounds.min if number or by_hand is None else by_hand
        for amount, stock in sorted((of(one) or 0.0, one.max or role.bounds.max) for one in role.variants):
            taken = min(missing, stock)
            total, missing = total + taken * amount, missing - taken
    return total
