"""Decisions about all roles of a service, held to what its budget pays for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from stowage.api.model_service import ModelServiceSpec
from stowage.api.model_service_reasons import ScalingReason
from stowage.decide.serving.decision import Decision, inputs
from stowage.decide.serving.spend import Claim, limits_of, paid_for


def within_budget(
    spec: ModelServiceSpec,
    decisions: Mapping[str, Decision],
    spends: Mapping[str, Callable[[int], Mapping[str, float]]],
) -> dict[str, Decision]:
    """The decisions, less where the budget does not pay for them.

    A number by hand is held too. Where all else is paused, what stays as it is is put aside first.

    Args:
        spec: of the service.
        decisions: by role, in the spec's order.
        spends: by role, what so many replicas use.
    """
    limits = limits_of(spec.scaling.budget)
    is_paused = spec.scaling.paused
    if not limits or (is_paused and spec.replicas is None):
        return dict(decisions)
    claims = []
    for number, role in enumerate(spec.roles):
        count = decisions[role.name].to_replicas
        least = count if is_paused and number else role.bounds.min
        claims.append(Claim(role.name, least, count, spends[role.name]))
    paid = paid_for(claims, limits)
    return {
        name: decision
        if paid[name] == decision.to_replicas
        else held(decision, paid[name], ScalingReason.BUDGET_REACHED)
        for name, decision in decisions.items()
    }


def held(decision: Decision, count: int, reason: ScalingReason) -> Decision:
    """The decision with fewer replicas, the reason for that, and the number that was decided."""
    known = inputs({**dict(decision.inputs), "replicas_decided": float(decision.to_replicas)})
    return replace(decision, to_replicas=count, reason=reason, inputs=known)
