"""Looks at services written by hand, and short ways to what comes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.serving_children import (
    NOW,
    Told,
    pod,
)
from stowage.api.conditions import Condition
from stowage.api.model_service import ModelService
from stowage.decide.serving.service_facts import DeploymentFact, PodFact
from stowage.decide.serving.service_step import Look, Seen, ServiceStep, next_step
from unit.serving_views import view

ZERO = {"scaleToZero": {"after": "10m"}}
PODS = [pod(number) for number in range(3)]


def stepped(
    of: ModelService,
    pods: Sequence[PodFact] = (),
    deployments: Sequence[DeploymentFact] = (),
    looks: Mapping[str, Look] | None = None,
    **seen: Any,
) -> ServiceStep:
    return next_step(
        Seen(
            of, tuple(pods), {one.name: one for one in deployments}, looks or {}, **{"profiles": {}, "now": NOW, **seen}
        )
    )


def told(
    desired: int, name: str = "unified", reason: str = "Steady", variants: Sequence[tuple[str, int]] = ()
) -> dict[str, Any]:
    """A status of one role."""
    known = [{"name": variant, "desired": count} for variant, count in variants]
    return {"roles": [{"name": name, "desired": desired, "reason": reason, "variants": known}]}


def replicas(step: ServiceStep) -> dict[str, int | None]:
    return {
        one["metadata"]["name"].removeprefix("llama-"): one["spec"].get("replicas")
        for one in step.apply
        if one["kind"] == "Deployment"
    }


def condition(step: ServiceStep, kind: str) -> Condition:
    return next(one for one in step.status.conditions if one.type == kind)


def busy(rate: float, desired: int) -> Told:
    """Signals of `desired` replicas that get so many requests a second."""
    seen = view(rate, ready=desired, begin=NOW - 900.0)
    return Told(replace(seen, desired=desired))
