"""How long to wait before the next try: exponential, with jitter, never less than the server asked for."""

from __future__ import annotations

import random
from typing import Final

BASE_SECONDS: Final = 0.5
LIMIT_SECONDS: Final = 30.0
SPREAD: Final = 0.1  # of what the server asks for, added by chance: it asks all of its clients for the same


class Backoff:
    """Waiting times for one repeated action.

    The n-th failure in a row waits between half and all of `base * 2^(n-1)` seconds, at most `limit`; the jitter
    keeps many clients from returning in step.

    Args:
        generator: source of the jitter.
        base_seconds: longest wait after the first failure.
        limit_seconds: longest wait at all, unless the server asks for more.
    """

    def __init__(
        self, generator: random.Random, base_seconds: float = BASE_SECONDS, limit_seconds: float = LIMIT_SECONDS
    ) -> None:
        self._generator = generator
        self._base_seconds = base_seconds
        self._limit_seconds = limit_seconds
        self.failures = 0

    def next_seconds(self, retry_after_seconds: float | None = None) -> float:
        """Count one failure and return how long to wait; `retry_after_seconds` is what the server asked for."""
        doublings = min(self.failures, 32)  # beyond this only the limit counts, and powers of two grow without need
        self.failures += 1
        longest = min(self._limit_seconds, self._base_seconds * 2.0**doublings)
        asked = (retry_after_seconds or 0.0) * (1.0 + SPREAD * self._generator.random())
        return max(longest * self._generator.uniform(0.5, 1.0), asked)

    def reset(self) -> None:
        """Forget the failures: the action worked."""
        self.failures = 0
