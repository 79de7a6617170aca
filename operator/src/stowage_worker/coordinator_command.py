"""`python -m stowage_worker coordinator`: one job's coordinator as a process."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import queue
import resource
import signal
import sys
import threading
import time
from pathlib import Path

from stowage_worker.coordinator import Coordinator
from stowage_worker.membership_state import Now

MAX_TOKEN_BYTES = 4096
TERMINATED = 128 + signal.SIGTERM
WRONG_USE = 2
MAX_LINES_WAITING = 1000
FLUSH_SECONDS = 0.5


class PatientHandler(logging.Handler):
    """Log lines to standard error, which may be a pipe that nobody reads: the event loop never waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: queue.Queue[bytes] = queue.Queue(MAX_LINES_WAITING)
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line for the thread that writes; what does not fit is left out."""
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(self.format(record).encode(errors="replace") + b"\n")

    def flush(self) -> None:
        """Wait a little for what was kept."""
        until = time.monotonic() + FLUSH_SECONDS  # noqa: TID251  the process's edge
        while self._lines.unfinished_tasks and time.monotonic() < until:  # noqa: TID251
            time.sleep(0.01)

    def _write(self) -> None:
        while True:
            line = self._lines.get()
            with contextlib.suppress(OSError):
                os.write(2, line)  # without the lock of sys.stderr, which a full pipe would hold for ever
            self._lines.task_done()


def main(arguments: list[str]) -> int:
    """Serve until the job ends; the exit code is that of the job, 143 after SIGTERM, 2 after wrong use."""
    parser = argparse.ArgumentParser(prog="python -m stowage_worker coordinator", description=__doc__)
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on")  # noqa: S104  pods reach it
    parser.add_argument("--port", type=int, default=0, help="0: any that is free; it is printed")
    parser.add_argument("--listen", metavar="HOST:PORT", help="both at once")
    parser.add_argument("--job", default=os.environ.get("STOWAGE_JOB", ""), help="name of the job")
    parser.add_argument("--token-file", default=os.environ.get("STOWAGE_TOKEN_FILE"), help="file with the job's token")
    chosen = parser.parse_args(arguments)
    host, port = (chosen.host, chosen.port) if chosen.listen is None else _address(parser, chosen.listen)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s coordinator: %(message)s", handlers=[PatientHandler()])
    try:
        token = read_token(chosen.token_file, os.environ.get("STOWAGE_TOKEN", ""))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"the token cannot be read: {error}\n")
        return WRONG_USE
    allow_open_files()
    try:
        return asyncio.run(_serve(Coordinator(chosen.job, token, clocks), host, port))
    except OSError as error:
        sys.stderr.write(f"{host}:{port} cannot be listened on: {error}\n")
        return WRONG_USE


def _address(parser: argparse.ArgumentParser, text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        parser.error(f"--listen: HOST:PORT is needed, not {text!r}")
    return host.strip("[]"), int(port)


def read_token(file: str | None, given: str) -> str:
    """The job's token.

    Raises:
        OSError: the file cannot be read.
        ValueError: there is none, or it is too long.
    """
    token = Path(file).read_text(encoding="utf-8").strip() if file else given
    if not token:
        raise ValueError("it is empty; name a file with --token-file, or set STOWAGE_TOKEN")
    if len(token) > MAX_TOKEN_BYTES:
        raise ValueError(f"it is longer than {MAX_TOKEN_BYTES} characters")
    return token


def clocks() -> Now:
    """Both clocks of this machine."""
    return Now(time.monotonic(), time.time())  # noqa: TID251  the process's edge


def allow_open_files() -> None:
    """One connection for each supervisor: more than some machines allow at first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(coordinator: Coordinator, host: str, port: int) -> int:
    def listening(address: str, at_port: int) -> None:
        sys.stdout.write(f"listening on {address}:{at_port}\n")
        sys.stdout.flush()

    serving = asyncio.ensure_future(coordinator.run(host, port, listening))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        # training goes on without a coordinator until the next one is there
        loop.add_signal_handler(number, serving.cancel)
    try:
        return await serving
    except asyncio.CancelledError:
        return TERMINATED
