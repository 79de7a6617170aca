"""A small process that ends what a supervisor started, when the supervisor itself is killed.

It waits for the end of its standard input, which only the supervisor holds open, and then kills all processes with the
mark. A parent-death signal would reach only direct children, and is lost when a program changes its user.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys


class Guard:
    """Started before the first process; `close` when nothing is left to guard."""

    def __init__(self, name: str, value: str, *directories: str) -> None:
        environment = {"PYTHONPATH": _package_parent(), "PATH": os.environ.get("PATH", "")}
        self._process = subprocess.Popen(  # noqa: S603  our own program
            [sys.executable, "-S", "-m", "stowage_worker.guard", name, value, *directories],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Of the guarding process."""
        return self._process.pid

    def watch(self, group: int) -> None:
        """Let it kill a process group as well, whatever its processes did to their environment; minus: no more."""
        try:
            os.write(self._process.stdin.fileno(), b"%d\n" % group)  # type: ignore[union-attr]  # a pipe was asked for
        except OSError:  # killed from outside
            return

    def close(self) -> None:
        """Let it do its work and end."""
        assert self._process.stdin is not None  # noqa: S101  a pipe was asked for
        self._process.stdin.close()
        self._process.wait()


def main(arguments: list[str]) -> int:
    """Wait for the end of standard input; then kill what is marked, and remove the folder if one is named."""
    from stowage_worker.remains import kill_marked, send_groups  # noqa: PLC0415  the parent needs it too, this process only here

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:  # a process group to look after, or with a minus one that is no more
        group = int(line)
        if group > 0:
            groups.add(group)
        else:
            groups.discard(-group)
    send_groups(groups, signal.SIGKILL)
    kill_marked(arguments[0], arguments[1])
    for directory in arguments[2:]:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


def _package_parent() -> str:
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120  quick to start


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
