"""A ModelService with its pods and Deployments, written by hand for tables of cases about its children."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stowage.api.model_service import ModelService
from stowage.api.model_service_reasons import ServiceReason
from stowage.decide.serving.performance import Performance, line
from stowage.decide.serving.service_facts import DeploymentFact, PodFact, PodRef
from stowage.decide.serving.view import ReplicaView, Scrape, View

NOW = 1_000_000.0
COLD_START_SECONDS = 60.0
PERFORMANCE = Performance(line(0.02, 0.0001), line(0.03, 0.0003), kv_capacity_tokens=400_000, max_running=128)

CONTAINER: dict[str, Any] = {
    "name": "engine",
    "image": "vllm/vllm-openai:v0.11.0",
    "resources": {"limits": {"nvidia.com/gpu": 2}},
}


def variant(name: str = "default", **more: Any) -> dict[str, Any]:
    """A variant with one container and two GPUs."""
    return {"name": name, "template": {"spec": {"containers": [dict(CONTAINER)]}}, **more}


def role(name: str = "unified", *, least: int = 1, most: int = 10, variants: Sequence[Any] = ()) -> dict[str, Any]:
    """A role with bounds; one variant where none is given."""
    return {"name": name, "bounds": {"min": least, "max": most}, "variants": list(variants) or [variant()]}


def service(*roles: Mapping[str, Any], status: Mapping[str, Any] | None = None, **spec: Any) -> ModelService:
    """A service called `llama`; one role where none is given."""
    return ModelService.parse_stored(
        {
            "apiVersion": "stowage.dev/v1alpha1",
            "kind": "ModelService",
            "metadata": {"name": "llama", "namespace": "team", "uid": "service-uid", "generation": 3},
            "spec": {"roles": list(roles) or [role()], **spec},
            "status": dict(status or {}),
        }
    )


def pod(number: int = 0, *, variant: str = "default", role: str = "unified", **facts: Any) -> PodFact:
    """A pod that has been ready for long, unless told otherwise."""
    name = facts.pop("name", f"{role}-{variant}-{number}")
    known: dict[str, Any] = {
        "created_at": NOW - 3600.0,
        "node": f"n{number}",
        "phase": "Running",
        "is_ready": True,
        "scheduled_at": NOW - 3595.0,
        "ready_at": NOW - 3540.0,
        **facts,
    }
    return PodFact(ref=PodRef("team", name, f"uid-{name}"), role=role, variant=variant, **known)


def starting(number: int = 0, **facts: Any) -> PodFact:
    """A pod that has a node and does not answer yet."""
    return pod(
        number, **{"created_at": NOW - 30.0, "is_ready": False, "ready_at": None, "scheduled_at": NOW - 29.0, **facts}
    )


def unplaced(number: int = 0, *, seconds: float, **facts: Any) -> PodFact:
    """A pod for which no node has been found for so long."""
    return starting(
        number,
        **{
            "created_at": NOW - seconds,
            "node": None,
            "phase": "Pending",
            "scheduled_at": None,
            "unschedulable_since": NOW - seconds,
            "unschedulable_message": "0/4 nodes are available: 4 Insufficient nvidia.com/gpu.",
            **facts,
        },
    )


def deployment(replicas: int, *, variant: str = "default", role: str = "unified", **facts: Any) -> DeploymentFact:
    """The Deployment of a variant; its controller has done all it was asked for."""
    name = f"llama-{role}-{variant}"
    return DeploymentFact(name=name, uid=f"uid-{name}", replicas=replicas, **facts)


@dataclass(frozen=True)
class Told:
    """What signals say, by hand."""

    view: View
    requests: Mapping[str, int] = field(default_factory=dict)
    sampled_at: Mapping[str, float] = field(default_factory=dict)
    problem: ServiceReason | None = None
    message: str = ""


def quiet_view(pods: Sequence[PodFact], desired: int, now: float = NOW, seconds: float = 1200.0) -> View:
    """Scrapes every ten seconds of replicas that get no request."""
    replicas = tuple(
        ReplicaView(one.ref.name, one.is_ready, now - one.created_at, 0, 0, 0, 400_000)
        for one in pods
        if not one.is_draining
    )
    ready = sum(one.is_ready for one in replicas)
    scrapes = tuple(
        Scrape(
            at=now - seconds + 10.0 * index,
            ready=ready,
            starting=len(replicas) - ready,
            waiting=0,
            running=0,
            kv_tokens_in_use=0,
            kv_tokens_capacity=400_000 * ready,
            arrived=1000,
            completed=1000,
            prompt_tokens=1_000_000,
            generated_tokens=200_000,
            ttft_counts=(1000,) * 23,
            itl_counts=(200_000,) * 20,
        )
        for index in range(int(seconds // 10) + 1)
    )
    return View(now, desired, replicas, scrapes, COLD_START_SECONDS)
