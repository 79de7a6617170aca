"""Free ports that no other supervisor of this machine gives out: each is kept by a lock on a file.

A port that the kernel names for a moment may be anybody's outgoing connection before rank 0 listens on it. So ports
come from below the range of outgoing connections, and a lock, which ends with its process, keeps two jobs apart.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

FIRST_PORT, LAST_PORT = 20000, 29499
"""Below Linux' range of outgoing connections (32768 and up) and of node ports (30000 and up)."""
TRIES = 200


class Port:
    """A port that is this process's until `release`."""

    def __init__(self, number: int, lock: int) -> None:
        self.number = number
        self._lock: int | None = lock

    def release(self) -> None:
        """Let others have it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def take_port(generator: random.Random, directory: Path | None = None) -> Port:
    """A port that is free on all addresses of this machine, kept from others who take ports this way.

    Raises:
        OSError: none was found.
    """
    folder = directory or Path(tempfile.gettempdir()) / f"stowage-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.getuid():
        raise OSError(f"{folder} belongs to somebody else")
    for _ in range(TRIES):
        number = generator.randint(FIRST_PORT, LAST_PORT)
        lock = os.open(folder / str(number), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            continue
        if is_free(number):
            return Port(number, lock)
        os.close(lock)
    raise OSError(f"no free port from {FIRST_PORT} to {LAST_PORT} after {TRIES} tries")


def is_free(number: int) -> bool:
    """Whether nobody listens on the port, on any address."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", number))
            probe.listen(1)
        except OSError:
            return False
    return True
