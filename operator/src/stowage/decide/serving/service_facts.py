"""What deciding about a ModelService's children is told of pods and Deployments: frozen values, times since 1970."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from stowage.api.names import (
    GROUP,
    ROLE_LABEL,
    SPARE_LABEL,
    TAKES_REQUESTS_LABEL,
    VARIANT_LABEL,
)
from stowage_scheduler.cluster import Pod
from stowage_scheduler.kube.gpu_facts import whole_devices

DRAINING_SINCE_ANNOTATION: Final = f"{GROUP}/draining-since"
"""Of a pod: when its label became `"false"`, as RFC 3339."""
LEAVING_COST_ANNOTATION: Final = f"{GROUP}/leaving-cost"
"""Of a pod: the deletion cost that was written together with it. Snapshots keep annotations of Stowage's own alone."""
OUT_OF_STOCK_UNTIL_ANNOTATION: Final = f"{GROUP}/out-of-stock-until"
"""Of a Deployment: no room was found for its pods, and until then no more are asked for."""

TROUBLES: Final = frozenset(
    {
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImageInspectError",
        "ImagePullBackOff",
        "InvalidImageName",
        "RunContainerError",
    }
)
"""Reasons for which a container waits that no waiting mends."""


@dataclass(frozen=True, slots=True, order=True)
class PodRef:
    """Exactly one pod."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class PodFact:
    """One pod of a service.

    Attributes:
        ref: which one.
        role: by its label.
        variant: by its label.
        created_at: when it was asked for.
        node: where it stands; None: nowhere yet.
        phase: as Kubernetes has it.
        is_ready: whether it answers.
        is_terminating: it has been deleted, and is not gone.
        takes_requests: by its label.
        is_spare: by its label: it is kept warm, and takes none.
        draining_since: when the label was taken away; None: it was not.
        scheduled_at: when it got its node.
        initialized_at: when its init containers had ended; None: it has none, or nobody tells.
        started_at: when its engine's container ran; None: nobody tells.
        ready_at: when it became ready, where it is.
        unschedulable_since: when kube-scheduler last began to find no node for it.
        unschedulable_message: kube-scheduler's words.
        trouble: why a container of it waits, of `TROUBLES`; empty: none does.
        restarts: of its containers, as far as they are told.
        deletion_cost: that Stowage gave it; None: none.
        gpus: whole ones that its containers ask for.
        template: hash of the template that it was made from; empty: nobody tells.
        ordinal: of a replica that has several pods, its number: then this is the whole replica, named after its first
            pod, and without a UID where that is not there; None: the pod is a replica.
        is_outdated: it was made from a template that is no longer that of the variant, or stands on a node that is
            being emptied; told of groups alone.
    """

    ref: PodRef
    role: str
    variant: str
    created_at: float
    node: str | None = None
    phase: str = "Pending"
    is_ready: bool = False
    is_terminating: bool = False
    takes_requests: bool = True
    is_spare: bool = False
    draining_since: float | None = None
    scheduled_at: float | None = None
    initialized_at: float | None = None
    started_at: float | None = None
    ready_at: float | None = None
    unschedulable_since: float | None = None
    unschedulable_message: str = ""
    trouble: str = ""
    restarts: int = 0
    deletion_cost: int | None = None
    gpus: int = 0
    template: str = ""
    ordinal: int | None = None
    is_outdated: bool = False

    @property
    def is_draining(self) -> bool:
        """Whether it leaves: new requests go elsewhere."""
        return not self.takes_requests and not self.is_spare


@dataclass(frozen=True, slots=True)
class DeploymentFact:
    """One Deployment that the service owns.

    Attributes:
        name: of the Deployment.
        uid: of it.
        replicas: `spec.replicas`.
        ready_replicas: `status.readyReplicas`.
        is_settled: its controller has seen its newest template, and all pods have it: `status.observedGeneration` is
            `metadata.generation`, and `status.updatedReplicas` is `status.replicas`.
        replicas_manager: who else owns `spec.replicas` by `managedFields`, where Stowage does not; empty: nobody.
        failure: the message of its condition ReplicaFailure where that is True; empty: pods can be made.
        is_stalled: its condition Progressing is False: the roll-out does not come to an end.
        annotations: of the Deployment, those of Stowage at least.
    """

    name: str
    uid: str
    replicas: int
    ready_replicas: int = 0
    is_settled: bool = True
    replicas_manager: str = ""
    failure: str = ""
    is_stalled: bool = False
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, order=True)
class ChildRef:
    """An object that the service owns: `Deployment`, `Service` or `PodDisruptionBudget`."""

    kind: str
    name: str
    uid: str


def pod_fact(pod: Pod) -> PodFact | None:
    """A pod of a snapshot, whose labels, annotations and health are those of a service; None: it has ended."""
    return None if pod.finished else fact_of(pod)


def fact_of(pod: Pod) -> PodFact:
    """The same of a pod that may have ended too."""
    health = pod.health
    waits = health.waiting if health is not None else ()
    ends = health.ends if health is not None else ()
    takes_requests = pod.labels.get(TAKES_REQUESTS_LABEL, "true") != "false"
    return PodFact(
        ref=PodRef(pod.namespace, pod.name, pod.uid),
        role=pod.labels.get(ROLE_LABEL, ""),
        variant=pod.labels.get(VARIANT_LABEL, ""),
        created_at=pod.created_at,
        node=pod.node,
        phase=pod.phase,
        is_ready=pod.ready,
        is_terminating=pod.terminating,
        takes_requests=takes_requests,
        is_spare=not takes_requests and pod.labels.get(SPARE_LABEL) == "true",
        draining_since=seconds_of(pod.annotations.get(DRAINING_SINCE_ANNOTATION)),
        scheduled_at=pod.bound_at,
        initialized_at=health.initialized_at if health is not None else None,
        started_at=health.started_at if health is not None else None,
        ready_at=health.ready_since if health is not None else None,
        unschedulable_since=pod.unschedulable_since,
        unschedulable_message=pod.unschedulable_message,
        trouble=next((reason for _, reason in waits if reason in TROUBLES), ""),
        restarts=sum(one.restarts for one in ends),
        deletion_cost=_whole(pod.annotations.get(LEAVING_COST_ANNOTATION)),
        gpus=whole_devices(pod.gpu_share, pod.requests),
        template=pod.template_hash,
    )


def written(seconds: float) -> str:
    """A time as annotations hold it, in whole seconds."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def seconds_of(text: str | None) -> float | None:
    """A time from an annotation; None where there is none, or what stands there is no time that `written` can write."""
    try:
        return None if text is None else datetime.fromisoformat(text).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        return None


def _whole(text: str | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:  # of thousands of digits too
        return None
