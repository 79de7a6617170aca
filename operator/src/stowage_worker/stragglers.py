"""Which ranks are slower than the others, from the steps that they tell: evidence, and no reason to act.

In training that is in step, all ranks take equally long for a step: who is fast waits. A rank's own time, the step
without the wait, tells them apart.
"""

from __future__ import annotations

from array import array
from statistics import median

from stowage_worker.messages import RankProgress, Straggling

SAMPLES = 32
LEAST_SAMPLES = 8
LEAST_RANKS = 3
RATIO = 1.1
SHOWN = 16
MAX_RANKS = 1 << 16
MAX_SECONDS = 1e6
"""Longer steps are nobody's; sums of them would not be numbers."""
STEPPING = ("", "Training")


class StepTimes:
    """Step and wait times of the last steps of each rank in one epoch."""

    def __init__(self) -> None:
        self._of_rank: dict[int, _RankTimes] = {}

    def told(self, seat: str, progress: tuple[RankProgress, ...]) -> None:
        """Take what a beat tells; a step told before counts once, and one with a checkpoint in it not at all."""
        for one in progress:
            if one.step_seconds is None or not 0 <= one.step_seconds <= MAX_SECONDS or one.phase not in STEPPING:
                continue
            times = self._of_rank.get(one.rank)
            if times is None:
                if len(self._of_rank) >= MAX_RANKS:
                    continue
                times = self._of_rank[one.rank] = _RankTimes(seat)
            if one.step != times.step:
                times.take(one.step, one.step_seconds, _within(one.wait_seconds, one.step_seconds))

    def straggling(self) -> tuple[Straggling, ...]:
        """Ranks whose median own time is above that of all ranks by a tenth and more, slowest first."""
        known = [
            (rank, times, median(times.steps), median(times.waits))
            for rank, times in self._of_rank.items()
            if len(times.steps) >= LEAST_SAMPLES
        ]
        if len(known) < LEAST_RANKS:
            return ()
        usual = median(max(step - wait, 0.0) for _, _, step, wait in known)
        if usual <= 0:
            return ()
        slow = [
            Straggling(rank, times.seat, step, wait, (step - wait) / usual)
            for rank, times, step, wait in known
            if step - wait >= RATIO * usual
        ]
        return tuple(sorted(slow, key=lambda one: (-one.ratio, one.rank))[:SHOWN])


def _within(wait_seconds: float | None, step_seconds: float) -> float:
    """A wait is part of its step, whatever a program tells."""
    return min(wait_seconds, step_seconds) if wait_seconds is not None and wait_seconds > 0 else 0.0


class _RankTimes:
    """The last times of one rank, oldest first, in 4 bytes each: a job may have thousands of ranks."""

    def __init__(self, seat: str) -> None:
        self.seat = seat
        self.step = -1
        self.steps = array("f")
        self.waits = array("f")

    def take(self, step: int, step_seconds: float, wait_seconds: float) -> None:
        self.step = step
        self.steps.append(step_seconds)
        self.waits.append(wait_seconds)
        if len(self.steps) > SAMPLES:
            del self.steps[0], self.waits[0]
