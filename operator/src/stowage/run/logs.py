"""Logs on standard error: one line each, for people or as JSON."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Final

from pythonjsonlogger.json import JsonFormatter

FIELDS: Final = ("key", "policy", "plan", "step", "pod", "node", "trace_id")
"""What a record may say beside its text, given as `extra=`; `trace_id` comes by itself within `traced`."""

_trace: Final[ContextVar[str]] = ContextVar("trace", default="")

QUIET: Final = ("kopf", "aiohttp.access", "asyncio", "aiohttp_retry")
ALONE: Final = "kopf._core.reactor.running"  # warns that it does not handle signals: as wanted


@contextlib.contextmanager
def traced(trace: str) -> Iterator[None]:
    """Give every record of the block the trace of a decision, those of the functions and tasks it calls too."""
    token = _trace.set(trace)
    try:
        yield
    finally:
        _trace.reset(token)


class HumanFormatter(logging.Formatter):
    """`time level text  field=value …`, times in UTC."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%SZ")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name logging calls
        """The line, before any traceback."""
        fields = [f"{name}={getattr(record, name)}" for name in FIELDS if hasattr(record, name)]
        line = "  ".join([super().formatMessage(record), *fields])
        return line if line.isprintable() else "".join(map(_shown, line))  # what others said may hold lines of its own


def _shown(character: str) -> str:
    """A character as it is, or as Python writes it where it would move the cursor or end the line."""
    return character if character.isprintable() else ascii(character)[1:-1]


def formatter(log_format: str) -> logging.Formatter:
    """The formatter named `human` or `json`."""
    if log_format == "json":
        return JsonFormatter(
            "{asctime}{levelname}{name}{message}",
            style="{",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            datefmt="%Y-%m-%dT%H:%M:%S%z",
        )
    return HumanFormatter()


def in_one_line(record: logging.LogRecord) -> bool:
    """Keep tracebacks of kopf out: it logs each failed watch with one, and its last line says it all."""
    if record.name.startswith("kopf"):
        record.exc_info = record.exc_text = None
    return True


def with_trace(record: logging.LogRecord) -> bool:
    """Let a record say which decision it belongs to."""
    trace = _trace.get()
    if trace:
        record.trace_id = trace
    return True


def configure(log_format: str, log_level: str) -> None:
    """Send all logs of the process to standard error; libraries below warnings stay quiet."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(log_format))
    handler.addFilter(in_one_line)
    handler.addFilter(with_trace)
    logging.basicConfig(level=log_level.upper(), handlers=[handler], force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger(ALONE).setLevel(logging.ERROR)
