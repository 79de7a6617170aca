"""The supervisor as the first process of a container, among programs that mean no good."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.played_coordinator import SLEEPER, PlayedCoordinator, is_gone, played, until_gone
from harness.waiting import eventually
from stowage_worker.messages import Exited, Finished, Go, Prepare, Prepared, Started, Stop, Welcome

ADOPTING = (
    sys.executable,
    "-c",
    "import ctypes, os, sys; assert not ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])",
)
"""PR_SET_CHILD_SUBREAPER: orphans become its children, as they become those of a container's first process."""
pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes as Linux has them")


@pytest.fixture
async def coordinator(tmp_path: Path) -> AsyncIterator[PlayedCoordinator]:
    async with played(tmp_path) as coordinator:
        yield coordinator


def children_of(parent: int) -> dict[int, str]:
    """Process ids and states."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            state, of, *_ = (entry / "stat").read_text().rpartition(")")[2].split() if entry.name.isdigit() else "--"
        except OSError:
            continue
        if of == str(parent):
            found[int(entry.name)] = state
    return found


async def test_orphans_are_reaped_and_daemons_do_not_outlive_their_epoch(coordinator: PlayedCoordinator) -> None:
    coordinator.start(
        "import os, subprocess\n"
        "subprocess.run(['sh', '-c', 'for i in 1 2 3 4 5; do sleep 0.01 & done'])\n"
        "daemon = subprocess.Popen(['setsid', 'sleep', '1000'])\n"
        "open(os.environ['FOLDER'] + '/daemon.new', 'w').write(str(daemon.pid))\n"
        "os.rename(os.environ['FOLDER'] + '/daemon.new', os.environ['FOLDER'] + '/daemon')\n",
        through=ADOPTING,
    )
    await coordinator.hello()
    await coordinator.run(processes=1)
    await coordinator.hear(Finished)
    daemon = int(await coordinator.until_there("daemon"))
    assert coordinator.process is not None
    supervisor = coordinator.process.pid

    async def reaped() -> bool:
        return daemon in children_of(supervisor) and "Z" not in children_of(supervisor).values()

    await eventually(reaped, what="no zombies, and the daemon is the supervisor's")
    coordinator.say(Prepare(2, 2, 0.1))
    await coordinator.hear(Prepared)
    assert is_gone(daemon)


async def test_a_folder_that_cannot_be_written_is_told_and_the_supervisor_goes_on(
    coordinator: PlayedCoordinator,
) -> None:
    run = coordinator.folder / "run"
    run.mkdir()
    (run / "epochs").write_text("in the way, as a full disk would be")
    coordinator.start(SLEEPER)
    await coordinator.hello()
    coordinator.say(Welcome("j"))
    coordinator.say(Prepare(1, 1))
    coordinator.say(Go(1, 1, 0, 1, 2, "127.0.0.1", (await coordinator.hear(Prepared)).port))
    for rank in (0, 1):
        exited = await coordinator.hear(Exited)
        assert (exited.rank, exited.code, exited.error_type) == (rank, 126, "NotADirectoryError")
    assert (await coordinator.hear(Started)).pids == ()
    for _ in (0, 1):
        await coordinator.hear(Exited)  # once more, in order
    (run / "epochs").unlink()
    coordinator.say(Prepare(2, 2))
    coordinator.say(Go(2, 2, 0, 1, 2, "127.0.0.1", (await coordinator.hear(Prepared)).port))
    assert len((await coordinator.hear(Started)).pids) == 2


async def test_files_that_nobody_can_read_to_the_end_hold_nobody_up(coordinator: PlayedCoordinator) -> None:
    coordinator.start(
        "import os, time\n"
        "for name in ('PROGRESS', 'ERROR'): os.mkfifo(os.environ[f'STOWAGE_{name}_FILE'])\n"
        "os.symlink('/dev/zero', os.environ['TORCHELASTIC_ERROR_FILE'])\n"
        "time.sleep(.1); os._exit(3)"
    )
    await coordinator.hello()
    await coordinator.run(processes=1)
    assert (await coordinator.hear(Exited)).code == 3
    await coordinator.beat(lambda beat: beat.epoch == 1)


async def test_the_last_of_many_words_is_not_lost(coordinator: PlayedCoordinator) -> None:
    coordinator.start("import sys; sys.stdout.write('words\\n' * 50_000 + 'the last'); sys.stdout.flush()")
    await coordinator.hello()
    await coordinator.run(processes=2)
    await coordinator.hear(Finished)
    coordinator.say(Stop(0))
    assert coordinator.wait() == 0
    lines = (coordinator.folder / "output").read_text().splitlines()
    for rank in (0, 1):
        own = [line for line in lines if line.startswith(f"[{rank}] ")]
        assert (len(own), own[-1]) == (50_001, f"[{rank}] the last")


async def test_the_next_supervisor_of_a_seat_ends_what_a_guard_could_not(coordinator: PlayedCoordinator) -> None:
    coordinator.start("import os; os.execve('/bin/sleep', ['sleep', '1000'], {})")
    await coordinator.hello()
    started = await coordinator.run(processes=1)
    supervisor = coordinator.process
    assert supervisor is not None

    async def told() -> bool:
        return (coordinator.folder / "run" / "ranks.json").exists()

    await eventually(told, what="who runs is written down")
    for pid in [*children_of(supervisor.pid).keys() - set(started.pids), supervisor.pid]:  # the guard first
        os.kill(pid, signal.SIGKILL)
    supervisor.wait()
    assert not is_gone(started.pids[0])
    coordinator.start(SLEEPER)
    await coordinator.hello()
    await until_gone(*started.pids)


async def test_sigterm_ends_a_supervisor_that_finds_no_coordinator(coordinator: PlayedCoordinator) -> None:
    await coordinator.stop_serving()
    coordinator.start(SLEEPER)

    async def up() -> bool:
        return (coordinator.folder / "run" / "python").exists()

    await eventually(up, what="the supervisor is on its way")
    assert coordinator.process is not None
    coordinator.process.send_signal(signal.SIGTERM)
    assert coordinator.wait() == 143
