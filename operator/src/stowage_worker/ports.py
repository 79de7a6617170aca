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

    def __init__(self, number: int, lock: int | None) -> None:
        self.number = number
        self._lock: int | None = lock

    def release(self) -> None:
        """Let others have it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def take_port(generator: random.Random, directory: Path | None = None) -> Port:
    """A port that is free on all addresses of this machine, kept from others who take ports this way.

    Where no folder can be written, as in a container with a read-only root, ports are not kept: it is alone there.

    Raises:
        OSError: none was found.
    """
    folder = _folder(directory)
    for _ in range(TRIES):
        number = generator.randint(FIRST_PORT, LAST_PORT)
        lock = None
        if folder is not None:
            try:
                lock = _locked(folder / str(number))
            except OSError:  # somebody else has it
                continue
        if is_free(number):
            return Port(number, lock)
        if lock is not None:
            os.close(lock)
    raise OSError(f"no free port from {FIRST_PORT} to {LAST_PORT} after {TRIES} tries")


def _folder(directory: Path | None) -> Path | None:
    """For the locks; None: there is none that is ours."""
    try:
        folder = directory or Path(tempfile.gettempdir()) / f"stowage-ports-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        is_ours = folder.lstat().st_uid == os.getuid() and os.access(folder, os.W_OK)
    except OSError:
        return None
    return folder if is_ours else None


def _locked(file: Path) -> int:
    lock = os.open(file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock


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
