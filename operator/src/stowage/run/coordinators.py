"""Links to the coordinators of jobs: one TCP connection for each, made again when it ends.

What a coordinator reports is kept, the latest only, and rings the job's key. What it shall do is kept too, and said
again whenever a connection is made: commands are idempotent.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from enum import StrEnum
from typing import Final
from weakref import WeakValueDictionary

import msgspec

from stowage.decide.training.evidence_of_coordinators import LOST_SECONDS
from stowage.decide.training.heard import Heard, heard_of
from stowage.decide.training.sound_reports import plain, sound
from stowage.run.pace import Pace
from stowage_worker.codec import TO_COMMANDER, ToCommander
from stowage_worker.messages import Attach, Begin, End, MessageError, Refused, Report
from stowage_worker.wire import Backoff, Connection, dial

ADDRESSES_AT_ONCE: Final = 32
"""Asked for, of the API server."""
DIALS_AT_ONCE: Final = 16
"""In one namespace: who does not answer has its place for DIAL_SECONDS, and takes it from no other namespace."""
DIAL_SECONDS: Final = 5.0
SILENT_SECONDS: Final = 30.0
"""A coordinator says something every ten seconds at least. One whose process is stopped keeps its connections, for its
kernel answers in its place. So silence for longer ends the link, and only a report makes it anew."""
LONGEST_BACKOFF_SECONDS: Final = 5.0
SETTLED_SECONDS: Final = 5.0
"""A link that was there for so long has worked: earlier failures no longer count."""
PROGRESS_SECONDS: Final = 10.0
"""Reports that tell of progress alone ring no more often …"""
PROGRESS_LOOKS_A_SECOND: Final = 20.0
"""… nor all jobs together: each look costs a read, a write and some milliseconds."""

BYTES_A_SECOND: Final = 512.0 * 1024
"""Of one coordinator: one of 1,000 seats tells 200 KiB a second. A coordinator is its user's, and reading costs."""
BURST_BYTES: Final = 8.0 * 1024 * 1024
LEAST_BYTES: Final = 4096
"""What any message counts for at least."""
RINGS_A_SECOND: Final = 5.0
"""Looks at one job for its coordinator's news, which may have any number of them."""
RINGS_AT_ONCE: Final = 20.0
MOST_RING_SECONDS: Final = 1.0

Address = Callable[[], Awaitable[tuple[str, int]]]
"""Finds out where the coordinator is now: host and port. Raises OSError when it is nowhere."""
Ring = Callable[[str, float], None]
"""Told the key of a job and after how many seconds to look at it."""


class Links(StrEnum):
    """How a link to a coordinator is."""

    CONNECTED = "connected"
    CONNECTING = "connecting"  # never heard yet: its pod has no address, or has had one for moments only
    LOST = "lost"


logger = logging.getLogger(__name__)


class Target(msgspec.Struct, frozen=True):
    """Whose coordinator is followed, and how it knows us."""

    key: str
    uid: str
    token: str
    leader_epoch: int


class Coordinators:
    """All links of this process.

    Args:
        ring: called when something of a job has to be looked at.
        generator: source of the jitter.
        clock: seconds since 1970.
    """

    def __init__(self, ring: Ring, generator: random.Random, clock: Callable[[], float]) -> None:
        self._reconnects = 0  # of links that have ended
        self._ring = ring
        self._generator = generator
        self._clock = clock
        self._links: dict[str, _Link] = {}
        self._addresses = asyncio.Semaphore(ADDRESSES_AT_ONCE)
        self._dials: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()  # by namespace

    def follow(self, target: Target, address: Address) -> None:
        """Keep a link to a job's coordinator; asked again it changes nothing."""
        link = self._links.get(target.key)
        if link is not None and link.target == target:
            return
        self.drop(target.key)
        places = _Places(self._addresses, self._dials_of(target.key.partition("/")[0]))
        self._links[target.key] = _Link(
            target, address, places, self._ring, self._generator, self._clock, self.progress_seconds
        )

    def report(self, key: str, uid: str) -> Report | None:
        """The latest report of a job."""
        link = self._links.get(key)
        return link.report if link is not None and link.target.uid == uid else None

    def heard(self, key: str) -> tuple[Heard, ...]:
        """When the evidence of the latest report was first heard."""
        link = self._links.get(key)
        return link.heard if link is not None else ()

    def counts(self) -> Counter[Links]:
        """Links by how they are."""
        return Counter(link.state for link in self._links.values())

    def reconnects(self) -> int:
        """How often a link was made again, since the process began."""
        return self._reconnects + sum(link.reconnects for link in self._links.values())

    def since(self, key: str) -> float:
        """Since when the coordinator is heard, or is not; seconds since 1970."""
        link = self._links.get(key)
        return link.since if link is not None else self._clock()

    def connected(self, key: str) -> bool:
        """Whether its coordinator is heard now."""
        link = self._links.get(key)
        return link is not None and link.connected

    def command(self, key: str, command: Begin | End | None) -> None:
        """What the coordinator shall do from now on; said at once where there is a connection."""
        link = self._links.get(key)
        if link is not None:
            link.command(command)

    def drop(self, key: str) -> None:
        """End a link; what was reported is forgotten."""
        link = self._links.pop(key, None)
        if link is not None:
            self._reconnects += link.reconnects
            link.end()

    def progress_seconds(self) -> float:
        """How often a job is looked at for its progress alone: the more jobs there are, the less."""
        return max(PROGRESS_SECONDS, len(self._links) / PROGRESS_LOOKS_A_SECOND)

    def _dials_of(self, namespace: str) -> asyncio.Semaphore:
        """The places of a namespace, as long as it has a link."""
        found = self._dials.get(namespace)
        if found is None:
            self._dials[namespace] = found = asyncio.Semaphore(DIALS_AT_ONCE)
        return found

    def drop_all(self) -> None:
        """End all links: somebody else leads now."""
        for key in tuple(self._links):
            self.drop(key)

    def __len__(self) -> int:
        return len(self._links)


