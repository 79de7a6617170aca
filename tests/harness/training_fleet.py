"""Coordinators of hundreds of jobs behind one port, with supervisors that run nothing: whoever attaches is known by
its token.

Each job runs soon after it is begun. What goes wrong, how fast it trains, and when it is done, the bench says.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from stowage_worker.codec import FROM_COMMANDER
from stowage_worker.coordinator import IDLE_REPORT_SECONDS
from stowage_worker.messages import Begin, End, Evidence, Progress, Report, SeatState
from stowage_worker.wire import Connection

START_SECONDS: Final = 0.2
STEPS_EACH_SECOND: Final = 2
MOST_CONNECTIONS: Final = 4096

clock = time.perf_counter
wall_clock = time.time  # noqa: TID251 - as the operator's clock has it

NameOf = Callable[[str], Awaitable[str | None]]
"""The name of the job that a token is of; None: of none."""


@dataclass
class FleetJob:
    """One job, as its coordinator has it.

    Attributes:
        begun: when the `Begin` of each epoch came first, by epoch, on `clock`.
        begin: the latest.
    """

    name: str
    begun: dict[int, float] = field(default_factory=dict)
    begin: Begin | None = None
    ended: End | None = None
    report: Report = field(default_factory=lambda: Report(epoch=0, attempt=0, phase="Waiting"))
    connection: Connection | None = None
    step: int = 0

    @property
    def runs(self) -> bool:
        """Whether all its ranks run."""
        return self.report.phase == "Running"

    @property
    def epoch(self) -> int:
        """The epoch that it was told last."""
        return self.begin.epoch if self.begin is not None else 0

    def told(self, message: Begin | End) -> None:
        """The operator commands."""
        if isinstance(message, End):
            self.ended = message
        elif message.epoch > self.epoch:
            self.begin = message
            self.begun[message.epoch] = clock()
            self.tell("Preparing")
            asyncio.get_running_loop().call_later(START_SECONDS, self._start, message.epoch)

    def tell(self, phase: str, *evidence: Evidence, silent: tuple[str, ...] = ()) -> None:
        """Report a phase; the supervisors of the seats `silent` are not heard."""
        assert self.begin is not None
        seats = tuple(
            SeatState(seat, pod, connected=seat not in silent, state="Lost" if seat in silent else phase)
            for seat, pod in zip(self.begin.seats, self.begin.pods, strict=True)
        )
        same = self.report.epoch == self.begin.epoch
        started_at = self.report.started_at if same else None
        if phase == "Running" and started_at is None:
            started_at = wall_clock()
        progress = Progress(step=self.step, step_seconds=1 / STEPS_EACH_SECOND, phase="Training")
        self.report = Report(
            self.begin.epoch, self.begin.attempt, phase, seats, evidence, progress, (), started_at, started_at
        )
        self.say()

    def exits(self, seat: str, *, step: int | None = None, error_hash: str = "") -> None:
        """A process exits with code 1."""
        self.tell("Failed", self._evidence("ProcessExited", seat, rank=0, code=1, step=step, error_hash=error_hash))

    def hangs(self) -> None:
        """No rank makes steps any more."""
        self.tell("Failed", self._evidence("Hang", "s0", rank=0))

    def loses(self, *seats: str) -> None:
        """Supervisors are silent."""
        self.tell("Failed", *(self._evidence("SupervisorLost", seat) for seat in seats), silent=seats)

    def trains(self) -> None:
        """As far as it gets in a second."""
        self.step += STEPS_EACH_SECOND
        self.tell("Running")

    def say(self) -> None:
        """Send the report."""
        if self.connection is not None:
            self.connection.send(self.report)

    def _start(self, epoch: int) -> None:
        if self.begin is not None and self.begin.epoch == epoch and self.report.phase == "Preparing":
            self.tell("Running" if self.begin.seats else "Yielded")

    def _evidence(self, event: str, seat: str, *, step: int | None = None, **fields: Any) -> Evidence:
        return Evidence(event, self.epoch, wall_clock(), seat=seat, step=self.step if step is None else step, **fields)


class Fleet:
    """All coordinators.

    Args:
        name_of: tells jobs by their tokens.

    Attributes:
        trains: all jobs that run make steps; otherwise they only say that they run.
    """

    def __init__(self, name_of: NameOf) -> None:
        self.jobs: dict[str, FleetJob] = {}
        self.port = 0
        self.attached = 0
        self.trains = False
        self._name_of = name_of

    @property
    def address(self) -> str:
        """HOST:PORT of every coordinator."""
        return f"127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of the operator, for one job."""
        connection = Connection(reader, writer)
        job: FleetJob | None = None
        try:
            attach = await connection.receive(FROM_COMMANDER)
            name = await self._name_of(getattr(attach, "token", ""))
            if name is None:
                return
            job = self.jobs.setdefault(name, FleetJob(name))
            job.connection = connection
            self.attached += 1
            job.say()
            while (message := await connection.receive(FROM_COMMANDER)) is not None:
                if isinstance(message, (Begin, End)):
                    job.told(message)
        finally:
            if job is not None and job.connection is connection:
                job.connection = None
            connection.abort()

    async def live(self) -> None:
        """Report as often as coordinators do, until cancelled; the reports are spread over each second."""
        loop = asyncio.get_running_loop()
        for second in itertools.count():
            began, jobs = loop.time(), list(self.jobs.values())
            for number, job in enumerate(jobs):
                if job.runs and job.ended is None:
                    job.trains() if self.trains else job.say()
                elif (number + second) % IDLE_REPORT_SECONDS == 0:
                    job.say()
                if number % 10 == 9:
                    await asyncio.sleep(max(0.0, began + number / len(jobs) - loop.time()))
            await asyncio.sleep(max(0.01, began + 1.0 - loop.time()))


@contextlib.asynccontextmanager
async def fleet(name_of: NameOf) -> AsyncIterator[Fleet]:
    """Coordinators on a free port of this machine."""
    made = Fleet(name_of)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, backlog=MOST_CONNECTIONS)
    made.port = server.sockets[0].getsockname()[1]
    living = asyncio.create_task(made.live())
    try:
        yield made
    finally:
        living.cancel()
        server.close()
        for job in made.jobs.values():
            if job.connection is not None:
                job.connection.abort()
