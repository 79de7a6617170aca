"""Reads files that programs of others write: bounded, and never waiting for a writer."""

from __future__ import annotations

import os
from pathlib import Path


def read_some(file: Path, most_bytes: int) -> tuple[bytes, float]:
    """The beginning of a file, and when it was changed last (seconds since 1970).

    A program may have put anything there, a pipe that nobody writes to as well: opening that would wait for ever.

    Raises:
        OSError: it is not there, cannot be read, or has nothing to read now.
    """
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        return os.read(descriptor, most_bytes), os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)
