"""The processes of one epoch on one node: started together, each in its own session, and ended together."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Callable

from stowage_worker.agreement import Plan
from stowage_worker.children import Children
from stowage_worker.environment import SUPERVISED, Place, rank_environment, rank_of
from stowage_worker.exits import Failure, failure_of
from stowage_worker.messages import Go
from stowage_worker.output import Lines, Outlet, RankOutput, Rules, say
from stowage_worker.readings import read_some
from stowage_worker.remains import group_lives, kill_marked, send_groups, start_of

DRAIN_SECONDS = 0.5
"""How long the last words of an ended process are waited for; its children may hold the pipe open."""
LOOK_AGAIN_SECONDS = 0.02
AFTER_KILL_SECONDS = 10.0
"""A process that outlives SIGKILL for so long hangs in the kernel; nothing more can be done about it here."""
MAX_ERROR_FILE_BYTES = 1 << 20

OnExit = Callable[[int, int, int, int, Failure], None]
"""(epoch, rank, local rank, return code, exception)."""


class Ranks:
    """Processes of one epoch.

    Args:
        on_exit: told once for each process, also for those that end with 0 or because they were stopped.
        on_match: (rank, rule, line) of output that a rule of the job matches.
        watch: told each process group that is there now, and with a minus each that is gone.
    """

    def __init__(
        self,
        go: Go,
        place: Place,
        children: Children,
        outlet: Outlet,
        rules: Rules,
        on_exit: OnExit,
        on_match: Callable[[int, str, str], None],
        watch: Callable[[int], None],
    ) -> None:
        self.go = go
        self.place = place
        self.pids: dict[int, int] = {}
        """By rank; also of those that ended."""
        self.running: set[int] = set()
        """Ranks whose process has not ended."""
        self._groups: set[int] = set()
        """Process groups that may have processes; a group that is empty is forgotten: its number may be another's."""
        self._children = children
        self._watch = watch
        self._outlet = outlet
        self._rules = rules
        self._on_exit = on_exit
        self._on_match = on_match
        self._waits: list[asyncio.Task[None]] = []
        self._ends: list[asyncio.Future[None]] = []
        """Of all pipes."""

    async def start(
        self, command: Sequence[str], inherited: Mapping[str, str], own: Mapping[str, str], mark: str
    ) -> None:
        """Start all; one that cannot be started counts as ended with code 127 or 126, as a shell says it.

        Raises:
            OSError: the files of the epoch cannot be written.
        """
        self.place.directory.mkdir(parents=True, exist_ok=True)
        self.place.world.write_text(json.dumps(self.go.world))
        self.place.checkpoint_plan.write_text(Plan(self.go.checkpoint_seconds).text())
        for local_rank in range(self.go.processes_per_node):
            rank = rank_of(self.go, local_rank)
            self.place.of_rank(rank).mkdir(exist_ok=True)
            environment = rank_environment(self.go, local_rank, self.place, inherited, own)
            environment[SUPERVISED] = mark
            await self._start_one(rank, local_rank, command, environment)

    async def _start_one(self, rank: int, local_rank: int, command: Sequence[str], environment: dict[str, str]) -> None:
        output = RankOutput(rank, self._outlet, self._rules, lambda rule, line: self._on_match(rank, rule, line))
        reads, writes = zip(*(os.pipe(), os.pipe()))
        try:
            pid, ended = self._children.start(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=writes[0], stderr=writes[1]
            )
        except OSError as error:
            for descriptor in reads:
                os.close(descriptor)
            say(f"rank {rank} cannot be started: {error}")
            code = 127 if isinstance(error, FileNotFoundError) else 126
            self._on_exit(self.go.epoch, rank, local_rank, code, Failure(type(error).__name__, str(error)))
            return
        finally:
            for descriptor in writes:
                os.close(descriptor)
        self.pids[rank] = pid
        self.running.add(rank)
        self._groups.add(pid)
        self._watch(pid)
        ends = [await _follow(read, number, output) for number, read in enumerate(reads, 1)]
        self._ends += ends
        self._waits.append(asyncio.ensure_future(self._wait(rank, local_rank, ended, ends, output)))

    async def _wait(
        self,
        rank: int,
        local_rank: int,
        ended: asyncio.Future[int],
        ends: list[asyncio.Future[None]],
        output: RankOutput,
    ) -> None:
        status = await ended
        self.running.discard(rank)
        if not group_lives(self.pids[rank]):
            self._groups.discard(self.pids[rank])
            self._watch(-self.pids[rank])
        failure = Failure()
        if status > 0:
            own, torch = _text(self.place.error(rank)), _text(self.place.torch_error(rank))
            if not own and not torch:  # the traceback has to do, which is still in the pipe
                await asyncio.wait(ends, timeout=DRAIN_SECONDS)
            failure = failure_of(own, torch, list(output.error_lines))
        self._on_exit(self.go.epoch, rank, local_rank, status, failure)

    def send(self, number: int) -> None:
        """Send a signal to all processes of all ranks."""
        send_groups(self._groups, number)

    async def stop(self, grace_seconds: float, mark: str) -> None:
        """SIGTERM to all process groups, SIGKILL to those that are left after the grace, and to all that left them."""
        if await self._lives():
            self.send(signal.SIGTERM)
            self.send(signal.SIGCONT)  # a stopped process would not see it
            await self._until_gone(grace_seconds)
        self.send(signal.SIGKILL)
        kill_marked(SUPERVISED, mark)
        if not await self._until_gone(AFTER_KILL_SECONDS):
            say(f"processes of epoch {self.go.epoch} do not end after SIGKILL")
        for group in self._groups:
            self._watch(-group)
        ends: list[asyncio.Future[None]] = [*self._waits, *self._ends]
        if ends:  # last words are still in the pipes
            await asyncio.wait(ends, timeout=DRAIN_SECONDS)

    async def until_ended(self, timeout_seconds: float) -> bool:
        """Wait until all processes that were started here ended by themselves; False: some have not."""
        waits = [wait for wait in self._waits if not wait.done()]
        return not waits or not (await asyncio.wait(waits, timeout=timeout_seconds))[1]

    async def _lives(self) -> bool:
        return bool(self.running) or any(map(group_lives, self._groups))

    async def _until_gone(self, seconds: float) -> bool:
        clock = asyncio.get_running_loop().time
        deadline = clock() + seconds
        while await self._lives():
            if clock() >= deadline:
                return False
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
        return True


