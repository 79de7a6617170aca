"""Clocks of the processes: what an administrator does to the wall clock must not tear intervals.

Plans carry times of day, so the code compares times of day: with those of a plan's status, of pods and of conditions.
A wall clock that is set by an hour would end plans before their time, or make them wait an hour too long. The steady
clock shows the time of day too, but moves like a stopwatch: after the wall clock was set it comes nearer slowly.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

FASTEST: Final = 0.02  # intervals are wrong by this part at most, while the steady clock comes nearer
STEP_SECONDS: Final = 0.5  # differences up to this are followed at once: no interval that counts is so short


def since_boot() -> float:
    """Monotonic seconds that also pass while the machine sleeps: another may have become leader meanwhile."""
    try:
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    except (AttributeError, OSError):  # not Linux
        return time.monotonic()  # noqa: TID251 - the edge of the process


class SteadyClock:
    """Time of day without jumps.

    Args:
        wall: time of day, seconds since the epoch; may jump.
        stopwatch: monotonic seconds.
    """

    def __init__(self, wall: Callable[[], float], stopwatch: Callable[[], float]) -> None:
        self._wall = wall
        self._stopwatch = stopwatch
        self._at = stopwatch()
        self._now = wall()

    def __call__(self) -> float:
        """Seconds since the epoch; never less than before."""
        at = self._stopwatch()
        passed, self._at = max(0.0, at - self._at), at
        self._now += passed
        behind = self._wall() - self._now
        most = passed * FASTEST
        if 0.0 <= behind <= STEP_SECONDS:
            self._now += behind
        else:
            self._now += max(-most, min(most, behind))
        return self._now

    def offset_seconds(self) -> float:
        """How far the wall clock is ahead of this one."""
        return self._wall() - self()
