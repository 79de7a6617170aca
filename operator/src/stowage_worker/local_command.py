"""`python -m stowage_worker local --nodes 3 --processes-per-node 2 -- python train.py`: a whole job on one machine."""

from __future__ import annotations

import argparse
import asyncio
import errno
import fcntl
import os
import random
import re
import secrets
import shutil
import signal
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path

from stowage_worker.children import Children
from stowage_worker.environment import FRAMEWORKS
from stowage_worker.guard import Guard
from stowage_worker.local_processes import LOCAL_RUN, LocalJob, LocalProcesses
from stowage_worker.local_run import LocalRun, Wishes
from stowage_worker.messages import HangRule
from stowage_worker.ports import take_port
from stowage_worker.supervisor_command import UsageError, command_line, run_directory

LEAST_INTERVAL_SECONDS = 0.1


def main(arguments: Sequence[str]) -> int:
    """Run a job with several nodes on this machine: one supervisor process per node, and a coordinator."""
    options = _parser().parse_args(arguments)
    command = command_line(options.command)
    if not command:
        _parser().error("no program is given; write it after --")
    min_nodes = options.min_nodes or options.nodes
    if min_nodes > options.nodes:
        _parser().error("--min-nodes is more than --nodes")
    if options.status_file is not None and not options.status_file.absolute().parent.is_dir():
        _parser().error(f"--status-file: {options.status_file.absolute().parent} is no folder")
    if options.status_file is not None and options.status_file.is_dir():
        _parser().error(f"--status-file: {options.status_file} is a folder")
    told = options.checkpoint_dir or os.environ.get("STOWAGE_CHECKPOINT_DIR")
    try:
        checkpoints = Path(told).absolute() if told else Path(tempfile.mkdtemp(prefix="stowage-checkpoints-"))
        lock = lock_of(checkpoints)
    except OSError as error:
        _parser().error(f"--checkpoint-dir: {error}")
    if lock is None:
        _parser().error(f"--checkpoint-dir: another run writes to {checkpoints}")
    try:
        directory = run_directory({})
    except UsageError as error:
        _parser().error(str(error))
    wishes = Wishes(
        nodes=options.nodes,
        min_nodes=min_nodes,
        restarts=options.restarts,
        status_file=options.status_file,
        hang=HangRule(floor_seconds=options.hang_seconds) if options.hang_seconds else None,
        checkpoint_seconds=options.checkpoint_interval,
        first_attempt=last_attempt(checkpoints) + 1,
    )
    try:
        return asyncio.run(_run(options, command, directory, checkpoints, wishes))
    finally:
        os.close(lock)
        shutil.rmtree(directory, ignore_errors=True)
        if not told:
            shutil.rmtree(checkpoints, ignore_errors=True)


def lock_of(checkpoints: Path) -> int | None:
    """Keep the folder for this process until the descriptor is closed; None: another run has it.

    Two runs would count the same attempts and write the same paths.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    checkpoints.mkdir(parents=True, exist_ok=True)
    lock = os.open(checkpoints / ".stowage-lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    except OSError as error:  # a file system without locks
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    return lock


def last_attempt(checkpoints: Path) -> int:
    """The highest attempt that has a folder there: a job that goes on may not write into what another run wrote."""
    found = (re.fullmatch(r"attempt-(\d{1,9})", entry.name) for entry in _entries(checkpoints))
    return max((int(one[1]) for one in found if one), default=0)


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


async def _run(
    options: argparse.Namespace, command: tuple[str, ...], directory: Path, checkpoints: Path, wishes: Wishes
) -> int:
    generator = random.Random()  # noqa: S311  jitter and ports
    port = take_port(generator)
    is_kept = bool(options.checkpoint_dir or os.environ.get("STOWAGE_CHECKPOINT_DIR"))
    job = LocalJob(
        command=command,
        processes_per_node=options.processes_per_node,
        framework=options.framework,
        directory=directory,
        checkpoint_directory=checkpoints,
        token_file=_write_token(directory / "token"),
        run=uuid.uuid4().hex,
        port=port.number,
        grace_seconds=options.grace,
    )
    guard = Guard(LOCAL_RUN, job.run, str(directory), *([] if is_kept else [str(checkpoints)]))
    children = Children()
    processes = LocalProcesses(job, children)
    run = LocalRun(job, wishes, processes, generator)
    processes.on_lost = run.lose
    processes.on_hopeless = run.give_up
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup's wish counts
            loop.add_signal_handler(number, run.interrupt, number)
    try:
        return await run.run()
    finally:
        guard.close()  # nothing of the run is left, whatever it did
        children.close()
        port.release()


def _write_token(file: Path) -> Path:
    """Into a file for this user alone: environments are printed and can be read from outside."""
    with os.fdopen(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as opened:
        opened.write(secrets.token_hex(16))
    return file


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m stowage_worker local", description=main.__doc__, usage="%(prog)s [options] -- program …"
    )
    add = parser.add_argument
    add("--nodes", type=_count, default=1, metavar="N", help="supervisors (default 1)")
    add("--processes-per-node", type=_count, default=1, metavar="N", help="ranks per node (default 1)")
    add("--min-nodes", type=_count, metavar="N", help="go on with so many when supervisors cannot be started again")
    add("--framework", choices=FRAMEWORKS, default="Torch", help="whose variables ranks find (default Torch)")
    add("--restarts", type=_not_negative, default=10, metavar="N", help="of all ranks, after failures (default 10)")
    add("--status-file", type=Path, metavar="FILE", help="epoch, attempt, phase, worldSize, … as JSON")
    add("--checkpoint-dir", metavar="DIR", help="STOWAGE_CHECKPOINT_DIR of ranks (default: a folder for this run)")
    add("--checkpoint-interval", type=_interval, metavar="SECONDS|Auto", help="told to programs (default Auto)")
    add("--grace", type=_seconds, default=30.0, metavar="SECONDS", help="from SIGTERM to SIGKILL at the end")
    add("--hang-seconds", type=_seconds, default=60.0, metavar="SECONDS", help="least time without a step; 0: for ever")
    add("command", nargs=argparse.REMAINDER, help="-- and the program with its arguments")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 1000:
        raise argparse.ArgumentTypeError("a number from 1 to 1000 is needed")
    return number


def _not_negative(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("a number of at least 0 is needed")
    return number


def _interval(text: str) -> float | None:
    return None if text == "Auto" else max(_seconds(text), LEAST_INTERVAL_SECONDS)


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number < 1e9:
        raise argparse.ArgumentTypeError("seconds of at least 0 are needed")
    return number
