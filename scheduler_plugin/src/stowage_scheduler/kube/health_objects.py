"""States of containers and health of devices as the API server writes them, with only the fields that Stowage reads."""

from __future__ import annotations

from typing import Final

from msgspec import field
from msgspec.structs import force_setattr

from stowage_scheduler.kube.parts import Part, Time

NOT_STARTED: Final = frozenset({"StartError", "ContainerCannotRun"})
"""Reasons for which the message is the container runtime's: no program has run that could have written it."""
MOST_MESSAGE: Final = 200


class Waiting(Part, frozen=True):
    """Why a container does not run."""

    reason: str | None = None


class Terminated(Part, frozen=True):
    """How a container ended; its message only where it did not start, on one line, and the end of a longer one."""

    exit_code: int
    signal: int | None = None
    reason: str | None = None
    finished_at: Time | None = None
    message: str | None = None

    def __post_init__(self) -> None:
        """Leave out what a program may have printed, so that nobody who reads it has to."""
        if self.message is not None:
            words = " ".join("".join(one if one.isprintable() else " " for one in self.message[-4096:]).split())
            force_setattr(self, "message", words[-MOST_MESSAGE:] if self.reason in NOT_STARTED else None)


class Running(Part, frozen=True):
    """A container that runs."""

    started_at: Time | None = None


class ContainerState(Part, frozen=True):
    """state and lastState of a container; none of them: nobody has told."""

    running: Running | None = None
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
