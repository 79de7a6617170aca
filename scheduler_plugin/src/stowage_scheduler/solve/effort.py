"""How long a search and each of its solver calls may take."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from msgspec import Struct
from ortools.sat.python import cp_model

_UNITS_PER_SECOND = 0.6  # of the solver's deterministic time, on a core of its own
_PATIENT = 4


class Aim(IntEnum):
    """What a solver call is for; each has its own parameters, measured in docs/design/engine.md."""

    PROVE = 0  # the solver's defaults
    PLACE = 1  # few nodes, more pods: symmetry detection and probing cost more than the search itself
    CALM = 2  # few nodes, same pods, fewer moves: the linear relaxation says little and costs most of the time
    CHOOSE = 3  # among fillings or over all nodes as one: the linear relaxation says nearly all, presolve costs most


class Effort(Struct, frozen=True):
    """Limits of one solver call; `deterministic` units are CP-SAT's machine-independent time."""

    seconds: float | None = None
    deterministic: float | None = None
    workers: int = 1
    seed: int = 0
    aim: Aim = Aim.PROVE


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

    def units_for(self, work: float) -> float:
        """Seconds or units for so many deterministic units of work."""
        return work if self.units is not None else work / _UNITS_PER_SECOND

    def effort(self, share: float, until: float, seed: int, aim: Aim = Aim.PROVE) -> Effort:
        """Limits for one call: `share` seconds or units, and never beyond `until` that are left."""
        amount = max(0.001, min(share, self.left() - until))
        if self.units is not None:
            return Effort(deterministic=amount, seed=seed, aim=aim)
        if aim is Aim.PROVE:
            return Effort(seconds=amount, seed=seed)
        # work, not time, ends it where other processes take the CPU; the longer time is for the deadline alone
        seconds = max(0.001, min(share * _PATIENT, self.left() - until))
        return Effort(seconds=seconds, deterministic=amount * _UNITS_PER_SECOND, seed=seed, aim=aim)


def apply_effort(solver: cp_model.CpSolver, effort: Effort) -> None:
    """Set the limits of a call; one worker is deterministic when only deterministic time limits it."""
    parameters = solver.parameters
    parameters.num_workers = effort.workers
    parameters.random_seed = effort.seed & 0x7FFFFFFF
    if effort.seconds is not None:
        parameters.max_time_in_seconds = max(0.001, effort.seconds)
    if effort.deterministic is not None:
        parameters.max_deterministic_time = effort.deterministic
    if effort.aim is Aim.CHOOSE:
        parameters.symmetry_level = 0
        parameters.cp_model_presolve = False
        parameters.linearization_level = 2
    elif effort.aim is not Aim.PROVE:
        parameters.symmetry_level = 0
        parameters.cp_model_probing_level = 0
        parameters.max_presolve_iterations = 1
        parameters.linearization_level = 0 if effort.aim is Aim.CALM else 1
