"""Supervisors that run nothing: they say over real sockets what supervisors say."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any

from stowage_worker.codec import TO_COMMANDER, TO_SUPERVISOR, ToSupervisor
from stowage_worker.messages import (
    Attach,
    Beat,
    Go,
    Hello,
    Prepare,
    Prepared,
    RankProgress,
    Refused,
    Report,
    Started,
    Stop,
    Yield,
    Yielded,
)
from stowage_worker.wire import Connection, dial

LOOPBACK = "127.0.0.1"
TOKEN = "the job's token"  # noqa: S105  of tests


@dataclass
class FakeSupervisor:
    """One seat; `epoch` is what it runs, `heard` all that it was told."""

    seat: str
    pod: str = ""
    processes: int = 1
    beat_seconds: float = 0.2
    epoch: int = 0
    instance: str = "first"
    is_answering: bool = True
    heard: list[ToSupervisor] = field(default_factory=list)
    progress: tuple[RankProgress, ...] = ()
    exit_code: int | None = None
    connection: Connection | None = None
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def join(self, port: int, token: str = TOKEN) -> None:
        """Connect, say who it is, and answer from now on."""
        self.connection = await dial(LOOPBACK, port)
        self.say(
            Hello(
                token, self.seat, self.pod or f"uid-{self.seat}", LOOPBACK, self.processes, self.epoch,
                instance=self.instance,
            )
        )  # fmt: skip
        self._tasks = [asyncio.ensure_future(self._listen(self.connection)), asyncio.ensure_future(self._beat())]

    def say(self, message: Any) -> None:
        """Send something."""
        assert self.connection is not None
        self.connection.send(message)

    async def leave(self) -> None:
        """End the connection."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self.connection is not None:
            self.connection.close()
            await self.connection.wait_closed()
            self.connection = None

    def told(self, kind: type) -> list[Any]:
        """What it was told of one kind, in order."""
        return [message for message in self.heard if isinstance(message, kind)]

    async def _listen(self, connection: Connection) -> None:
        while (message := await connection.receive(TO_SUPERVISOR)) is not None:
            self.heard.append(message)
            if self.is_answering:
                self._answer(message)

    def _answer(self, message: ToSupervisor) -> None:
        if isinstance(message, Prepare):
            self.epoch, self.progress = 0, ()
            self.say(Prepared(message.epoch, 40_000))
        elif isinstance(message, Go):
            self.epoch = message.epoch
            self.say(Started(message.epoch))
        elif isinstance(message, Yield):
            self.say(Yielded(message.epoch))
        elif isinstance(message, Stop):
            self.exit_code = message.code
            if self.connection is not None:
                self.connection.close()

    async def _beat(self) -> None:
        while self.connection is not None and not self.connection.is_closing:
            self.say(Beat(self.epoch, self.progress))
            await asyncio.sleep(self.beat_seconds)


class FakeCommander:
    """Who commands: remembers the reports."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.reports: list[Report] = []
        self.refused: Refused | None = None

    @classmethod
    async def attach(cls, port: int, leader_epoch: int = 0, token: str = TOKEN) -> FakeCommander:
        """Connect and command from now on."""
        connection = await dial(LOOPBACK, port)
        connection.send(Attach(token, leader_epoch))
        return cls(connection)

    def say(self, message: Any) -> None:
        """Send a command."""
        assert self.connection.send(message)

    async def report(self, epoch: int, phase: str) -> Report:
        """Read reports until one tells this phase of this epoch."""
        while True:
            message = await self.next()
            if message.epoch == epoch and message.phase == phase:
                return message

    async def next(self) -> Report:
        """The next report; fails when the coordinator refuses."""
        message = await self.connection.receive(TO_COMMANDER)
        if isinstance(message, Refused):
            self.refused = message
        assert isinstance(message, Report), message
        self.reports.append(message)
        return message
