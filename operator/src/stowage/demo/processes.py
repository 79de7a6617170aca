"""Processes beside a local cluster: started with their output in a file, recorded, ended by their process id alone."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from stowage_worker.ports import Port, take_port

END_TIMEOUT_SECONDS = 10.0
POLL_SECONDS = 0.05
_PORTS_KEPT = 100  # whoever listens on one that was given before these does so by now
_given: deque[Port] = deque()


class ProcessError(Exception):
    """A process did not start or ended by itself; the message names it, its log and the end of that log."""


class ManagedProcess:
    """A child process. As a context manager it ends with the block; else see `stop_recorded`."""

    def __init__(self, name: str, child: subprocess.Popen[bytes], log_file: Path, pid_file: Path) -> None:
        self.name = name
        self.log_file = log_file
        self._child = child
        self._pid_file = pid_file

    @classmethod
    def start(
        cls,
        name: str,
        command: Sequence[str | Path],
        *,
        folder: Path,
        logs: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> ManagedProcess:
        """Starts a program; its output goes to `logs`/`name`.log, its process id to `folder`/pids/`name`.

        Args:
            name: of the process within the folder; names files.
            command: the program and its arguments; no shell reads them.
            folder: the cluster's folder.
            logs: folder of the log; None: `folder`/logs.
            environment: variables beside those of this process.
        """
        log_file = (logs or folder / "logs") / f"{name}.log"
        pid_file = folder / "pids" / name
        for file in (log_file, pid_file):
            file.parent.mkdir(parents=True, exist_ok=True)
        with log_file.open("ab") as log:
            # its own process group: Ctrl-C at a terminal is for the starter, who then ends its children in order
            child = subprocess.Popen(  # noqa: S603
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        # a process id is used again after a while: the start time tells whether it is still this process
        pid_file.write_text(f"{child.pid} {_started_at(child.pid)}\n", encoding="utf-8")
        return cls(name, child, log_file, pid_file)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, None while the process runs; negative: the signal that ended it."""
        return self._child.poll()

    def wait_until_serving(self, url: str, *, timeout_seconds: float = 30.0) -> None:
        """Waits until a GET of `url` answers 200.

        Raises:
            ProcessError: the process ended, or the time is over.
        """
        deadline = time.monotonic() + timeout_seconds  # noqa: TID251
        while not _answers(url):
            if self.exit_code is not None:
                raise ProcessError(f"{self.name} ended with exit code {self.exit_code}: {self.log_tail()}")
            if time.monotonic() > deadline:  # noqa: TID251
                raise ProcessError(f"{self.name} does not answer at {url}: {self.log_tail()}")
            time.sleep(POLL_SECONDS)

    def log_tail(self, lines: int = 20) -> str:
        """The path of the log and its last lines."""
        text = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join([str(self.log_file), *text[-lines:]])

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal (for tests of crashes and pauses)."""
        self._child.send_signal(number)

    def wait(self, timeout_seconds: float) -> int:
        """Waits for the process to end by itself; the exit code.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        return self._child.wait(timeout_seconds)

    def stop(self) -> int:
        """Ends the process: SIGTERM, after 10 s SIGKILL. Returns the exit code; safe to call again."""
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(END_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        self._pid_file.unlink(missing_ok=True)
        return self._child.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def is_running(folder: Path, name: str) -> bool:
    """Whether a process that was recorded under that name in a cluster's folder still runs."""
    try:
        pid, started_at = (int(part) for part in (folder / "pids" / name).read_text(encoding="utf-8").split())
    except (FileNotFoundError, ValueError):
        return False
    return bool(started_at) and _started_at(pid) == started_at


def stop_recorded(folder: Path) -> None:
    """Ends the processes that `ManagedProcess.start` recorded in a cluster's folder and whose starter is gone."""
    for pid_file in sorted((folder / "pids").glob("*")):
        # kwokctl keeps process ids here too, of another form; those are its own to end
        if is_running(folder, pid_file.name):
            _end(int(pid_file.read_text(encoding="utf-8").split()[0]))
            pid_file.unlink(missing_ok=True)


def free_port() -> int:
    """A TCP port that nobody listens on now, and that nobody else who asks here or for jobs is given for a while."""
    _given.append(take_port(random.Random()))  # noqa: S311 - no secret
    if len(_given) > _PORTS_KEPT:
        _given.popleft().release()
    return _given[-1].number


def _end(pid: int) -> None:
    started_at = _started_at(pid)
    for number, seconds in ((signal.SIGTERM, END_TIMEOUT_SECONDS), (signal.SIGKILL, END_TIMEOUT_SECONDS)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + seconds  # noqa: TID251
        while time.monotonic() < deadline:  # noqa: TID251
            if _started_at(pid) != started_at:
                return
            time.sleep(POLL_SECONDS)


def _started_at(pid: int) -> int:
    """When a process was started, in clock ticks since boot; 0 if there is none or it is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    # the second field, the program's name in parentheses, may hold blanks
    fields = stat.rpartition(")")[2].split()
    return 0 if fields[0] == "Z" else int(fields[19])


def _answers(url: str) -> bool:
    # the certificate of a component is its own, made at its start; what is asked for is no secret
    context = ssl._create_unverified_context() if url.startswith("https:") else None  # noqa: S323, SLF001
    try:
        with urllib.request.urlopen(url, timeout=2, context=context) as reply:  # noqa: S310
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False
