"""Waiting on conditions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
POLL_SECONDS = 0.1


async def eventually(condition: Callable[[], Awaitable[T]], *, timeout_seconds: float = 30.0, what: str = "") -> T:
    """Asks until the answer is true and returns it.

    An AssertionError of the condition counts as "not yet"; any other exception ends the wait at once.

    Raises:
        AssertionError: after `timeout_seconds`, with what was waited for and the last answer.
    """
    deadline = time.monotonic() + timeout_seconds  # noqa: TID251
    last: object = None
    while True:
        try:
            answer = await condition()
        except AssertionError as error:
            last = error
        else:
            if answer:
                return answer
            last = answer
        if time.monotonic() > deadline:  # noqa: TID251
            name = what or getattr(condition, "__name__", "the condition")
            raise AssertionError(f"{name}: not within {timeout_seconds:g} s; last: {last!r}")
        await asyncio.sleep(POLL_SECONDS)


async def always(condition: Callable[[], Awaitable[object]], *, for_seconds: float) -> None:
    """Asks for a while and fails at the first answer that is false."""
    deadline = time.monotonic() + for_seconds  # noqa: TID251
    while time.monotonic() < deadline:  # noqa: TID251
        assert await condition(), (
            f"{getattr(condition, '__name__', 'the condition')} did not hold for {for_seconds:g} s"
        )
        await asyncio.sleep(POLL_SECONDS)
