"""States of containers and health of devices as the API server writes them, with only the fields that Stowage reads."""

from __future__ import annotations

from msgspec import field

from stowage_scheduler.kube.parts import Part, Time


class Waiting(Part, frozen=True):
    """Why a container does not run."""

    reason: str | None = None


class Terminated(Part, frozen=True):
    """How a container ended."""

    exit_code: int
    signal: int | None = None
    reason: str | None = None
    finished_at: Time | None = None


class ContainerState(Part, frozen=True):
    """state and lastState of a container; neither: it runs."""

    waiting: Waiting | None = None
    terminated: Terminated | None = None


class DeviceHealth(Part, frozen=True):
    """One device of a container (KEP-4680)."""

    resource_id: str = field(name="resourceID")
    health: str | None = None


class ResourceHealth(Part, frozen=True):
    """allocatedResourcesStatus[] of a container."""

    name: str
    resources: tuple[DeviceHealth, ...] | None = None
