"""The first process of a training container: connects to the coordinator and starts, watches and ends the ranks.

The coordinator may come and go: processes go on meanwhile, and what happened is told again after each connection.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from stowage_worker.agreement import Plan
from stowage_worker.children import Children, cancel
from stowage_worker.codec import FromSupervisor, ToSupervisor
from stowage_worker.coordinator_line import CoordinatorLine
from stowage_worker.environment import SUPERVISED, Place, rank_of
from stowage_worker.exits import Failure, code_and_signal
from stowage_worker.guard import Guard
from stowage_worker.messages import (
    Beat,
    Exited,
    Finished,
    Go,
    Hello,
    Leaving,
    Matched,
    MayLeave,
    Prepare,
    Prepared,
    SaveAt,
    Started,
    Stop,
    Welcome,
    Yield,
    Yielded,
)
from stowage_worker.output import Rules, own_outlet, say
from stowage_worker.ports import Port, take_port
from stowage_worker.progress import ProgressReader
from stowage_worker.ranks import Ranks, groups_left, write_pids
from stowage_worker.remains import kill_marked, send_groups

BEAT_SECONDS = 1.0
SAVING_LOOK_SECONDS = 0.05
"""Between looks at what ranks tell while they are asked for a checkpoint."""
LEAVE_MARGIN_SECONDS = 5.0
AWAY_SECONDS = 2.0
"""A coordinator that is away for so long is not waited for by a supervisor that was told to end."""
SAVING_LOOKS_SECONDS = 120.0
"""After that the usual beats have to do."""
MAX_MATCHES_KEPT = 50
CANNOT_START_CODE = 126
Command = Union[Prepare, Go, Yield, Stop]


@dataclass(frozen=True)
class Settings:
    """Who this supervisor is and what it starts."""

    host: str
    port: int
    token: str
    seat: str
    pod: str
    address: str
    node: str
    processes: int
    command: tuple[str, ...]
    directory: Path
    """For the files of epochs; the supervisor's own."""
    mark: str
    """The same for each supervisor of this seat on this machine: the next one ends what the last one left.

    Ranks carry it with the supervisor's instance, so that a late guard of the last one ends nothing of the next."""
    grace_seconds: float
    """When the supervisor itself is told to end."""
    own: Mapping[str, str]
    """Added to the environment of all ranks."""

    def __repr__(self) -> str:  # the token stays out of logs
        return f"Settings(seat={self.seat!r}, host={self.host!r}, port={self.port})"


