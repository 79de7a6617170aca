"""What is remembered of a role between steps: losing it costs time, never a replica that is needed."""

from __future__ import annotations

from dataclasses import dataclass, field

from stowage.decide.serving.memory import Memory


@dataclass(frozen=True, slots=True)
class Start:
    """How long one replica took to start, in seconds, by phase as far as its pod told; it is known by its UID."""

    uid: str
    variant: str
    seconds: float
    phases: tuple[tuple[str, float], ...] = ()
    """Names of `ColdStartPhase` with seconds."""


@dataclass(frozen=True, slots=True)
class RoleMemory:
    """Of one role; `RoleMemory()` knows nothing.

    Attributes:
        decisions: what the decisions remember.
        starts: of replicas, the oldest first.
        idle_since: since when no request has come or run; None: not idle, or not known.
    """

    decisions: Memory = field(default_factory=Memory)
    starts: tuple[Start, ...] = ()
    idle_since: float | None = None
