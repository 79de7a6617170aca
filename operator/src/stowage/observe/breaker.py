"""A circuit breaker: who has failed again and again rests, longer and longer, and then one tries for all."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from stowage.transport.backoff import Backoff

FAILURES_TO_REST: Final = 3
"""In a row: one slow query among others shall not silence them."""
FIRST_REST_SECONDS: Final = 5.0
LONGEST_REST_SECONDS: Final = 60.0
LONGEST_ASKED_REST_SECONDS: Final = 600.0


class Breaker:
    """Of a server, or of one who asks it.

    Args:
        monotonic: seconds that only go forward.
        generator: source of the jitter.
        least_askers: so many have to be among those that failed in a row: what one alone cannot get answered may be
            its own fault.
    """

    def __init__(self, monotonic: Callable[[], float], generator: random.Random, *, least_askers: int = 1) -> None:
        self._monotonic = monotonic
        self._backoff = Backoff(generator, FIRST_REST_SECONDS, LONGEST_REST_SECONDS)
        self._least_askers = least_askers
        self._askers: set[str] = set()
        self._rests_until: float | None = None
        self._trying = False
        self.failures = 0
        """In a row."""

    @property
    def rests(self) -> bool:
        """Whether nobody may ask now: it rests, or somebody tries whether it has to go on resting."""
        return self._rests_until is not None and (self._trying or self._monotonic() < self._rests_until)

    def begin(self) -> bool:
        """Somebody asks; whether that is the trial after a rest. `end` has to follow."""
        is_trial = self._rests_until is not None
        self._trying = self._trying or is_trial
        return is_trial

    def end(self, *, is_trial: bool) -> None:
        """Who began has an answer, or none."""
        if is_trial:
            self._trying = False

    def succeeded(self) -> None:
        """There was an answer."""
        self.failures, self._rests_until = 0, None
        self._askers.clear()
        self._backoff.reset()

    def failed(self, asker: str, asked_seconds: float | None, *, is_everybodys: bool) -> float | None:
        """There was none; how long it rests where it begins to do so, else None.

        Args:
            asker: who asked.
            asked_seconds: how long the server asked to wait.
            is_everybodys: whoever else asked would have got no answer either.
        """
        self.failures += 1
        if len(self._askers) < self._least_askers:
            self._askers.add(asker)
        if self.failures < FAILURES_TO_REST or not (is_everybodys or len(self._askers) >= self._least_askers):
            return None
        rests_already = self._rests_until is not None
        seconds = self._backoff.next_seconds(min(asked_seconds or 0.0, LONGEST_ASKED_REST_SECONDS))
        self._rests_until = self._monotonic() + seconds
        return None if rests_already else seconds
