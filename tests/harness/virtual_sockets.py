"""Clients and servers in virtual time, with real sockets between them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualSocketLoop(asyncio.SelectorEventLoop):
    """A loop that starts at 0 s and moves its clock to the next timer once no socket has anything to tell.

    What is written to a Unix socket can be read at once, so both ends in one loop give the same run each time.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seconds = 0.0
        select = self._selector.select  # type: ignore[attr-defined]

        def jump(timeout: float | None = None) -> Any:
            if found := select(0):
                return found
            if timeout is None:
                raise AssertionError("every task waits, no socket has anything to tell and no timer will wake one")
            self._seconds += timeout
            return found

        self._selector.select = jump  # type: ignore[attr-defined]

    def time(self) -> float:
        return self._seconds


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualSocketLoop) as runner:
        return runner.run(coroutine)
