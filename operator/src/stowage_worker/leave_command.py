"""`python -m stowage_worker leave`: the preStop hook of a training container.

The job makes a checkpoint before the container is stopped: at an eviction, a drain, a move by the packer, a shutdown of
the node, whoever asks for it. Where nothing runs, or no rank asks whether a checkpoint is due, it lets go at once; it
ends with code 0 in any case, for a hook that fails stops nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from stowage_worker.codec import TO_LEAVER
from stowage_worker.environment import SUPERVISED
from stowage_worker.messages import Leave, MayLeave, MessageError, Refused
from stowage_worker.output import say
from stowage_worker.supervisor_command import UsageError, address_of, token_of
from stowage_worker.wire import Backoff, dial

DEFAULT_SECONDS = 20.0
FIND_SECONDS = 6.0
"""A coordinator that was evicted with this pod may be there again so soon."""


def main(arguments: Sequence[str]) -> int:
    """Ask for a checkpoint of the job, and wait until it is committed; settings come from `STOWAGE_…` variables."""
    parser = argparse.ArgumentParser(prog="python -m stowage_worker leave", description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=DEFAULT_SECONDS, help="the longest to wait (default 20)")
    options = parser.parse_args(arguments)
    if not ranks_run(Path("/proc")):
        return 0
    try:
        outcome = asyncio.run(asyncio.wait_for(leave(os.environ, options.seconds), options.seconds))
    except asyncio.TimeoutError:
        outcome = f"nothing heard within {options.seconds:g} s"
    except UsageError as error:
        outcome = str(error)
    say(outcome)
    return 0


async def leave(environment: Mapping[str, str], seconds: float) -> str:
    """What came of it, in words.

    Raises:
        UsageError: a variable is missing or wrong.
    """
    host, port = address_of(environment)
    hello = Leave(
        token_of(environment), environment.get("STOWAGE_SEAT", ""), environment.get("STOWAGE_POD_UID", ""), seconds
    )
    clock = asyncio.get_running_loop().time
    backoff = Backoff(random.Random())  # noqa: S311  jitter
    give_up = clock() + FIND_SECONDS
    while True:
        try:
            connection = await dial(host, port)
            try:
                connection.send(hello)
                answer = await connection.receive(TO_LEAVER)
            finally:
                connection.abort()
        except (OSError, MessageError) as error:
            answer, words = None, str(error)
        else:
            words = "the coordinator has ended the connection"
        if isinstance(answer, MayLeave) and not (answer.again and clock() < give_up):
            return f"checkpoint of step {answer.step}" if answer.step >= 0 else f"no checkpoint: {answer.reason}"
        if isinstance(answer, Refused) or clock() >= give_up:
            return f"no checkpoint: {answer.reason if answer is not None else words}"
        await asyncio.sleep(backoff.next_seconds())


def ranks_run(processes: Path) -> bool:
    """Whether processes below a supervisor run here; True where that cannot be seen."""
    needle = f"\0{SUPERVISED}=".encode()
    try:
        entries = [entry for entry in processes.iterdir() if entry.name.isdecimal()]
    except OSError:
        return True
    found = [needle in b"\0" + environment for environment in map(_environment, entries) if environment]
    return any(found) or not found


def _environment(process: Path) -> bytes:
    """Of a process; nothing of one that has ended, or is another user's."""
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return b""
