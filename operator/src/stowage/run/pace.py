"""How fast somebody may talk to us: a burst at once, then so much a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Pace:
    """A bucket of bytes. Who listens waits where it is empty, so that the other side's sends wait too.

    Args:
        bytes_a_second: what is allowed in the long run.
        burst_bytes: what is allowed at once.
        monotonic: seconds that only go forward; None: the running loop's.
    """

    def __init__(self, bytes_a_second: float, burst_bytes: float, monotonic: Callable[[], float] | None = None) -> None:
        self._rate = bytes_a_second
        self._burst = burst_bytes
        self._left = burst_bytes
        self._monotonic = monotonic
        self._at: float | None = None

    def wait_seconds(self, taken_bytes: float) -> float:
        """Take so many bytes, which have come already; returns how long to listen to nothing more."""
        now = self._monotonic() if self._monotonic is not None else asyncio.get_running_loop().time()
        since = now - self._at if self._at is not None else 0.0
        self._at = now
        self._left = min(self._burst, self._left + max(0.0, since) * self._rate) - taken_bytes
        return max(0.0, -self._left / self._rate)
