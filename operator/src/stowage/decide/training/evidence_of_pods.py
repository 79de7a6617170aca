"""Evidence in the status of a job's pods: ends of containers, evictions, images, devices, and pods that are gone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from stowage.api.training_words import Event
from stowage.decide.training.facts import Evidence, JobFacts, SeatFacts
from stowage.decide.training.rules import UNUSABLE_IMAGES
from stowage_scheduler.cluster import Pod
from stowage_scheduler.health import ContainerEnd, PodHealth
from stowage_worker.membership_state import RESTART_CODE

POD: Final = "pod"
IMAGE_PATIENCE_SECONDS: Final = 120.0
"""So long a registry may fail from the pod's binding on; the kubelet tries again by itself."""
DELETED: Final = "Deleted"
"""Name of the disruption where somebody deleted a pod and no condition says who."""

NOT_PULLED: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError"})
"""Why a container waits for an image that may come yet."""
_NEVER_PULLED: Final = UNUSABLE_IMAGES | {"ErrImageNeverPull"}
_GONE_WITH_ITS_NODE: Final = "DeletionByPodGC"
_MADE_WAY: Final = frozenset({"Evicted", "NodeShutdown", "Terminated", "Preempting", "Shutdown"})
"""Reasons in the status of pods that a kubelet ended without a fault of theirs."""


def evidence_of_pods(job: JobFacts, pods: Iterable[Pod], now: float) -> tuple[Evidence, ...]:
    """What the pods of the job's seats say; pods that are no seat's any more are not looked at.

    `pods` are all that the store has: a seat's pod that is missing was deleted. Times are of the kubelets and the API
    server, in whole seconds; `now` is the operator's.
    """
    by_uid = {pod.uid: pod for pod in pods}
    return tuple(
        one
        for seat in job.seats
        if seat.pod_uid is not None and not seat.finished
        for one in _of_seat(job, seat, by_uid.get(seat.pod_uid), now)
    )


def _of_seat(job: JobFacts, seat: SeatFacts, pod: Pod | None, now: float) -> Iterator[Evidence]:
    def evidence(event: Event, at: float, *, epoch: int | None = None, **fields: object) -> Evidence:
        node = pod.node if pod is not None else seat.node
        told: dict[str, object] = {"seat": seat.seat, "node": node, "pod": seat.pod_uid, "epoch": epoch, **fields}
        return Evidence(event, at, POD, **told)  # type: ignore[arg-type]

    if pod is None:
        yield evidence(Event.POD_DELETED, now, epoch=job.epoch, gone=True)
        return
    health = pod.health or PodHealth()
    leaves = _why_it_leaves(pod, health)
    if leaves is not None:
        event, at, name = leaves
        epoch = None if event is Event.NODE_LOST else job.epoch
        yield evidence(event, at, epoch=epoch, name=name, gone=pod.phase == "Failed")
    for end in health.ends:
        if (end.code or end.signal) and end.code != RESTART_CODE and end.at is not None:
            signal, name = end.signal or None, _end_name(end)
            yield evidence(_end_event(end), end.at, code=end.code, signal=signal, name=name, detail=end.message)
    for container, reason in health.waiting:
        since = (pod.bound_at or pod.created_at) + (0.0 if reason in _NEVER_PULLED else IMAGE_PATIENCE_SECONDS)
        if reason in _NEVER_PULLED | NOT_PULLED and now >= since:
            yield evidence(Event.IMAGE_UNAVAILABLE, max(since, job.epoch_at + 1e-3), name=reason, detail=container)
    for device in health.devices:
        yield evidence(Event.DEVICE_UNHEALTHY, pod.bound_at or pod.created_at, name=device)


def _why_it_leaves(pod: Pod, health: PodHealth) -> tuple[Event, float, str] | None:
    if health.disruption:
        event = Event.NODE_LOST if health.disruption == _GONE_WITH_ITS_NODE else Event.DISRUPTION
        return event, health.disrupted_at or pod.created_at, health.disruption
    if pod.terminating:
        return Event.DISRUPTION, health.deleted_at or pod.created_at, DELETED
    if pod.phase == "Failed":
        event = Event.DISRUPTION if health.reason in _MADE_WAY else Event.POD_DELETED
        return event, _last_end(health, pod), health.reason or pod.phase
    return None


def _end_event(end: ContainerEnd) -> Event:
    return Event.OUT_OF_MEMORY if end.reason == "OOMKilled" else Event.CONTAINER_EXITED


def _end_name(end: ContainerEnd) -> str:
    return f"{end.container}:{end.reason}" if end.init else end.reason


def _last_end(health: PodHealth, pod: Pod) -> float:
    return max((end.at for end in health.ends if end.at is not None), default=pod.created_at)
