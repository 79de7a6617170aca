"""Health of nodes and pods: from the object of the API server to the fact.

Messages of containers that ran are left out: they may hold what a program printed, and dumps hold what is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from stowage_scheduler.health import ContainerEnd, NodeCondition, PodHealth
from stowage_scheduler.kube import objects
from stowage_scheduler.kube.metadata import condition, seconds

_SERVICE_LABEL = "stowage.dev/service"
_ASKED_LABELS = frozenset({"stowage.dev/seat", _SERVICE_LABEL})
"""Only pods that have one are asked for their health: all others would be larger facts that change more often."""

_GOOD_WHEN_TRUE = frozenset({"Ready"})
_LONGEST_MESSAGE = 512
_MOST_CONDITIONS = 32
_MOST_CONTAINERS = 16
_MOST_DEVICES = 64


def node_conditions(status: objects.NodeStatus) -> tuple[NodeCondition, ...]:
    """Conditions that say that something is wrong, by type: `Ready` that is not True, and all others that are."""
    wrong = {
        one.type: one for one in status.conditions or () if (one.status == "True") is (one.type not in _GOOD_WHEN_TRUE)
    }
    return tuple(
        NodeCondition(
            one.type,
            one.status,
            one.reason or "",
            (one.message or "")[:_LONGEST_MESSAGE],
            seconds(one.last_transition_time),
        )
        for _, one in sorted(wrong.items())[:_MOST_CONDITIONS]
    )


def pod_health(raw: objects.Pod) -> PodHealth | None:
    """The health of a pod of a job's seat or of a service; None for pods of others, and while nothing is to tell."""
    labels = raw.metadata.labels or {}
    if _ASKED_LABELS.isdisjoint(labels) or raw.status is None:
        return None
    status = raw.status
    own, init = status.container_statuses or (), status.init_container_statuses or ()
    ready = condition(status.conditions, "Ready")
    serves = _SERVICE_LABEL in labels
    disrupted = condition(status.conditions, "DisruptionTarget")
    if disrupted is not None and disrupted.status != "True":
        disrupted = None
    health = PodHealth(
        ends=tuple(sorted((*_ends(init, init=True), *_ends(own, init=False))))[:_MOST_CONTAINERS],
        waiting=tuple(sorted(_waiting((*init, *own))))[:_MOST_CONTAINERS],
        devices=tuple(sorted(set(_unhealthy(own))))[:_MOST_DEVICES],
        disruption=(disrupted.reason or "DisruptionTarget") if disrupted is not None else "",
        disrupted_at=seconds(disrupted.last_transition_time) if disrupted is not None else None,
        reason=status.reason or "",
        deleted_at=_asked_to_go_at(raw.metadata),
        ready_since=_since(ready),
        initialized_at=_since(condition(status.conditions, "Initialized")) if serves and init else None,
        started_at=max(_starts(own), default=None) if serves else None,
    )
    return health if health != PodHealth() else None


def _since(one: objects.Condition | None) -> float | None:
    return seconds(one.last_transition_time) if one is not None and one.status == "True" else None


def _starts(statuses: Iterable[objects.ContainerStatus]) -> Iterator[float]:
    for one in statuses:
        at = seconds(one.state.running.started_at) if one.state is not None and one.state.running is not None else None
        if at is not None:
            yield at


def _asked_to_go_at(metadata: objects.ObjectMeta) -> float | None:
    """The timestamp of a deletion is when its grace period ends."""
    ends = seconds(metadata.deletion_timestamp)
    return None if ends is None else ends - (metadata.deletion_grace_period_seconds or 0)


def _ends(statuses: Iterable[objects.ContainerStatus], *, init: bool) -> Iterator[ContainerEnd]:
    for one in statuses:
        now = one.state.terminated if one.state is not None else None
        before = one.last_state.terminated if one.last_state is not None else None
        ended = now or before
        if ended is not None:
            yield ContainerEnd(
                one.name or "",
                ended.exit_code,
                ended.signal or 0,
                ended.reason or "",
                seconds(ended.finished_at),
                one.restart_count or 0,
                init,
                ended.message or "",
            )


def _waiting(statuses: Iterable[objects.ContainerStatus]) -> Iterator[tuple[str, str]]:
    for one in statuses:
        if one.state is not None and one.state.waiting is not None and one.state.waiting.reason:
            yield one.name or "", one.state.waiting.reason


def _unhealthy(statuses: Iterable[objects.ContainerStatus]) -> Iterator[str]:
    for one in statuses:
        for resource in one.allocated_resources_status or ():
            for device in resource.resources or ():
                if device.health == "Unhealthy":
                    yield f"{resource.name}/{device.resource_id}"
