"""Local mode's commander: begins epochs, and after a failure the next one, until the job succeeds or is given up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stowage_worker.children import cancel
from stowage_worker.codec import TO_COMMANDER
from stowage_worker.evidence import START_TIMEOUT, SUPERVISOR_LOST
from stowage_worker.intervals import checkpoint_interval
from stowage_worker.local_policy import GENERAL_CODE, NO_FAILURES, Answer, Mistake, answer_to, mistakes_of
from stowage_worker.local_processes import ADDRESS, LocalJob, LocalProcesses
from stowage_worker.local_status import LocalStatus, pids_of
from stowage_worker.messages import Attach, Begin, End, Evidence, HangRule, MessageError, Refused, Report
from stowage_worker.output import say
from stowage_worker.wire import Backoff, Connection, dial

GATHER_SECONDS = 0.2
"""After the first evidence of a failure: what else belongs to it, before it is judged."""
FAILURE_GRACE_SECONDS = 0.5
"""After a failure nothing is gained by waiting: what is left of the epoch waits for a rank that is gone."""
MAX_LOSSES_IN_A_ROW = 3
"""A supervisor that dies so often before its epoch runs is left out, where enough others are there."""
START_SECONDS = 60.0
SILENT_SECONDS = 10.0
"""After so long without a report the coordinator is asked for one, and killed when it gives none for as long again."""


@dataclass(frozen=True)
class Wishes:
    """What the user asked for."""

    nodes: int
    min_nodes: int
    restarts: int
    status_file: Path | None
    hang: HangRule | None
    checkpoint_seconds: float | None = None
    """Between two checkpoints; None: computed from what they cost and how often the run fails."""
    first_attempt: int = 1


class LocalRun:
    """One run, from start to exit code."""

    def __init__(self, job: LocalJob, wishes: Wishes, processes: LocalProcesses, generator: random.Random) -> None:
        self._job = job
        self._wishes = wishes
        self._processes = processes
        self._generator = generator
        self._changed = asyncio.Event()
        self._connection: Connection | None = None
        self._report: Report | None = None
        self._begin: Begin | None = None
        self._lost: list[str] = []
        """Seats whose supervisor died since they were last looked at."""
        self._losses: dict[str, int] = {}
        """In a row, by seat."""
        self._earlier: frozenset[Mistake] = frozenset()
        self._restarts = 0
        self._has_run = False
        """All ranks of this epoch were seen running."""
        self._started_at = asyncio.get_running_loop().time()
        self._last_failure: Evidence | None = None
        self._status_error = ""
        self._answer = Answer("")
        self._interrupted: Answer | None = None

    async def run(self) -> int:
        """Start everything, go on until the end, end everything; the exit code."""
        self._processes.start_coordinator()
        for node in range(self._wishes.nodes):
            self._processes.start_supervisor(f"s{node}")
        talk = asyncio.ensure_future(self._stay_connected())
        try:
            self._begin_next(self._wishes.first_attempt)
            code = await self._until_decided()
            self._write_status(code)
            is_asked = code == 0 or self._interrupted is not None
            grace = self._job.grace_seconds if is_asked else FAILURE_GRACE_SECONDS
            is_sent = self._connection is not None and self._connection.send(End(code, grace))
            await self._processes.end(grace + 2.0, self._connected_pods() if is_sent else ())
        finally:
            await cancel([talk])
        self._write_status(code)
        return code

    def lose(self, seat: str) -> None:
        """A supervisor died."""
        self._lost.append(seat)
        self._changed.set()

    def interrupt(self, number: int) -> None:
        """A signal to end; the second one ends it without grace."""
        if self._interrupted is not None:
            self._processes.kill()
        self._interrupted = Answer("interrupted", 128 + number)
        self._changed.set()

    def give_up(self, reason: str) -> None:
        """It cannot go on."""
        say(reason)
        self._interrupted = Answer(reason, GENERAL_CODE)
        self._changed.set()

    # --- deciding ---

    async def _until_decided(self) -> int:
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._interrupted is not None and self._interrupted.code is not None:
                self._answer = self._interrupted
                return self._interrupted.code
            report = self._current_report()
            if report and report.phase == "Running":
                self._has_run = True
                self._losses.clear()
                self._tell_interval()
            self._write_status(None)
            if report and report.phase == "Finished":
                self._answer = Answer("all processes ended with code 0", 0)
                return 0
            if self._lost or (report and report.phase == "Failed"):
                code = await self._recover()
                if code is not None:
                    return code

    async def _recover(self) -> int | None:
        """The next epoch, or the code to end with."""
        await asyncio.sleep(GATHER_SECONDS)
        report = self._current_report()
        if self._interrupted is not None or (report and report.phase == "Finished"):
            return None  # nothing is to be started any more
        lost, self._lost = self._lost, []
        told = report.evidence if report else ()
        evidence = [*_of_lost(lost, self._begin), *(one for one in told if one.event not in NO_FAILURES)]
        self._last_failure = evidence[0] if evidence else None
        self._answer = answer_to(
            evidence, self._earlier, restarts=self._restarts, restarts_allowed=self._wishes.restarts
        )
        say(f"{_words(self._last_failure)}: {self._answer.reason}")
        if self._answer.code is not None:
            return self._answer.code
        self._earlier = frozenset(mistakes_of(evidence))
        for seat in self._deaf(told) - {*lost}:
            self._processes.give_up_supervisor(seat)
            lost.append(seat)
        self._replace(lost)
        if len(self._processes.supervisors) < self._wishes.min_nodes:
            self._answer = Answer(f"supervisors die again and again: {', '.join(lost)}", GENERAL_CODE)
            return GENERAL_CODE
        self._restarts += 1
        assert self._begin is not None  # noqa: S101  the first epoch is begun before anything can fail
        self._begin_next(self._begin.attempt + 1)
        return None

    def _deaf(self, told: Sequence[Evidence]) -> set[str]:
        """Seats whose supervisor lives but would not answer in the next epoch either.

        One that is connected lacks processes of this epoch alone: a coordinator that was killed had told it nothing.
        """
        reached, pods = self._connected_pods(), self._processes.pods
        lost = {one.seat for one in told if one.event == SUPERVISOR_LOST and pods.get(one.seat) not in reached}
        late = {one.seat for one in told if one.event == START_TIMEOUT}
        return (lost | late) & self._processes.supervisors.keys()

    def _replace(self, lost: list[str]) -> None:
        """Another supervisor for each seat; none where it died again and again."""
        for seat in dict.fromkeys(lost):
            self._losses[seat] = self._losses.get(seat, 0) + 1
            if self._losses[seat] < MAX_LOSSES_IN_A_ROW:
                self._processes.start_supervisor(seat)

    def _begin_next(self, attempt: int) -> None:
        self._has_run = False
        seats = tuple(sorted(self._processes.supervisors, key=lambda seat: int(seat[1:])))
        per_node = self._job.processes_per_node
        world = {
            "nodes": len(seats),
            "processesPerNode": per_node,
            "worldSize": len(seats) * per_node,
            "seats": [seat for seat in seats for _ in range(per_node)],
        }
        self._begin = Begin(
            epoch=self._begin.epoch + 1 if self._begin else 1,
            attempt=attempt,
            seats=seats,
            processes_per_node=per_node,
            grace_seconds=FAILURE_GRACE_SECONDS,
            start_seconds=START_SECONDS,
            world=world,
            hang=self._wishes.hang,
            checkpoint_seconds=self._checkpoint_seconds(),
        )
        self._write_status(None)
        if self._connection is not None:
            self._connection.send(self._begin)

    def _tell_interval(self) -> None:
        """Say the same command again where the interval between checkpoints has changed."""
        seconds = self._checkpoint_seconds()
        if self._begin is not None and self._begin.checkpoint_seconds != seconds:
            self._begin = replace(self._begin, checkpoint_seconds=seconds)
            if self._connection is not None:
                self._connection.send(self._begin)

    def _checkpoint_seconds(self) -> float:
        if self._wishes.checkpoint_seconds is not None:
            return self._wishes.checkpoint_seconds
        return checkpoint_interval(
            nodes=self._wishes.nodes,
            failures=self._restarts,
            trained_seconds=asyncio.get_running_loop().time() - self._started_at,
            cost_seconds=self._report.progress.checkpoint_seconds if self._report is not None else None,
            before_seconds=self._begin.checkpoint_seconds if self._begin is not None else None,
        ).seconds

    def _connected_pods(self) -> frozenset[str]:
        """Whom the coordinator reaches; one that was started a moment ago may find nobody there any more."""
        return frozenset(one.pod for one in self._report.seats if one.connected) if self._report else frozenset()

    def _current_report(self) -> Report | None:
        """The newest report, when it is of the epoch that was begun last."""
        report, begin = self._report, self._begin
        return report if report is not None and begin is not None and report.epoch == begin.epoch else None

    # --- the coordinator ---

    async def _stay_connected(self) -> None:
        backoff = Backoff(self._generator, first_seconds=0.05, most_seconds=0.5)
        while True:
            try:
                connection = await dial(ADDRESS, self._job.port)
                backoff.reset()
                if not await self._talk(connection):
                    say(f"the coordinator says nothing for {SILENT_SECONDS:g} s; it is killed")
                    self._processes.kill_coordinator()
            except OSError:
                pass
            except MessageError as error:
                say(f"coordinator: {error}")
            self._connection = None
            await asyncio.sleep(backoff.next_seconds())

    async def _talk(self, connection: Connection) -> bool:
        """Until the connection ends or nothing was said for long; whether it said anything."""
        is_heard = False
        try:
            connection.send(Attach(self._job.token_file.read_text(), leader_epoch=1))
            if self._begin is not None:
                connection.send(self._begin)
            self._connection = connection
            while True:
                message = await asyncio.wait_for(connection.receive(TO_COMMANDER), SILENT_SECONDS)
                if message is None:
                    return True
                if isinstance(message, Refused):
                    say(f"the coordinator refuses commands: {message.reason}")
                    return True
                is_heard = True
                self._processes.coordinator_answers()
                self._report = message
                self._changed.set()
        except asyncio.TimeoutError:
            return is_heard
        finally:
            connection.abort()

    # --- status ---

    def _write_status(self, code: int | None) -> None:
        if self._wishes.status_file is None or self._begin is None:
            return
        report = self._current_report()
        status = LocalStatus(
            epoch=self._begin.epoch,
            attempt=self._begin.attempt,
            phase=self._phase(report, code),
            nodes=len(self._begin.seats),
            processes_per_node=self._job.processes_per_node,
            restarts=self._restarts,
            progress=(report or self._report or _NO_REPORT).progress,
            last_failure=self._last_failure,
            reason=self._answer.reason,
            exit_code=code,
            coordinator=self._processes.coordinator,
            seats={
                seat: {"pid": pid, **pids_of(self._job.directory / seat)}
                for seat, pid in sorted(self._processes.supervisors.items())
            },
        )
        try:
            status.write(self._wishes.status_file)
        except OSError as error:
            if str(error) != self._status_error:  # once, for it is written each second
                say(f"status file: {error}")
            self._status_error = str(error)

    def _phase(self, report: Report | None, code: int | None) -> str:
        if code is not None:
            return "Failed" if code else "Succeeded"
        if self._lost or (report is not None and report.phase == "Failed"):
            return "Recovering"
        if self._has_run or (report is not None and report.phase == "Finished"):
            return "Running"  # ranks go on while a coordinator is started again
        return "Recovering" if self._restarts else "Starting"


_NO_REPORT = Report(0, 0, "Waiting")


def _of_lost(seats: list[str], begin: Begin | None) -> list[Evidence]:
    epoch = begin.epoch if begin else 0
    return [Evidence(SUPERVISOR_LOST, epoch, 0.0, seat=seat) for seat in seats]


def _words(failure: Evidence | None) -> str:
    if failure is None:
        return "failed"
    if failure.event != "ProcessExited":
        return f"{failure.event} {failure.seat}".strip()
    how = f"code {failure.code}" if failure.signal is None else f"signal {failure.signal}"
    return f"rank {failure.rank} ended with {how}"
