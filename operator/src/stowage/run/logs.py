"""Logs on standard error: one line each, for people or as JSON."""

from __future__ import annotations

import logging
import sys
import time
from typing import Final

from pythonjsonlogger.json import JsonFormatter

FIELDS: Final = ("key", "policy", "plan", "step", "pod", "node")
"""What a record may say beside its text, given as `extra=`."""

QUIET: Final = ("kopf", "aiohttp.access", "asyncio", "aiohttp_retry")
ALONE: Final = "kopf._core.reactor.running"  # warns that it does not handle signals: as wanted


class HumanFormatter(logging.Formatter):
    """`time level text  field=value …`, times in UTC."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%SZ")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name logging calls
        """The line, before any traceback."""
        fields = [f"{name}={getattr(record, name)}" for name in FIELDS if hasattr(record, name)]
        return "  ".join([super().formatMessage(record), *fields])


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


def configure(log_format: str, log_level: str) -> None:
    """Send all logs of the process to standard error; libraries below warnings stay quiet."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(log_format))
    handler.addFilter(in_one_line)
    logging.basicConfig(level=log_level.upper(), handlers=[handler], force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger(ALONE).setLevel(logging.ERROR)
