"""`python -m stowage_worker run -- <command>`: the supervisor, set up from its environment."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from stowage_worker.environment import FRAMEWORKS
from stowage_worker.supervisor import Settings, Supervisor

DEFAULT_GRACE_SECONDS = 25.0
"""Below the 30 s that Kubernetes gives a pod by default."""
PROBE_BYTES = 1 << 18
FORWARDED = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)


class UsageError(ValueError):
    """A setting that is missing or wrong: names it."""


def main(arguments: Sequence[str]) -> int:
    """Start a program's ranks when the coordinator says so; settings come from `STOWAGE_…` variables."""
    parser = argparse.ArgumentParser(prog="python -m stowage_worker run", description=main.__doc__)
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and the program with its arguments")
    command = command_line(parser.parse_args(arguments).command)
    try:
        directory = run_directory(os.environ)
    except UsageError as error:
        parser.error(str(error))
    try:
        return asyncio.run(_run(settings_of(os.environ, command, directory)))
    except UsageError as error:
        parser.error(str(error))
    finally:
        if "STOWAGE_RUN_DIR" not in os.environ:
            shutil.rmtree(directory, ignore_errors=True)


def settings_of(environment: Mapping[str, str], command: Sequence[str], directory: Path) -> Settings:
    """The supervisor's settings.

    Raises:
        UsageError: one is missing or wrong.
    """
    if not command:
        raise UsageError("no program is given; write it after --")
    host, port = address_of(environment)
    framework = environment.get("STOWAGE_FRAMEWORK", "Plain")
    if framework not in FRAMEWORKS:
        raise UsageError(f"STOWAGE_FRAMEWORK={framework}: one of {', '.join(FRAMEWORKS)} is needed")
    seat = environment.get("STOWAGE_SEAT", "")
    if not seat:
        raise UsageError("STOWAGE_SEAT is missing")
    return Settings(
        host=host,
        port=port,
        token=token_of(environment),
        seat=seat,
        pod=environment.get("STOWAGE_POD_UID") or uuid.uuid4().hex,
        address=environment.get("STOWAGE_ADDRESS") or socket.gethostname(),
        node=environment.get("STOWAGE_NODE", ""),
        processes=int(_number(environment, "STOWAGE_PROCESSES", 1)),
        command=tuple(command),
        directory=directory,
        mark=environment.get("STOWAGE_SUPERVISION") or uuid.uuid4().hex,
        grace_seconds=_number(environment, "STOWAGE_GRACE_SECONDS", DEFAULT_GRACE_SECONDS),
        own={
            "STOWAGE_JOB": environment.get("STOWAGE_JOB", ""),
            "STOWAGE_SEAT": seat,
            "STOWAGE_FRAMEWORK": framework,
            "PYTHONPATH": search_path(link_package(directory), environment),
        },
    )


def address_of(environment: Mapping[str, str]) -> tuple[str, int]:
    """Host and port of the coordinator.

    Raises:
        UsageError: there are none.
    """
    host, _, port = environment.get("STOWAGE_COORDINATOR", "").rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError("STOWAGE_COORDINATOR has to be host:port")
    return host.strip("[]"), int(port)


def run_directory(environment: Mapping[str, str]) -> Path:
    """For progress files and the like: in memory where possible, so that a report costs microseconds on any disk.

    Raises:
        UsageError: no folder can be written.
    """
    told = environment.get("STOWAGE_RUN_DIR")
    if told:
        try:
            Path(told).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"STOWAGE_RUN_DIR: {error}") from None
        return Path(told)
    memory = "/dev/shm"  # noqa: S108  a folder of our own is made below it
    with contextlib.suppress(OSError):  # not there, full, or not for this user
        folder = Path(tempfile.mkdtemp(prefix="stowage-", dir=memory))
        if _has_room(folder):
            return folder
    try:
        return Path(tempfile.mkdtemp(prefix="stowage-"))
    except OSError as error:
        raise UsageError(f"{error}, nor can {memory} be written: mount an emptyDir at /tmp") from None


def _has_room(folder: Path) -> bool:
    """Whether some files fit; a folder alone fits into a full file system too."""
    try:
        (folder / "probe").write_bytes(bytes(PROBE_BYTES))
        (folder / "probe").unlink()
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        return False
    return True


def link_package(directory: Path) -> Path:
    """A folder for `PYTHONPATH` that holds this package and nothing else."""
    folder = directory / "python"
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "stowage_worker"
    if not link.exists():
        link.symlink_to(Path(__file__).resolve().parent, target_is_directory=True)
    return folder


def search_path(folder: Path, inherited: Mapping[str, str]) -> str:
    """`PYTHONPATH` with our folder last: user programs' own modules come first."""
    return os.pathsep.join(part for part in (inherited.get("PYTHONPATH", ""), str(folder)) if part)


def command_line(arguments: Sequence[str]) -> tuple[str, ...]:
    """What stands behind `--`."""
    return tuple(arguments[1:] if arguments[:1] == ["--"] else arguments)


async def _run(settings: Settings) -> int:
    supervisor = Supervisor(settings, random.Random())  # noqa: S311  jitter and ports
    loop = asyncio.get_running_loop()
    ends: set[asyncio.Task[None]] = set()
    loop.add_signal_handler(signal.SIGINT, supervisor.end, 128 + signal.SIGINT)
    loop.add_signal_handler(
        signal.SIGTERM, lambda: ends.add(asyncio.ensure_future(supervisor.leave(128 + signal.SIGTERM)))
    )
    for number in FORWARDED:
        loop.add_signal_handler(number, supervisor.forward, number)
    return await supervisor.run()


def token_of(environment: Mapping[str, str]) -> str:
    """The job's token.

    Raises:
        UsageError: its file cannot be read.
    """
    file = environment.get("STOWAGE_TOKEN_FILE")
    if not file:
        return environment.get("STOWAGE_TOKEN", "")
    try:
        return Path(file).read_text().strip()
    except OSError as error:
        raise UsageError(f"STOWAGE_TOKEN_FILE: {error}") from None


def _number(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name) or str(default)
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if number < 0:
        raise UsageError(f"{name}={text}: a number of at least 0 is needed")
    return number
