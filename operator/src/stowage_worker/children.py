"""Child processes of this process, and orphans that become its children when it is PID 1 of a container."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Any


async def cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel and wait, again where Python 3.9's `wait_for` swallowed it because its own wait ended in that moment."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=0.2)


class Children:
    """Starts processes and tells how each ended; whatever else ends is reaped.

    One per process, within a running loop: it listens to SIGCHLD.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended: dict[int, tuple[subprocess.Popen[bytes], asyncio.Future[int]]] = {}
        self._loop.add_signal_handler(signal.SIGCHLD, self.reap)

    def start(self, command: Sequence[str], **options: Any) -> tuple[int, asyncio.Future[int]]:  # noqa: ANN401  those of Popen
        """Start a process in a session of its own; its id, and its return code once it ended (signals are negative).

        Raises:
            OSError: it cannot be started.
        """
        process = subprocess.Popen(list(command), start_new_session=True, **options)  # noqa: S603  the user's program
        ended: asyncio.Future[int] = self._loop.create_future()
        self._ended[process.pid] = (process, ended)
        return process.pid, ended

    def reap(self) -> None:
        """Take the state of all that ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in self._ended:
                process, ended = self._ended.pop(pid)
                process.returncode = os.waitstatus_to_exitcode(status)
                ended.set_result(process.returncode)

    def close(self) -> None:
        """Listen no more."""
        self._loop.remove_signal_handler(signal.SIGCHLD)
