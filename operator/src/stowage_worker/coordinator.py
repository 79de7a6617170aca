"""The coordinator's process: sockets around `membership`, which holds all rules.

Nothing here waits for one connection: what is sent goes to buffers, and who does not empty them is cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
from collections.abc import Callable

from stowage_worker import membership
from stowage_worker.codec import FROM_COMMANDER, FROM_SUPERVISOR, FromCommander
from stowage_worker.evidence import EvidenceLog
from stowage_worker.membership_state import RETURN_SECONDS, CommandError, Membership, Now, Step
from stowage_worker.messages import (
    MAX_LINE_BYTES,
    Attach,
    Beat,
    Begin,
    Checkpoint,
    End,
    Hello,
    Leave,
    MessageError,
    Refused,
    Report,
)
from stowage_worker.reports import report_of
from stowage_worker.stragglers import StepTimes
from stowage_worker.wire import FIRST_LINE_BYTES, SUPERVISOR_LINE_BYTES, Connection

TICK_SECONDS = 0.25
REPORT_SECONDS = 1.0
"""Between reports of progress."""
IDLE_REPORT_SECONDS = 10.0
"""Between reports where no epoch is under way: one that says nothing for long is taken for one that is stopped."""
NEWS_SECONDS = 0.25
"""Between reports of changed seats."""
URGENT_SECONDS = 0.1
"""Between reports of changed epochs or evidence; the first goes out at once."""
STRAGGLERS_SECONDS = 5.0
FIRST_LINE_SECONDS = 10.0
MAX_STRANGERS = membership.MAX_SEATS
"""Connections that have not said yet who they are; of more, the oldest are dropped."""
REFUSALS_SECONDS = 10.0
"""Between log lines about strangers: anybody who reaches the port can cause them."""
LINGER_SECONDS = 5.0
"""Beyond their grace, for supervisors to end."""

_FIRST: tuple[type[Hello | Attach | Leave], ...] = (Hello, Attach, Leave)

log = logging.getLogger(__name__)


class Coordinator:
    """One job's coordinator.

    Args:
        job: what supervisors are welcomed to, for their logs.
        token: what supervisors and commanders have to know.
        clock: reads both clocks.
    """

    def __init__(self, job: str, token: str, clock: Callable[[], Now]) -> None:
        self.state = Membership()
        self._job = job
        self._token = token.encode()
        self._clock = clock
        self._links: dict[int, Connection] = {}
        self._last_link = 0
        self._connections: set[Connection] = set()
        self._strangers: dict[Connection, None] = {}
        self._refused_at = -REFUSALS_SECONDS
        self._refused = 0
        self._commander: Connection | None = None
        self._step_times = StepTimes()
        self._stragglers_at = 0.0
        self._reported_at = 0.0
        self._urgent_at = 0.0
        self._reported: tuple[int, EvidenceLog] = (0, self.state.evidence)
        self._pending: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Event
        self._stragglers = self._step_times.straggling()

    async def run(self, host: str, port: int, listening: Callable[[str, int], None]) -> int:
        """Serve until the job is ended; returns the exit code that `End` gave.

        Args:
            host: address to listen on.
            port: 0: any that is free.
            listening: told where, once connections are taken.

        Raises:
            OSError: the port cannot be had.
        """
        self._emptied = asyncio.Event()  # in Python 3.9 it belongs to the loop within which it is made
        server = await asyncio.start_server(
            self._connected, host, port, limit=FIRST_LINE_BYTES, backlog=membership.MAX_SEATS, reuse_address=True
        )
        try:
            name = server.sockets[0].getsockname()
            listening(name[0], name[1])
            since = self._clock().steady
            while self.state.end is None:
                await asyncio.sleep(TICK_SECONDS)
                self._tick()
            end: End = self.state.end
            await self._until_left(end, since)
            return end.code
        finally:
            if self._pending is not None:
                self._pending.cancel()
            server.close()
            for connection in list(self._connections):
                connection.close()

    async def _until_left(self, end: End, since: float) -> None:
        """Until all were told to end and did: also those that still look for a coordinator that was started again."""
        away_by = since + RETURN_SECONDS
        by = max(self._clock().steady + end.grace_seconds + LINGER_SECONDS, away_by)
        while (now := self._clock().steady) < by:
            is_awaited = now < away_by and any(seat not in self.state.seats for seat in self.state.members)
            if not self._links and not is_awaited:
                return
            self._emptied.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), TICK_SECONDS)
        log.warning("%d supervisors have not ended in time", len(self._links))

    def _tick(self) -> None:
        now = self._clock()
        self._apply(membership.ticked(self.state, now))
        if now.steady - self._stragglers_at >= STRAGGLERS_SECONDS:
            self._stragglers_at = now.steady
            self._stragglers = self._step_times.straggling()
        if now.steady - self._reported_at >= (REPORT_SECONDS if self.state.is_under_way else IDLE_REPORT_SECONDS):
            self._report()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer, FIRST_LINE_BYTES)
        self._connections.add(connection)
        self._strangers[connection] = None
        if len(self._strangers) > MAX_STRANGERS:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.abort()
        silence = asyncio.get_running_loop().call_later(FIRST_LINE_SECONDS, connection.abort)
        try:
            first = await connection.receive(_FIRST)
            silence.cancel()
            if first is None:
                return
            if not hmac.compare_digest(first.token.encode(), self._token):
                self._note_refusal(connection.peer, "wrong token")
                connection.send(Refused("the token is not that of this job"))
                return
            self._strangers.pop(connection, None)
            if isinstance(first, Hello):
                await self._supervise(connection, first)
            elif isinstance(first, Leave):
                await self._let_leave(connection, first)
            else:
                await self._obey(connection, first)
        except MessageError as error:
            self._note_refusal(connection.peer, str(error))
            connection.send(Refused(str(error)))
        finally:
            silence.cancel()
            self._connections.discard(connection)
            self._strangers.pop(connection, None)
            connection.close()

    def _note_refusal(self, peer: str, why: str) -> None:
        self._refused += 1
        now = self._clock().steady
        if now - self._refused_at >= REFUSALS_SECONDS:
            log.warning(
                "a connection from %s is refused: %s (%d in all since this was last said)", peer, why, self._refused
            )
            self._refused_at, self._refused = now, 0

    async def _supervise(self, connection: Connection, hello: Hello) -> None:
        connection.max_line_bytes = SUPERVISOR_LINE_BYTES
        self._last_link += 1
        link = self._last_link
        self._links[link] = connection
        try:
            self._apply(membership.joined(self.state, link, hello, self._job, self._clock()))
            while (message := await connection.receive(FROM_SUPERVISOR)) is not None:
                if link not in self._links:
                    return
                if isinstance(message, Beat) and message.epoch == self.state.epoch:
                    self._step_times.told(hello.seat, message.progress)
                if not isinstance(message, Hello):
                    self._apply(membership.said(self.state, hello.seat, link, message, self._clock()))
        finally:
            self._links.pop(link, None)
            self._apply(membership.left(self.state, hello.seat, link, self._clock()))
            self._emptied.set()

    async def _let_leave(self, connection: Connection, leave: Leave) -> None:
        self._last_link += 1
        link = self._last_link
        self._links[link] = connection
        try:
            log.info("the pod of seat %s is about to be stopped", leave.seat[:64])
            self._apply(membership.leaves(self.state, link, leave, self._clock()))
            await connection.receive(())  # it has nothing more to say, and goes once it is answered
        finally:
            self._links.pop(link, None)
            self._emptied.set()

    async def _obey(self, connection: Connection, attach: Attach) -> None:
        try:
            self.state = membership.attached(self.state, attach)
        except CommandError as error:
            connection.send(Refused(str(error)))
            return
        connection.max_line_bytes = MAX_LINE_BYTES
        if self._commander is not None:
            self._commander.send(Refused("another commander has attached"))
            self._commander.close()
        self._commander = connection
        try:
            self._report()
            while (message := await connection.receive(FROM_COMMANDER)) is not None:
                if self._commander is not connection:
                    return
                self._command(message)
        except CommandError as error:
            log.warning("a command is refused: %s", error)
            connection.send(Refused(str(error)))
        finally:
            if self._commander is connection:
                self._commander = None

    def _command(self, message: FromCommander) -> None:
        if isinstance(message, Begin):
            before = self.state.epoch
            step = membership.began(self.state, message, self._job, self._clock())
            if step.state.epoch != before:
                log.info("epoch %d begins with %d seats", message.epoch, len(message.seats))
                self._step_times, self._stragglers = StepTimes(), ()
            self._apply(step)
        elif isinstance(message, Checkpoint):
            self._apply(membership.checkpointed(self.state, message, self._clock()))
        elif isinstance(message, End):
            log.info("the job ends with code %d", message.code)
            self._apply(membership.ended(self.state, message))

    def _apply(self, step: Step) -> None:
        self.state = step.state
        for link, message in step.sends:
            connection = self._links.get(link)
            if connection is not None:
                connection.send(message)
        for link in step.closes:
            connection = self._links.pop(link, None)
            if connection is not None:
                connection.close()
        if step.is_news:
            self._plan_report()

    def _plan_report(self) -> None:
        """Report soon: at once what is urgent, unless that was just done."""
        if self._commander is None:
            return
        is_urgent = self._reported != (self.state.epoch, self.state.evidence)
        due = self._urgent_at + URGENT_SECONDS if is_urgent else self._reported_at + NEWS_SECONDS
        wait = max(due - self._clock().steady, 0.0)
        loop = asyncio.get_running_loop()
        if self._pending is not None:
            if self._pending.when() <= loop.time() + wait:
                return
            self._pending.cancel()
        self._pending = loop.call_later(wait, self._report)

    def _report(self) -> None:
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None
        if self._commander is None:
            return
        now = self._clock()
        self._reported_at = now.steady
        if self._reported != (self.state.epoch, self.state.evidence):
            self._reported = (self.state.epoch, self.state.evidence)
            self._urgent_at = now.steady
        report = report_of(self.state, now, self._stragglers)
        try:
            self._commander.send(report)
        except MessageError as error:
            log.warning("a report without seats and texts is sent instead: %s", error)
            self._commander.send(_shortened(report))


def _shortened(report: Report) -> Report:
    """What fits into a line in any case."""
    return Report(
        report.epoch,
        report.attempt,
        report.phase,
        evidence=report.evidence[:64],
        started_at=report.started_at,
        first_step_at=report.first_step_at,
    )
