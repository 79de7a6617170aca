"""Waiting on conditions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from stowage.transport.errors import ApiUnavailable

T = TypeVar("T")
POLL_SECONDS = 0.1
PATIENCE_SECONDS = 90.0
"""Longer than the minute after which the operator finds by itself what it was not told, some stalls included."""


async def eventually(
    condition: Callable[[], Awaitable[T]], *, timeout_seconds: float = PATIENCE_SECONDS, what: str = ""
) -> T:
    """Asks until the answer is true and returns it.

    An AssertionError of the condition counts as "not yet", and so does an API server that did not answer; any other
    exception ends the wait at once.

    Raises:
        AssertionError: after `timeout_seconds`, with what was waited for and the last answer.
    """
    deadline = time.monotonic() + timeout_seconds  # noqa: TID251
    last: object = None
    while True:
        try:
            answer = await condition()
        except (AssertionError, ApiUnavailable) as error:
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
    """Asks for a while, once at least, and fails at the first answer that is false."""
    name = getattr(condition, "__name__", "the condition")
    deadline = time.monotonic() + for_seconds  # noqa: TID251
    is_answered = False
    while time.monotonic() < deadline or not is_answered:  # noqa: TID251
        try:
            assert await condition(), f"{name} did not hold for {for_seconds:g} s"
            is_answered = True
        except ApiUnavailable:
            if time.monotonic() > deadline + PATIENCE_SECONDS:  # noqa: TID251
                raise
        await asyncio.sleep(POLL_SECONDS)
