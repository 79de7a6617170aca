"""Finds and ends processes that carry a mark in their environment, also those that left their process group.

Programs such as torchrun put their children into sessions of their own: a signal to the group that was started does not
reach them. The environment that a process was started with does not change, and Linux shows it to the same user.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

_PROC = Path("/proc")


def marked(name: str, value: str, *, is_prefix: bool = False) -> list[int]:
    """Process ids of those whose environment has `name=value`, without zombies and without this process.

    Args:
        name: of the variable.
        value: all of it, or with `is_prefix` what it begins with.
        is_prefix: whether `value` is only a beginning.

    Empty where /proc is not Linux'.
    """
    needle = f"\0{name}={value}".encode() + (b"" if is_prefix else b"\0")
    found = []
    for entry in _entries():
        try:
            environment = Path(_PROC / entry / "environ").read_bytes()
        except OSError:  # gone, or somebody else's
            continue
        if needle in b"\0" + environment and int(entry) != os.getpid():
            found.append(int(entry))
    return found


def kill_marked(name: str, value: str, *, is_prefix: bool = False, rounds: int = 5) -> list[int]:
    """SIGKILL to all that are marked, again for those they started meanwhile; returns who was sent one."""
    killed: list[int] = []
    for _ in range(rounds):
        fresh = [pid for pid in marked(name, value, is_prefix=is_prefix) if pid not in killed]
        if not fresh:
            break
        send(fresh, signal.SIGKILL)
        killed += fresh
    return killed


def send(pids: Iterable[int], number: int) -> None:
    """A signal to processes, some of which may be gone."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):  # noqa: PERF203  one that is gone must not save the next
            continue


def send_groups(groups: Iterable[int], number: int) -> None:
    """A signal to process groups, some of which may be gone."""
    for group in groups:
        try:
            os.killpg(group, number)
        except (ProcessLookupError, PermissionError):  # noqa: PERF203  one that is gone must not save the next
            continue


def group_lives(group: int) -> bool:
    """Whether a process of the group is there that has not ended; one that waits to be reaped has."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not sys.platform.startswith("linux") or any(_is_of(entry, group) for entry in _entries())


def start_of(pid: int) -> int | None:
    """When a process was started, in ticks since boot: with its id, the only one; None where nobody can tell."""
    try:
        return int(Path(_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[19])
    except OSError:
        return None


def _is_of(entry: str, group: int) -> bool:
    try:
        fields = Path(_PROC / entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return False
    return int(fields[2]) == group and fields[0] not in "ZX"


def _entries() -> list[str]:
    try:
        return [entry for entry in os.listdir(_PROC) if entry.isdigit()]  # noqa: PTH208  names are needed
    except OSError:
        return []
