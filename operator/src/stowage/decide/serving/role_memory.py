"""What is remembered of a role between steps: losing it costs time, never a replica that is needed."""

from __future__ import annotations

from dataclasses import dataclass

from stowage.decide.serving.memory import Memory, Wanted


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
        more_wanted: how many were asked for lately, where a rise has to wait.
        raised: when replicas were added in the last minute, one entry for each.
    """

    decisions: Memory = Memory()
    starts: tuple[Start, ...] = ()
    idle_since: float | None = None
    more_wanted: tuple[Wanted, ...] = ()
    raised: tuple[float, ...] = ()