class Supervisor:
    """One seat. `run` returns the exit code."""

    def __init__(self, settings: Settings, generator: random.Random) -> None:
        self._settings = settings
        self._generator = generator
        self._instance = f"{generator.getrandbits(64):016x}"
        self._loop = asyncio.get_running_loop()
        self._children = Children()
        self._outlet = own_outlet()
        self._mark = f"{settings.mark}.{self._instance}"
        self._guard = Guard(SUPERVISED, self._mark)
        self._line = CoordinatorLine(settings.host, settings.port, generator, self._hello, self._told)
        self._commands: asyncio.Queue[Command] = asyncio.Queue()
        self._done: asyncio.Future[int] = self._loop.create_future()
        self._log_rules: tuple[tuple[str, str], ...] = ()
        self._prepared: tuple[int, Port] | None = None
        self._ranks: Ranks | None = None
        self._progress: ProgressReader | None = None
        self._events: list[FromSupervisor] = []
        """Of the current epoch, told again after each connection."""
        self._ended_well: set[int] = set()
        self._is_stopping = False
        self._yielding: asyncio.Task[None] | None = None
        self._looks: asyncio.Task[None] | None = None
        self._end_by: float | None = None
        """When what is left is killed, once the supervisor was told to end."""
        self._leave_by = 0.0
        self._is_let_go = False

    async def run(self) -> int:
        """Supervise until told to end."""
        send_groups(groups_left(self._settings.directory / "ranks.json"), signal.SIGKILL)
        kill_marked(SUPERVISED, f"{self._settings.mark}.", is_prefix=True)
        tasks = [asyncio.ensure_future(one) for one in (self._line.keep(), self._work(), self._beat())]
        for task in tasks:
            task.add_done_callback(self._fail_with)
        try:
            return await self._done
        finally:
            await cancel(tasks)
            left = self._settings.grace_seconds if self._end_by is None else self._end_by - self._loop.time()
            await self._stop_ranks(max(0.0, left))
            self._line.close()
            self._guard.close()
            self._children.close()

    def end(self, code: int) -> None:
        """End: ranks are stopped first, within the grace."""
        if not self._done.done():
            self._done.set_result(code)

    async def leave(self, code: int) -> None:
        """End by a signal to the supervisor, as at an eviction: the job may make a checkpoint first.

        At least half of the grace goes to it, and no more than leaves some seconds for the ranks to end.
        """
        grace = self._settings.grace_seconds
        if self._end_by is None:
            self._end_by = self._loop.time() + grace
            self._leave_by = self._loop.time() + max(grace / 2, grace - LEAVE_MARGIN_SECONDS)
            self._tell_leaving()
            await self._until_let_go(self._leave_by)
        self.end(code)

    def _tell_leaving(self) -> None:
        left = self._leave_by - self._loop.time()
        if self._end_by is not None and left > 0:
            self._line.tell(Leaving(left))

    async def _until_let_go(self, by: float) -> None:
        """Until the coordinator says so, the ranks end, the time is over, or the coordinator stays away."""
        heard_at = self._loop.time()
        while not self._is_let_go and self._loop.time() < by:
            if self._line.is_welcome:
                heard_at = self._loop.time()
            if self._ranks is None or not self._ranks.running or self._loop.time() - heard_at > AWAY_SECONDS:
                return
            await asyncio.sleep(SAVING_LOOK_SECONDS)

    def forward(self, number: int) -> None:
        """Hand a signal on to all ranks."""
        if self._ranks is not None:
            self._ranks.send(number)

    def _fail_with(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None and not self._done.done():
            self._done.set_exception(task.exception() or RuntimeError())

    # --- the coordinator ---

    def _told(self, message: ToSupervisor) -> None:
        if isinstance(message, Welcome):
            self._log_rules = message.log_rules
            self._tell_again()
        elif isinstance(message, SaveAt):
            self._ask_for_checkpoint(message)
        elif isinstance(message, MayLeave):
            self._is_let_go = True
        elif isinstance(message, (Prepare, Go, Yield, Stop)):
            self._commands.put_nowait(message)

    def _hello(self) -> Hello:
        mine, go = self._settings, self._ranks.go if self._ranks else None
        return Hello(
            token=mine.token,
            seat=mine.seat,
            pod=mine.pod,
            address=mine.address,
            processes=mine.processes,
            epoch=go.epoch if go else 0,
            attempt=go.attempt if go else 0,
            node=mine.node,
            instance=self._instance,
        )

    def _tell_and_keep(self, message: FromSupervisor) -> None:
        self._events.append(message)
        self._line.tell(message)

    def _tell_again(self) -> None:
        if self._ranks is None and self._prepared is not None:
            self._line.tell(Prepared(self._prepared[0], self._prepared[1].number))
        for event in self._events:
            self._line.tell(event)
        self._tell_leaving()

    async def _beat(self) -> None:
        while True:
            self._tell_progress()
            await asyncio.sleep(BEAT_SECONDS)

    def _tell_progress(self) -> None:
        progress = self._progress.read(self._loop.time()) if self._progress else ()
        self._line.tell(Beat(self._ranks.go.epoch if self._ranks else 0, progress))

    # --- commands, one after the other ---

    async def _work(self) -> None:
        while True:
            command = await self._commands.get()
            if isinstance(command, Prepare):
                await self._prepare(command)
            elif isinstance(command, Go):
                await self._go(command)
            elif isinstance(command, Yield):
                self._yield(command)
            else:
                await self._stop_ranks(command.grace_seconds)
                self.end(command.code)

    async def _prepare(self, command: Prepare) -> None:
        running = self._ranks.go.epoch if self._ranks else 0
        if command.epoch < running:
            return
        if command.epoch == running:
            self._tell_again()
            return
        await self._stop_ranks(command.grace_seconds)
        if self._prepared is not None and self._prepared[0] != command.epoch:
            self._prepared[1].release()
            self._prepared = None
        if self._prepared is None:
            shutil.rmtree(self._settings.directory / "epochs", ignore_errors=True)
            self._prepared = (command.epoch, take_port(self._generator))
        self._line.tell(Prepared(command.epoch, self._prepared[1].number))

    async def _go(self, command: Go) -> None:
        if self._ranks is not None and command.epoch == self._ranks.go.epoch:
            self._tell_again()
            return
        if self._ranks is not None or self._prepared is None or self._prepared[0] != command.epoch:
            say(f"not prepared for epoch {command.epoch}: nothing is started")
            return
        place = Place(self._settings.directory / "epochs" / str(command.epoch))
        rules = Rules(self._log_rules, self._loop.time, say)
        ranks = Ranks(
            command, place, self._children, self._outlet, rules, self._exited, self._matched, self._guard.watch
        )
        self._ranks = ranks
        try:
            await ranks.start(self._settings.command, os.environ, self._settings.own, self._mark)
        except OSError as error:  # a full disk, most likely: whoever commands decides what follows
            for local_rank in range(command.processes_per_node):
                rank = rank_of(command, local_rank)
                if rank not in ranks.pids:
                    failure = Failure(type(error).__name__, str(error))
                    self._exited(command.epoch, rank, local_rank, CANNOT_START_CODE, failure)
        files = {rank: place.progress(rank) for rank in ranks.pids}
        self._progress = ProgressReader(files, self._loop.time())
        write_pids(self._settings.directory / "ranks.json", command.epoch, ranks.pids)
        # first of all events, also where a process ended while others were started
        self._events.insert(0, Started(command.epoch, tuple(ranks.pids.values())))
        self._tell_again()

    def _yield(self, command: Yield) -> None:
        ranks = self._ranks
        if ranks is None or command.epoch != ranks.go.epoch or self._yielding is not None:
            return
        self._yielding = asyncio.ensure_future(self._let_yield(ranks, command.deadline_seconds))

    async def _let_yield(self, ranks: Ranks, seconds: float) -> None:
        """Programs that ask `should_yield` end by themselves; others get SIGTERM, as at an eviction."""
        is_seen = self._progress is not None and self._progress.can_yield
        try:
            ranks.place.yield_request.write_text(str(seconds))
        except OSError as error:  # a full disk, most likely
            say(f"ranks cannot be asked to yield: {error}")
            is_seen = False
        if not is_seen:
            ranks.send(signal.SIGTERM)
        if not await ranks.until_ended(seconds):
            await ranks.stop(self._settings.grace_seconds if seconds else 0.0, self._mark)
        if ranks is self._ranks:
            self._tell_and_keep(Yielded(ranks.go.epoch))

    def _ask_for_checkpoint(self, asked: SaveAt) -> None:
        ranks = self._ranks
        if ranks is None or asked.epoch != ranks.go.epoch:
            return
        plan = Plan(asked.checkpoint_seconds, asked.request, asked.step, asked.confirmed, asked.ends)
        fresh = ranks.place.checkpoint_plan.with_suffix(".new")
        try:
            fresh.write_text(plan.text())
            fresh.replace(ranks.place.checkpoint_plan)
        except OSError as error:
            say(f"checkpoint cannot be asked for: {error}")
        if self._looks is not None:
            self._looks.cancel()
        self._looks = asyncio.ensure_future(self._look_often(asked)) if asked.request else None

    async def _look_often(self, asked: SaveAt) -> None:
        """Tell at once what ranks say about a checkpoint that they are asked for."""
        until = self._loop.time() + SAVING_LOOKS_SECONDS
        told: object = None
        while self._progress is not None and self._loop.time() < until:
            progress = self._progress.read(self._loop.time())
            said = [(one.request, one.is_late, one.asked_step >= asked.step, one.checkpoint_step) for one in progress]
            if said != told:
                self._tell_progress()
            told = said
            await asyncio.sleep(SAVING_LOOK_SECONDS)

    async def _stop_ranks(self, grace_seconds: float) -> None:
        ranks = self._ranks
        if ranks is None:
            return
        self._is_stopping = True
        if self._looks is not None:
            await cancel([self._looks])
            self._looks = None
        if self._yielding is not None:
            await cancel([self._yielding])
            self._yielding = None
        await ranks.stop(grace_seconds, self._mark)
        self._ranks, self._progress = None, None
        self._events.clear()
        self._ended_well.clear()
        self._is_stopping = False

    # --- ranks ---

    def _exited(self, epoch: int, rank: int, local_rank: int, status: int, failure: Failure) -> None:
        ranks = self._ranks
        if ranks is None or ranks.go.epoch != epoch or self._is_stopping or self._yielding is not None:
            return
        if self._progress is not None:
            self._progress.end(rank)
        code, killed_by = code_and_signal(status)
        if status == 0:
            self._ended_well.add(rank)
            if len(self._ended_well) == ranks.go.processes_per_node:
                self._tell_progress()  # the last steps
                self._tell_and_keep(Finished(ranks.go.epoch))
            return
        step = self._progress.of(rank, self._loop.time()).step if self._progress else -1
        how = f"code {code}" if killed_by is None else f"signal {killed_by}"
        say(f"rank {rank} ended with {how}" + (f": {failure.type}" if failure.type else ""))
        exited = Exited(
            epoch=ranks.go.epoch,
            rank=rank,
            local_rank=local_rank,
            code=code,
            signal=killed_by,
            error_type=failure.type,
            error_message=failure.message,
            error_hash=failure.hash,
            step=step,
        )
        self._tell_and_keep(exited)

    def _matched(self, rank: int, rule: str, line: str) -> None:
        if self._ranks is None or self._is_stopping:
            return
        matched = Matched(self._ranks.go.epoch, rank, rule, line)
        if sum(isinstance(event, Matched) for event in self._events) < MAX_MATCHES_KEPT:
            self._events.append(matched)
        self._line.tell(matched)
