"""An event loop whose clock jumps: an hour of waiting takes no time, and every run is the same."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop that starts at 0 s and, when all tasks wait, moves its clock to the next timer.

    Nothing outside the loop may be waited for: with no timer left, the run fails instead of hanging.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seconds = 0.0
        select = self._selector.select  # type: ignore[attr-defined]

        def jump(timeout: float | None = None) -> Any:
            if timeout is None:
                raise AssertionError("every task waits and no timer will wake one")
            self._seconds += timeout
            return select(0)

        self._selector.select = jump  # type: ignore[attr-defined]

    def time(self) -> float:
        return self._seconds


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(coroutine)


def now() -> float:
    """Seconds since the start of the virtual time of this run."""
    return asyncio.get_running_loop().time()
