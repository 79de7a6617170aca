"""What nodes and pods say of their health: read by training jobs and model services, not by packing."""

from __future__ import annotations

from msgspec import Struct


class NodeCondition(Struct, frozen=True, gc=False):
    """A condition of a node that says that something is wrong; `since` is its last transition, not its heartbeat."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    since: float | None = None


class ContainerEnd(Struct, frozen=True, order=True, gc=False):
    """How a container ended last, also if it runs again; `restarts` counts its starts after the first.

    Without `signal` the code may hold one: 128 and the signal's number. `message` is the runtime's, where the container
    did not start.
    """

    container: str
    code: int
    signal: int = 0
    reason: str = ""
    at: float | None = None
    restarts: int = 0
    init: bool = False
    message: str = ""


class PodHealth(Struct, frozen=True, gc=False):
    """What the status of a pod says beside its phase.

    `waiting` are containers with the reason why they do not run; `devices` names of unhealthy devices
    (`allocatedResourcesStatus`, KEP-4680); `disruption` is the reason of the condition `DisruptionTarget`; `reason`
    that of the status, like `Evicted`; `deleted_at` is when somebody asked to delete it. `ready_since` is when it
    became Ready, where it is. Of pods of services only: `initialized_at` is when its init containers had ended,
    `started_at` when the last of its containers that run was started.
    """

    ends: tuple[ContainerEnd, ...] = ()
    waiting: tuple[tuple[str, str], ...] = ()
    devices: tuple[str, ...] = ()
    disruption: str = ""
    disrupted_at: float | None = None
    reason: str = ""
    deleted_at: float | None = None
    ready_since: float | None = None
    initialized_at: float | None = None
    started_at: float | None = None
