"""A process that solves neighbourhoods for another one: `python -m stowage_scheduler.solve.worker FD`.

It is started as a program of its own, never forked, and talks over the inherited socket `FD`. It says `READY`
once it has loaded. Then come problems, each followed by any number of (changes of the placement,
neighbourhood); each of the latter is answered. When the other end is gone the process ends at once, even
in the middle of a solve.
"""

from __future__ import annotations

import os
import signal
import sys
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final

from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import Problem
from stowage_scheduler.solve.neighbourhood import prepare

READY: Final = "ready"


def serve(connection: Connection[Any, Any]) -> None:
    """Answer until the other end closes; never returns.

    Raises:
        RuntimeError: a neighbourhood came before its problem.
    """
    messages: SimpleQueue[Any] = SimpleQueue()
    Thread(target=_receive, args=(connection, messages), daemon=True).start()
    placement: Placement | None = None
    connection.send(READY)
    while True:
        message = messages.get()
        if isinstance(message, Problem):
            placement = Placement(message)
            continue
        if placement is None:
            raise RuntimeError("a neighbourhood came before its problem")
        changes, wanted = message
        for node, held in changes:
            placement.replace(node, dict(held))
        connection.send(prepare(placement, wanted).solve())


def _receive(connection: Connection[Any, Any], messages: SimpleQueue[Any]) -> None:
    """Read ahead, so that the end of the other process is noticed while this one solves."""
    while True:
        try:
            messages.put(connection.recv())
        except (EOFError, ConnectionError):
            os._exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the other end decides
    serve(Connection(int(sys.argv[1])))
