"""The time of day that an API server has, from the `Date` of its answers (RFC 9110 §6.6.1).

Times in objects are the server's, and what one process writes others compare: a machine whose own clock is wrong would
take live leases for dead ones, and young pods for old ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Final

COARSE_SECONDS: Final = 1.5  # a Date is cut to whole seconds, and the answer is a while on its way


class ServerClock:
    """Goes on from the newest answer by a stopwatch.

    Args:
        stopwatch: monotonic seconds.
    """

    def __init__(self, stopwatch: Callable[[], float] = time.monotonic) -> None:  # noqa: TID251 - intervals only
        self._stopwatch = stopwatch
        self._ahead: float | None = None  # of the stopwatch, in seconds
        self._heard = ""

    def hear(self, date: str | None) -> None:
        """Take note of the `Date` of an answer that has just come; what is none is passed over."""
        if not date or date == self._heard:
            return
        self._heard = date
        try:
            told = parsedate_to_datetime(date).timestamp()
        except (ValueError, OverflowError):
            return
        ahead = told - self._stopwatch()
        # each answer says "at least so late"; only a clock that was set back says much less than before
        if self._ahead is None or not self._ahead - COARSE_SECONDS <= ahead <= self._ahead:
            self._ahead = ahead

    def now(self) -> float | None:
        """Seconds since the epoch, at most a second or so behind; None before any answer."""
        return None if self._ahead is None else self._stopwatch() + self._ahead

    def otherwise(self, own: Callable[[], float]) -> Callable[[], float]:
        """A clock that shows the server's time, and that of `own` while no answer has told it."""

        def time_of_day() -> float:
            heard = self.now()
            return own() if heard is None else heard

        return time_of_day
