"""One look at a ModelService, and what to do about it: from what is seen to children, drains and status.

Pure: what was seen before is in the status, in labels and annotations of pods and Deployments, and, where losing it
costs nothing but time, in `RoleMemory`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from stowage.api.model_service import ModelService
from stowage.api.model_service_reasons import ServiceReason
from stowage.api.model_service_status import ModelServiceStatus
from stowage.decide.serving.performance import Performance
from stowage.decide.serving.role_memory import RoleMemory
from stowage.decide.serving.service_facts import ChildRef, DeploymentFact, PodFact, PodRef
from stowage.decide.serving.view import View

Document = dict[str, Any]


class Look(Protocol):
    """What the signals of one role say."""

    @property
    def view(self) -> View:
        """The role, with what was scraped of it so far."""

    @property
    def requests(self) -> Mapping[str, int]:
        """By pod: requests that run and wait in its newest sample, where that is fresh; draining pods too."""

    @property
    def problem(self) -> ServiceReason | None:
        """Why they can not be relied on; None: they can."""

    @property
    def message(self) -> str:
        """What is missing, in words."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A service at the instant `now` (seconds since 1970).

    Attributes:
        service: as it is stored, its last status included.
        pods: of the service, those that have ended left out.
        deployments: by name, all that the service owns, those of variants that are gone from the spec included.
        looks: by role; a role without one is decided without signals.
        profiles: by name, those that are there.
        now: the time.
        memories: by role, as the last step gave them; empty at first.
        others: Services and PodDisruptionBudgets that the service owns.
        free_gpus: by node, GPUs that nobody uses; which replica goes depends on it, and nothing else.
        refused: the API server's words where it refused a child the last time; empty: it took all of them.
    """

    service: ModelService
    pods: tuple[PodFact, ...]
    deployments: Mapping[str, DeploymentFact]
    looks: Mapping[str, Look]
    profiles: Mapping[str, Performance]
    now: float
    memories: Mapping[str, RoleMemory] = field(default_factory=dict)
    others: tuple[ChildRef, ...] = ()
    free_gpus: Mapping[str, int] = field(default_factory=dict)
    refused: str = ""


@dataclass(frozen=True, slots=True)
class ServiceStep:
    """What to do, in this order: patch pods (`pod_patches`), apply children, delete what is left over, write the status.

    Attributes:
        status: to be written.
        apply: children, whole. `spec.replicas` of a Deployment is left out where somebody else owns it, so all of them
            may be applied by force.
        drain: pods that get no new requests from now on.
        undrain: pods that get requests again.
        cost: by pod, its deletion cost; 0 takes the annotation away.
        delete: children that the spec no longer asks for, and that nothing needs any more.
        memories: by role, for the next step.
        again_seconds: when to look again at the latest.
    """

    status: ModelServiceStatus
    apply: tuple[Document, ...]
    drain: tuple[PodRef, ...]
    undrain: tuple[PodRef, ...]
    cost: Mapping[PodRef, int]
    delete: tuple[ChildRef, ...]
    memories: Mapping[str, RoleMemory]
    again_seconds: float


@dataclass(frozen=True, slots=True)
class Ask:
    """What signals are asked for with: replicas that the role shall have now, and how long a new one takes."""

    desired: int
    cold_start_seconds: float


def asks(
    service: ModelService,
    pods: tuple[PodFact, ...],
    deployments: Mapping[str, DeploymentFact],
    memories: Mapping[str, RoleMemory],
    now: float,
) -> Mapping[str, Ask]:
    """By role, what `ServingSignals.look` is to be told beside the pods."""
    raise NotImplementedError


def next_step(seen: Seen) -> ServiceStep:
    """What to do about a service as it is."""
    raise NotImplementedError


def pod_patches(step: ServiceStep, now: float) -> Mapping[PodRef, Document]:
    """By pod, one merge patch with its drain, undrain and cost, its UID in it as a precondition."""
    raise NotImplementedError