async def _follow(descriptor: int, number: int, output: RankOutput) -> asyncio.Future[None]:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    pipe = os.fdopen(descriptor, "rb", 0)
    await loop.connect_read_pipe(lambda: Lines(lambda line: output.take(number, line), ended), pipe)
    return ended


def _text(file: Path) -> str:
    try:
        return read_some(file, MAX_ERROR_FILE_BYTES)[0].decode("utf-8", "replace")
    except OSError:
        return ""


def write_pids(file: Path, epoch: int, pids: Mapping[int, int]) -> None:
    """Tell who runs here, for people, for local mode and for the next supervisor.

    `{"pid", "epoch", "ranks": {rank: pid}, "starts": {pid: ticks since boot}}`
    """
    starts = {pid: start_of(pid) for pid in pids.values()}
    fresh = file.with_suffix(".new")
    try:
        fresh.write_text(json.dumps({"pid": os.getpid(), "epoch": epoch, "ranks": pids, "starts": starts}))
        fresh.replace(file)
    except OSError as error:
        say(f"{file}: {error}")


def groups_left(file: Path) -> list[int]:
    """Process groups that the last supervisor of this seat started and that still are there.

    Ids are given out again: one counts only while the process that led the group lives and was started when the file
    says. What else is left of a group carries the mark.
    """
    try:
        starts = json.loads(read_some(file, MAX_ERROR_FILE_BYTES)[0])["starts"]
        return [int(pid) for pid, start in starts.items() if start is not None and start_of(int(pid)) == start]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
