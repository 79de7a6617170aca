"""Who waits for a replica: counted, bounded, and told at once to whoever follows it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from stowage.api.activator_state import ActivatorState


class Full(Exception):  # noqa: N818 - named after what is
    """As many requests wait as may."""


class Place:
    """Of one request: it waits, then it runs, and it may come to wait again while nothing of it was sent."""

    def __init__(self, room: Room, since: float) -> None:
        self._room = room
        self.since = since
        self.began_at: float | None = None

    @property
    def runs(self) -> bool:
        """Whether a replica works on it."""
        return self.began_at is not None

    def begin(self) -> None:
        """A replica is there for it."""
        self.began_at = self._room.clock()
        self._room.changed()

    def wait(self) -> None:
        """There is none after all."""
        self.began_at = None
        self._room.changed()


class Room:
    """Counts requests.

    Args:
        most: that may wait at the same time.
        clock: seconds that only go forward.
    """

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most = most
        self.clock = clock
        self._places: set[Place] = set()
        self._change = asyncio.Event()
        self._version = 0
        self._ended_at: float | None = None

    @property
    def waiting(self) -> int:
        """Requests that wait for a replica."""
        return sum(not one.runs for one in self._places)

    @property
    def running(self) -> int:
        """Requests that a replica works on, through us."""
        return sum(one.runs for one in self._places)

    @contextlib.contextmanager
    def place(self) -> Iterator[Place]:
        """A place for one request, while the block runs; it waits at first.

        Raises:
            Full: there is none.
        """
        if self.waiting >= self._most:
            raise Full
        place = Place(self, self.clock())
        self._places.add(place)
        self.changed()
        try:
            yield place
        finally:
            self._places.discard(place)
            self._ended_at = self.clock()
            self.changed()

    def changed(self) -> None:
        """Tell who follows."""
        self._version += 1
        self._change.set()
        self._change = asyncio.Event()

    def state(self) -> ActivatorState:
        """How it is now."""
        now = self.clock()
        oldest = min((one.since for one in self._places if not one.runs), default=None)
        idle = 0.0 if self._places else None if self._ended_at is None else now - self._ended_at
        return ActivatorState(
            version=self._version,
            waiting=self.waiting,
            running=self.running,
            oldest_seconds=0.0 if oldest is None else now - oldest,
            idle_seconds=idle,
        )

    async def state_after(self, version: int, longest_seconds: float) -> ActivatorState:
        """How it is once that is another than `version`, or after so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest_seconds):
                while self._version == version:
                    await self._change.wait()
        return self.state()
