"""How many events each job or service may have written: one that fails again and again must not fill the API server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from msgspec import Struct, structs

from stowage.decide.serving.service_announcements import ServiceAnnouncement
from stowage.decide.training.job_announcements import JobAnnouncement

Announced = TypeVar("Announced", JobAnnouncement, ServiceAnnouncement)

BURST: Final = 24
EVERY_SECONDS: Final = 30.0
"""One more after so long, as far as the burst is not full again."""


class _Account(Struct, frozen=True):
    """What one of them has left, and how many events were kept back."""

    left: float
    at: float
    kept_back: int = 0


class EventAllowance:
    """A bucket of tokens for each job or service.

    Args:
        clock: seconds that go forward.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._accounts: dict[str, _Account] = {}

    def allowed(self, key: str, announcements: Sequence[Announced]) -> tuple[Announced, ...]:
        """Those that may be written now, in order; the first after a pause says how many were not."""
        now = self._clock()
        before = self._accounts.get(key, _Account(BURST, now))
        left = min(float(BURST), before.left + max(0.0, now - before.at) / EVERY_SECONDS)
        told: list[Announced] = list(announcements[: int(left)])
        kept_back = before.kept_back
        if told and kept_back:
            told[0] = structs.replace(told[0], note=f"{told[0].note} ({kept_back} events before were not told)")
            kept_back = 0
        kept_back += len(announcements) - len(told)
        if announcements:
            self._accounts[key] = _Account(left - len(told), now, kept_back)
        return tuple(told)

    def forget(self, key: str) -> None:
        """The job or service is gone."""
        self._accounts.pop(key, None)
