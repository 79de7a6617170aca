"""A coordinator that does as it is told, over a real connection: for tests of the operator without supervisors.

It speaks the messages of `stowage_worker` and plays the supervisors too: a job runs as soon as it is begun. What goes
wrong, and when it is done, the test says.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from stowage_worker.codec import FROM_COMMANDER
from stowage_worker.coordinator import IDLE_REPORT_SECONDS
from stowage_worker.messages import Attach, Begin, Checkpoint, End, Evidence, Progress, Report, SeatState
from stowage_worker.wire import Connection

NOT_BEGUN = Report(epoch=0, attempt=0, phase="Waiting")


class FakeCoordinator:
    """One coordinator for whoever attaches; knows one job.

    Attributes:
        begun: every `Begin` of a new epoch, in order.
        told: every `Begin`, those that say the same again among them.
        ended: the `End`, once it came.
        attached: how often somebody attached.
        waiting: seats with the UID of their pod that are connected and no members of the epoch.
    """

    def __init__(self) -> None:
        self.begun: list[Begin] = []
        self.told: list[Begin] = []
        self.ended: End | None = None
        self.attached: list[Attach] = []
        self.waiting: dict[str, str] = {}
        self.report = NOT_BEGUN
        self.port = 0
        self._connections: set[Connection] = set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def tell(
        self, phase: str, *, evidence: tuple[Evidence, ...] = (), step: int = -1, silent: tuple[str, ...] = ()
    ) -> None:
        """Report a phase of the epoch that was begun last; the supervisors of the seats `silent` are not heard."""
        begin = self.begun[-1]
        members = dict(zip(begin.seats, begin.pods, strict=True))
        known = {**self.waiting, **members}
        seats = tuple(
            SeatState(seat, uid, connected=seat not in silent, state="Running" if seat in members else "Idle")
            for seat, uid in known.items()
        )
        seats += tuple(
            SeatState(seat, uid, connected=True, state="Waiting")
            for seat, uid in self.waiting.items()
            if seat not in begin.seats
        )
        progress = Progress(step=step) if step >= 0 else self.report.progress
        self.report = Report(begin.epoch, begin.attempt, phase, seats, evidence, progress)
        self._send()

    def fails(self, seat: str, *, at: float, code: int = 1, step: int = 7, error_hash: str = "") -> None:
        """One process of a seat exits."""
        evidence = Evidence(
            "ProcessExited", self.begun[-1].epoch, at, seat=seat, rank=0, code=code, step=step, error_hash=error_hash
        )
        self.tell("Failed", evidence=(evidence,))

    def loses(self, seat: str, *, at: float) -> None:
        """The supervisor of a seat is not heard any more."""
        evidence = Evidence("SupervisorLost", self.begun[-1].epoch, at, seat=seat)
        self.tell("Failed", evidence=(evidence,), silent=(seat,))

    def cut(self) -> None:
        """End all connections, as if the coordinator had been started again."""
        for connection in tuple(self._connections):
            connection.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        self._connections.add(connection)
        try:
            while (message := await connection.receive(FROM_COMMANDER)) is not None:
                self._heard(message, connection)
        finally:
            self._connections.discard(connection)
            connection.abort()

    def _heard(self, message: Attach | Begin | Checkpoint | End, connection: Connection) -> None:
        if isinstance(message, Begin):
            self.told.append(message)
        match message:
            case Attach():
                self.attached.append(message)
                connection.send(self.report)
            case Begin() if not self.begun or message.epoch > self.begun[-1].epoch:
                self.begun.append(message)
                self.tell("Running" if message.seats else "Yielded")
            case End():
                self.ended = message

    async def say_again(self) -> None:
        """Say now and then that it lives, as one does that has nothing to say; until cancelled."""
        while True:
            await asyncio.sleep(IDLE_REPORT_SECONDS)
            self._send()

    def _send(self) -> None:
        for connection in self._connections:
            connection.send(self.report)


@contextlib.asynccontextmanager
async def fake_coordinator(port: int = 0) -> AsyncIterator[FakeCoordinator]:
    """A coordinator on a port of this machine; 0: any free one."""
    fake = FakeCoordinator()
    server = await asyncio.start_server(fake.serve, "127.0.0.1", port)
    fake.port = server.sockets[0].getsockname()[1]
    saying = asyncio.create_task(fake.say_again())
    try:
        yield fake
    finally:
        saying.cancel()
        server.close()
        fake.cut()
