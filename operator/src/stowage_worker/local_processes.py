"""The processes of a local run: one coordinator, one supervisor per node; each is started again when it dies."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from stowage_worker.children import Children
from stowage_worker.output import say
from stowage_worker.remains import send
from stowage_worker.supervisor_command import link_package, search_path

LOCAL_RUN = "STOWAGE_LOCAL_RUN"
"""Marks every process of a run."""
ADDRESS = "127.0.0.1"
AGAIN_SECONDS = 0.2
"""Times the short lives in a row before: at first a coordinator is started again at once."""
MAX_SHORT_LIVES = 10
SHORT_LIFE_SECONDS = 5.0
"""A coordinator that ends within that so often in a row will not do better the next time."""
OF_OTHERS = (-signal.SIGKILL, 128 + signal.SIGTERM)
"""How a coordinator ends that was killed from outside: where it had answered, it will answer again."""


@dataclass(frozen=True)
class LocalJob:
    """What a local run is made of."""

    command: tuple[str, ...]
    processes_per_node: int
    framework: str
    directory: Path
    """Of the run; removed at its end."""
    checkpoint_directory: Path
    token_file: Path
    """Not in the environment, which any process of the same user can read and which programs like to print."""
    run: str
    port: int
    """The coordinator's."""
    job: str = "local"
    grace_seconds: float = 30.0


class LocalProcesses:
    """Starts and ends them.

    Attributes:
        on_lost: told the seat whose supervisor died; starts another, or none.
        on_hopeless: told why the run cannot go on.
        coordinator: its process id; None while there is none.
        supervisors: process ids by seat.
        pods: what each of them calls its pod, by seat; also of those that ended.
    """

    def __init__(self, job: LocalJob, children: Children) -> None:
        self._job = job
        self._children = children
        self.on_lost: Callable[[str], None] = lambda seat: None  # noqa: ARG005
        self._environment = {
            **os.environ,
            LOCAL_RUN: job.run,
            "PYTHONPATH": search_path(link_package(job.directory), os.environ),
        }
        self.on_hopeless: Callable[[str], None] = lambda reason: None  # noqa: ARG005
        self._is_ending = False
        self._waits: set[asyncio.Task[None]] = set()
        self._short_lives = 0
        self._has_answered = False
        self.coordinator: int | None = None
        self.supervisors: dict[str, int] = {}
        self.pods: dict[str, str] = {}

    def start_coordinator(self) -> None:
        """Start it, and again whenever it ends: supervisors and commander come back to it."""
        job = self._job
        self._has_answered = False
        options = ["coordinator", "--host", ADDRESS, "--port", str(job.port), "--job", job.job]
        environment = {**self._environment, "STOWAGE_TOKEN_FILE": str(job.token_file)}
        self.coordinator, ended = self._start(options, environment, stdout=subprocess.DEVNULL)
        self._follow(self._coordinator_ended(ended, asyncio.get_running_loop().time()))

    def coordinator_answers(self) -> None:
        """It has said something."""
        self._has_answered = True

    def start_supervisor(self, seat: str) -> None:
        """Start a node's supervisor, a new one in place of one that died."""
        job = self._job
        directory = job.directory / seat
        directory.mkdir(exist_ok=True)
        self.pods[seat] = uuid.uuid4().hex
        environment = {
            **self._environment,
            "STOWAGE_COORDINATOR": f"{ADDRESS}:{job.port}",
            "STOWAGE_TOKEN_FILE": str(job.token_file),
            "STOWAGE_JOB": job.job,
            "STOWAGE_SEAT": seat,
            "STOWAGE_POD_UID": self.pods[seat],
            "STOWAGE_ADDRESS": ADDRESS,
            "STOWAGE_NODE": seat,
            "STOWAGE_PROCESSES": str(job.processes_per_node),
            "STOWAGE_FRAMEWORK": job.framework,
            "STOWAGE_CHECKPOINT_DIR": str(job.checkpoint_directory),
            "STOWAGE_GRACE_SECONDS": str(job.grace_seconds),
            "STOWAGE_RUN_DIR": str(directory),
            "STOWAGE_SUPERVISION": f"{job.run}-{seat}",
        }
        self.supervisors[seat], ended = self._start(["run", "--", *job.command], environment)
        self._follow(self._supervisor_ended(seat, self.supervisors[seat], ended))

    def give_up_supervisor(self, seat: str) -> None:
        """End one that still lives but does not answer, such as one that was stopped; its guard ends its ranks."""
        pid = self.supervisors.pop(seat)
        say(f"the supervisor of {seat} does not answer; another one takes its place")
        send([pid], signal.SIGKILL)

    def kill_coordinator(self) -> None:
        """End one that does not answer; another one is started."""
        if self.coordinator is not None:
            send([self.coordinator], signal.SIGKILL)

    async def end(self, seconds: float, told: Collection[str]) -> None:
        """Wait until all ended, and SIGKILL what is left after `seconds`.

        Args:
            seconds: for those that the coordinator tells to end.
            told: their pods. The others get SIGTERM, and the coordinator as well where it tells nobody.
        """
        self._is_ending = True
        send([pid for seat, pid in self.supervisors.items() if self.pods[seat] not in told], signal.SIGTERM)
        if not told and self.coordinator is not None:
            send([self.coordinator], signal.SIGTERM)
        if self._waits and (await asyncio.wait(self._waits, timeout=seconds))[1]:
            send(self.pids(), signal.SIGTERM)
            await asyncio.wait(self._waits, timeout=2.0)
        send(self.pids(), signal.SIGKILL)
        if self._waits:
            await asyncio.wait(self._waits, timeout=2.0)

    def kill(self) -> None:
        """End all at once; guards end what is below them."""
        send(self.pids(), signal.SIGKILL)

    def pids(self) -> list[int]:
        """Of all that run."""
        return [pid for pid in (self.coordinator, *self.supervisors.values()) if pid is not None]

    def _start(
        self, arguments: Sequence[str], environment: dict[str, str], stdout: int | None = None
    ) -> tuple[int, asyncio.Future[int]]:
        command = [sys.executable, "-m", "stowage_worker", *arguments]
        return self._children.start(command, env=environment, stdin=subprocess.DEVNULL, stdout=stdout)

    def _follow(self, waiting: object) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(waiting)  # type: ignore[call-overload]
        self._waits.add(task)
        task.add_done_callback(self._waits.discard)

    async def _coordinator_ended(self, ended: asyncio.Future[int], started_at: float) -> None:
        code = await ended
        self.coordinator = None
        if self._is_ending:
            if code in OF_OTHERS:  # it may have told nobody
                send(self.supervisors.values(), signal.SIGTERM)
            return
        is_short = asyncio.get_running_loop().time() - started_at < SHORT_LIFE_SECONDS
        is_fit = self._has_answered and code in OF_OTHERS
        self._short_lives = self._short_lives + 1 if is_short and not is_fit else 0
        if self._short_lives >= MAX_SHORT_LIVES:
            self.on_hopeless(f"the coordinator ends again and again, with code {code}")
            return
        say(f"the coordinator ended with {code}; it is started again")
        await asyncio.sleep(AGAIN_SECONDS * max(self._short_lives - 1, 0))
        if not self._is_ending:
            self.start_coordinator()

    async def _supervisor_ended(self, seat: str, pid: int, ended: asyncio.Future[int]) -> None:
        code = await ended
        if self.supervisors.get(seat) != pid:
            return  # given up before
        del self.supervisors[seat]
        if not self._is_ending:
            say(f"the supervisor of {seat} ended with {code}")
            self.on_lost(seat)
