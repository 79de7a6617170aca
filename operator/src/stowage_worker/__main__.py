"""`python -m stowage_worker run | coordinator | local | leave | install`."""

import sys

if sys.version_info < (3, 9):  # noqa: UP036  an image's own; this file is read by all of them
    sys.exit("[stowage] the image has to bring Python 3.9 or newer as python3; this one is " + sys.version.split()[0])

import os
import signal
from importlib import import_module
from pathlib import Path

COMMANDS = {
    "run": ("supervisor_command", "supervise a program in a training pod: run -- <command>"),
    "coordinator": ("coordinator_command", "hold the membership of one job"),
    "local": ("local_command", "run a job with several nodes on this machine: local --nodes 3 -- <command>"),
    "leave": ("leave_command", "let the job make a checkpoint before this pod is stopped: the preStop hook"),
    "install": ("install", "copy this package into a folder: install DIR"),
}

LAST_STANDARD = 2
"""The number of standard error."""


def main(arguments: list[str]) -> int:
    """Run one of the commands; its exit code."""
    opened = os.open(os.devnull, os.O_RDWR)
    while opened <= LAST_STANDARD:  # a standard stream was closed; nothing of ours may get its number
        opened = os.open(os.devnull, os.O_RDWR)
    os.close(opened)
    # the first process of a container would not even see it before there is a handler; asyncio's comes later
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    if arguments[:1] and arguments[0] in COMMANDS:
        module = import_module(f"stowage_worker.{COMMANDS[arguments[0]][0]}")
        return int(module.main(arguments[1:]))
    is_help = arguments[:1] in (["-h"], ["--help"])
    lines = [f"  {name:12} {text}" for name, (_, text) in COMMANDS.items()]
    print(
        "\n".join(["usage: python -m stowage_worker COMMAND …", "", *lines]), file=sys.stdout if is_help else sys.stderr
    )
    return 0 if is_help else 2


if __name__ == "__main__":
    if not __package__:  # started as a folder: `python /stowage/stowage_worker run …`
        sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    sys.exit(main(sys.argv[1:]))