class _Places(msgspec.Struct, frozen=True):
    """Where links wait for their turn."""

    addresses: asyncio.Semaphore
    dials: asyncio.Semaphore


class _Link:
    """One coordinator."""

    def __init__(
        self,
        target: Target,
        address: Address,
        places: _Places,
        ring: Ring,
        generator: random.Random,
        clock: Callable[[], float],
        progress_seconds: Callable[[], float],
    ) -> None:
        self.target = target
        self.report: Report | None = None
        self.heard: tuple[Heard, ...] = ()
        self.connected = False
        self.reconnects = 0
        self.since = clock()
        self._addressed_at: float | None = None  # since when its pod has an address at which nobody is heard
        self._clock = clock
        self._progress_seconds = progress_seconds
        self._matter: tuple[object, ...] = ()  # of the latest report
        self._address = address
        self._places = places
        self._ring = ring
        self._backoff = Backoff(generator, most_seconds=LONGEST_BACKOFF_SECONDS)
        self._command: Begin | End | None = None
        self._connection: Connection | None = None
        self._pace = Pace(BYTES_A_SECOND, BURST_BYTES)
        self._rings = Pace(RINGS_A_SECOND, RINGS_AT_ONCE)
        self._last_words = ""
        self._task = asyncio.create_task(self._run(), name=f"link to the coordinator of {target.key}")

    @property
    def state(self) -> Links:
        if self.connected:
            return Links.CONNECTED
        tried_seconds = self._clock() - self._addressed_at if self._addressed_at is not None else 0.0
        return Links.LOST if self.report is not None or tried_seconds >= LOST_SECONDS else Links.CONNECTING

    def command(self, command: Begin | End | None) -> None:
        if command == self._command:
            return
        self._command = command
        if command is not None and self._connection is not None:
            self._connection.send(command)

    def end(self) -> None:
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            words = "the connection ended"
            try:
                await self._converse()
            except (OSError, MessageError) as error:
                words = str(error)
            finally:
                was_connected = self.connected
                self.connected = False
                if self._connection is not None:
                    self._connection.abort()
                    self._connection = None
            if words != self._last_words:
                logger.info("coordinator of %s: %s", self.target.key, words)
                self._last_words = words
            if was_connected:
                if self._clock() - self.since >= SETTLED_SECONDS:
                    self._backoff.reset()
                self.since = self._clock()
                self._ring(self.target.key, self._news_seconds())
            await asyncio.sleep(self._backoff.next_seconds())

    async def _converse(self) -> None:
        async with self._places.dials:
            async with self._places.addresses:
                host, port = await self._found()
            self._connection = connection = await dial(host, port, DIAL_SECONDS)
        connection.send(Attach(self.target.token, self.target.leader_epoch))
        if self._command is not None:
            connection.send(self._command)
        while (message := await _next(connection)) is not None:
            if isinstance(message, Refused):
                raise MessageError(f"refused: {plain(message.reason, 200)}")
            self._heard(sound(message, self._clock()))
            wait_seconds = self._pace.wait_seconds(max(connection.line_bytes, LEAST_BYTES))
            if wait_seconds > 0:
                await asyncio.sleep(wait_seconds)

    async def _found(self) -> tuple[str, int]:
        """Where it is now, from which on it should be heard."""
        try:
            found = await self._address()
        except OSError:
            self._addressed_at = None
            raise
        if self._addressed_at is None:
            self._addressed_at = self._clock()
        return found

    def _heard(self, report: Report) -> None:
        matter = _matters(report)
        fresh = not self.connected or matter != self._matter
        moved = self.report is None or _shown(report) != _shown(self.report)
        of_epoch = self.heard if self.report is not None and self.report.epoch == report.epoch else ()
        if self.report is None or (of_epoch, report.evidence) != (self.heard, self.report.evidence):
            self.heard = heard_of(report, of_epoch, self._clock())
        if self.report is not None and not self.connected:
            self.reconnects += 1
        if not self.connected:
            self.since = self._clock()
        self.report, self._matter = report, matter
        self.connected = True
        self._last_words = ""
        if fresh or moved:
            self._ring(self.target.key, self._news_seconds() if fresh else self._progress_seconds())

    def _news_seconds(self) -> float:
        """Until the job is looked at for news: at once, unless there is no end of them."""
        return min(MOST_RING_SECONDS, self._rings.wait_seconds(1.0))


async def _next(connection: Connection) -> ToCommander | None:
    """The next message; None: the connection ended.

    Raises:
        TimeoutError: nothing was said for too long.
        MessageError: what was said is no message.
    """
    try:
        async with asyncio.timeout(SILENT_SECONDS):
            return await connection.receive(TO_COMMANDER)
    except TimeoutError:
        raise TimeoutError(f"nothing was heard for {SILENT_SECONDS:g} s") from None


def _matters(report: Report) -> tuple[object, ...]:
    """What of a report has to be looked at right away."""
    seats = tuple((seat.seat, seat.pod, seat.connected, seat.state) for seat in report.seats)
    stepped = report.first_step_at is not None
    return (report.epoch, report.phase, report.evidence, seats, report.progress.checkpoint_step, stepped)


def _shown(report: Report) -> tuple[object, ...]:
    """What else of a report the status shows; time that passes without a step is not of it."""
    return (replace(report.progress, since_step_seconds=0.0), report.stragglers)
