"""What all processes share: end on a signal, end with everything when one part ends, and say why in one line."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any, Final

from stowage.run import logs
from stowage.run.settings import ProcessSettings, SettingsError
from stowage.transport import ApiError, CredentialsError

EXIT_FAILED: Final = 1
EXIT_INPUT: Final = 2
EXIT_CLUSTER: Final = 3

logger = logging.getLogger(__name__)


class _StopRequested(Exception):  # noqa: N818 - no error at all
    """Somebody asked the process to end."""


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def run_parts(parts: Mapping[str, Coroutine[Any, Any, None]], stop: asyncio.Event) -> None:
    """Run the parts of a process until `stop` is set; then cancel them and wait for their end.

    Args:
        parts: by name; none of them ends by itself.
        stop: set when the process shall end.

    Raises:
        ExceptionGroup: a part ended by itself, and with it all others.
    """
    try:
        async with asyncio.TaskGroup() as group:
            for name, part in parts.items():
                group.create_task(_endless(name, part), name=name)
            group.create_task(_until(stop), name="stop")
    except* _StopRequested:
        logger.info("stopping")


async def _endless(name: str, part: Coroutine[Any, Any, None]) -> None:
    await part
    raise RuntimeError(f"{name} ended by itself")


async def _until(stop: asyncio.Event) -> None:
    """End a task group in its own way, by an exception."""
    await stop.wait()
    raise _StopRequested


def main(process: Coroutine[Any, Any, None], settings: ProcessSettings) -> int:
    """Run a process to its end; returns the exit code.

    Args:
        process: what to run.
        settings: how to log.
    """
    logs.configure(settings.log_format, settings.log_level)
    try:
        asyncio.run(process)
    except CredentialsError as error:
        logger.error("%s", error)  # noqa: TRY400 - one line for people, no traceback
        return EXIT_CLUSTER
    except (OSError, SettingsError) as error:
        logger.error("%s", error)  # noqa: TRY400
        return EXIT_INPUT
    except ExceptionGroup as group:
        for cause in _leaves(group):
            traceback = None if isinstance(cause, ApiError) else cause
            logger.error("ended: %s: %s", type(cause).__name__, cause, exc_info=traceback)  # noqa: TRY400
        return EXIT_FAILED
    return 0


def _leaves(group: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
