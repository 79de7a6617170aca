"""How long a search and each of its solver calls may take."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct
from ortools.sat.python import cp_model


class Effort(Struct, frozen=True):
    """Limits of one solver call; `deterministic` units are CP-SAT's machine-independent time."""

    seconds: float | None = None
    deterministic: float | None = None
    workers: int = 1
    seed: int = 0


class Clockwork(Struct):
    """What limits a search: a wall deadline, or deterministic units to spend."""

    clock: Callable[[], float]
    deadline: float
    units: float | None = None
    spent: float = 0.0

    def left(self) -> float:
        """Seconds or units that are left."""
        if self.units is not None:
            return self.units - self.spent
        return self.deadline - self.clock()

    def effort(self, share: float, until: float, seed: int) -> Effort:
        """Limits for one neighbourhood: `share` seconds or units, and never beyond `until` that are left."""
        amount = max(0.001, min(share, self.left() - until))
        if self.units is not None:
            return Effort(deterministic=amount, seed=seed)
        return Effort(seconds=amount, seed=seed)


def apply_effort(solver: cp_model.CpSolver, effort: Effort) -> None:
    """Set the limits of a call; one worker is deterministic when only deterministic time limits it."""
    parameters = solver.parameters
    parameters.num_workers = effort.workers
    parameters.random_seed = effort.seed & 0x7FFFFFFF
    if effort.seconds is not None:
        parameters.max_time_in_seconds = max(0.001, effort.seconds)
    if effort.deterministic is not None:
        parameters.max_deterministic_time = effort.deterministic
