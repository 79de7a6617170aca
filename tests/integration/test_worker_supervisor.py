"""The supervisor as a real process against a coordinator that the test plays."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.played_coordinator import SLEEPER, PlayedCoordinator, is_gone, played, until_gone
from stowage_worker.install import main as install
from stowage_worker.messages import (
    Exited,
    Finished,
    Go,
    Leaving,
    Matched,
    MayLeave,
    Prepare,
    Prepared,
    SaveAt,
    Started,
    Stop,
    Welcome,
    Yield,
    Yielded,
)


@pytest.fixture
async def coordinator(tmp_path: Path) -> AsyncIterator[PlayedCoordinator]:
    async with played(tmp_path) as coordinator:
        yield coordinator


async def test_from_hello_to_stop(coordinator: PlayedCoordinator) -> None:
    coordinator.start("print('fine'); print('oops')")
    hello = await coordinator.hello()
    assert (hello.token, hello.seat, hello.epoch, hello.attempt) == ("hush", "s0", 0, 0)
    started = await coordinator.run(processes=1)
    assert len(started.pids) == 1
    assert (await coordinator.hear(Matched)).line == "oops"
    assert await coordinator.hear(Finished) == Finished(1)
    coordinator.say(Stop(7))
    assert coordinator.wait() == 7
    assert (coordinator.folder / "output").read_text() == "[0] fine\n[0] oops\n"


async def test_training_goes_on_without_a_coordinator(coordinator: PlayedCoordinator) -> None:
    coordinator.start(
        "import os, pathlib, time; f = pathlib.Path(os.environ['FOLDER'], 'go')\n"
        "while not f.exists(): time.sleep(.01)\n"
        "raise SystemExit(int(os.environ['STOWAGE_RANK']))"
    )
    await coordinator.hello()
    started = await coordinator.run()
    await coordinator.stop_serving()
    (coordinator.folder / "go").write_text("")
    await until_gone(*started.pids)
    await coordinator.serve()
    hello = await coordinator.hello()
    assert (hello.epoch, hello.attempt) == (1, 1)
    coordinator.say(Welcome("j"))
    assert await coordinator.hear(Started) == started
    exited = await coordinator.hear(Exited)
    assert (exited.rank, exited.code, exited.signal) == (1, 1, None)


async def test_commands_may_come_twice(coordinator: PlayedCoordinator) -> None:
    coordinator.start(SLEEPER)
    await coordinator.hello()
    coordinator.say(Welcome("j"))
    for _ in range(2):
        coordinator.say(Prepare(3, 1))
    prepared = [await coordinator.hear(Prepared) for _ in range(2)]
    assert prepared[0] == prepared[1]
    go = Go(3, 1, 0, 1, 1, "127.0.0.1", prepared[0].port)
    for _ in range(2):
        coordinator.say(go)
    started = [await coordinator.hear(Started) for _ in range(2)]
    assert started[0] == started[1]
    coordinator.say(Prepare(2, 1))  # of an epoch that is over
    coordinator.say(Go(2, 1, 0, 1, 1, "127.0.0.1", prepared[0].port))
    coordinator.say(Prepare(3, 1))
    assert await coordinator.hear(Started) == started[0]


async def test_prepare_ends_all_that_runs_also_what_left_its_group(coordinator: PlayedCoordinator) -> None:
    coordinator.start(
        "import os, signal, subprocess, time; signal.signal(15, signal.SIG_IGN)\n"
        "child = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
        "open(os.environ['FOLDER'] + '/child.new', 'w').write(str(child.pid))\n"
        "os.rename(os.environ['FOLDER'] + '/child.new', os.environ['FOLDER'] + '/child')\n" + SLEEPER
    )
    await coordinator.hello()
    started = await coordinator.run(processes=1)
    child = int(await coordinator.until_there("child"))
    coordinator.say(Prepare(2, 2, 0.2))
    assert (await coordinator.hear(Prepared)).epoch == 2
    assert is_gone(started.pids[0])
    await until_gone(child)


async def test_a_killed_supervisor_leaves_nothing(coordinator: PlayedCoordinator) -> None:
    coordinator.start(
        "import subprocess, os; p = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
        "open(os.environ['FOLDER'] + '/child.new', 'w').write(str(p.pid))\n"
        "os.rename(os.environ['FOLDER'] + '/child.new', os.environ['FOLDER'] + '/child')\n" + SLEEPER
    )
    await coordinator.hello()
    started = await coordinator.run(processes=1)
    child = int(await coordinator.until_there("child"))
    assert coordinator.process is not None
    coordinator.process.kill()
    await until_gone(child, *started.pids)


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        pytest.param(
            "raise ValueError('bad 7')", (1, None, "ValueError", "bad 7"), id="an exception, by its traceback"
        ),
        pytest.param(
            "from stowage_worker import report; report(step=4); raise ValueError('bad 7')",
            (1, None, "ValueError", "bad 7"),
            id="an exception, by the error file",
        ),
        pytest.param("import os; os.kill(os.getpid(), 11)", (None, 11, "", ""), id="a signal"),
        pytest.param("raise SystemExit(42)", (42, None, "", ""), id="a code"),
        pytest.param(
            "import os, json; json.dump({'message': {'message': 'E: x'}}, open(os.environ['TORCHELASTIC_ERROR_FILE'],"
            " 'w')); os._exit(3)",
            (3, None, "E", "x"),
            id="torch's error file",
        ),
    ],
)
async def test_how_it_ended(
    coordinator: PlayedCoordinator, program: str, expected: tuple[int | None, int | None, str, str]
) -> None:
    coordinator.start(program)
    await coordinator.hello()
    await coordinator.run(processes=1)
    exited = await coordinator.hear(Exited)
    assert (exited.code, exited.signal, exited.error_type, exited.error_message) == expected
    assert exited.step == (4 if "step=4" in program else -1)


async def test_a_killed_supervisor_leaves_no_rank_that_hides_its_environment(coordinator: PlayedCoordinator) -> None:
    coordinator.start("import os; os.execve('/bin/sleep', ['sleep', '1000'], {})")
    await coordinator.hello()
    started = await coordinator.run(processes=1)
    assert coordinator.process is not None
    coordinator.process.kill()
    await until_gone(*started.pids)


ASKER = (
    "import time; from stowage_worker import checkpoint_due, report, should_yield; step = 0\n"
    "while not should_yield():\n"
    "    step += 1; report(step=step, checkpoint_step=step if checkpoint_due(step) else None); time.sleep(.01)\n"
    "open(__import__('os').environ['FOLDER'] + '/asked', 'w').close()"
)
CATCHER = (
    "import os, signal, time\n"
    "def end(*_): open(os.environ['FOLDER'] + '/asked', 'w').close(); os._exit(9)\n"
    "signal.signal(15, end); open(os.environ['FOLDER'] + '/ready', 'w').close(); time.sleep(1000)"
)


async def test_yield_by_asking(coordinator: PlayedCoordinator) -> None:
    coordinator.start(ASKER)
    await coordinator.hello()
    await coordinator.run(processes=1)
    await coordinator.beat(lambda beat: any(one.asked_step > 0 for one in beat.progress))
    coordinator.say(SaveAt(1, 60.0, request=5, step=10_000_000))
    beat = await coordinator.beat(lambda beat: any(one.request == 5 for one in beat.progress))
    assert not beat.progress[0].is_late
    coordinator.say(SaveAt(1, 60.0, request=6, step=1))
    await coordinator.beat(lambda beat: any(one.request == 6 and one.is_late for one in beat.progress))
    step = 1000 + beat.progress[0].asked_step
    coordinator.say(SaveAt(1, 60.0, request=7, step=step, confirmed=True))
    await coordinator.beat(lambda beat: any(one.checkpoint_step == step for one in beat.progress))
    coordinator.say(Yield(1, 600.0))
    assert await coordinator.hear(Yielded) == Yielded(1)
    assert (coordinator.folder / "asked").exists()


async def test_yield_of_who_never_asks(coordinator: PlayedCoordinator) -> None:
    coordinator.start(CATCHER)
    await coordinator.hello()
    await coordinator.run(processes=1)
    await coordinator.until_there("ready")
    coordinator.say(Yield(1, 600.0))
    assert await coordinator.hear(Yielded) == Yielded(1)
    assert (coordinator.folder / "asked").exists()


async def test_yield_where_nobody_can_be_asked(coordinator: PlayedCoordinator) -> None:
    in_the_way = "import os; os.mkdir(os.environ['STOWAGE_YIELD_FILE'])"
    coordinator.start(f"{in_the_way}\n{CATCHER}")
    await coordinator.hello()
    await coordinator.run(processes=1)
    await coordinator.until_there("ready")
    coordinator.say(Yield(1, 600.0))
    assert await coordinator.hear(Yielded) == Yielded(1)


async def test_sigterm_to_the_supervisor_reaches_ranks(coordinator: PlayedCoordinator) -> None:
    coordinator.start(CATCHER)
    await coordinator.hello()
    await coordinator.run(processes=1)
    await coordinator.until_there("ready")
    assert coordinator.process is not None
    coordinator.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(coordinator.wait) == 143
    assert (coordinator.folder / "asked").exists()


async def test_told_to_end_it_lets_the_job_make_a_checkpoint_first(coordinator: PlayedCoordinator) -> None:
    coordinator.start(CATCHER, STOWAGE_GRACE_SECONDS="600")
    await coordinator.hello()
    await coordinator.run(processes=1)
    await coordinator.until_there("ready")
    assert coordinator.process is not None
    coordinator.process.send_signal(signal.SIGTERM)
    assert 500.0 < (await coordinator.hear(Leaving)).seconds <= 595.0  # less what it took to say so
    assert not (coordinator.folder / "asked").exists()
    coordinator.say(MayLeave(7))
    assert await asyncio.to_thread(coordinator.wait) == 143
    assert (coordinator.folder / "asked").exists()


async def test_sigusr1_is_handed_on(coordinator: PlayedCoordinator) -> None:
    coordinator.start(CATCHER.replace("signal.signal(15", "signal.signal(10"))
    await coordinator.hello()
    await coordinator.run(processes=1)
    await coordinator.until_there("ready")
    assert coordinator.process is not None
    coordinator.process.send_signal(signal.SIGUSR1)
    assert (await coordinator.hear(Exited)).code == 9


def test_an_installed_copy_runs_from_its_folder(tmp_path: Path) -> None:
    assert install([str(tmp_path / "files")]) == 0
    assert install([str(tmp_path / "files")]) == 0
    names = {path.name for path in (tmp_path / "files").iterdir()}
    assert names == {"stowage_worker"}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "files" / "stowage_worker"), "--help"],
        capture_output=True,
        text=True,
        cwd="/",
        env={"PATH": os.environ["PATH"]},
        check=True,
    )
    assert "local" in done.stdout


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        pytest.param({"STOWAGE_COORDINATOR": "nowhere"}, "host:port", id="no port"),
        pytest.param({"STOWAGE_SEAT": ""}, "STOWAGE_SEAT", id="no seat"),
        pytest.param({"STOWAGE_FRAMEWORK": "Fortran"}, "one of Torch, Jax, Plain", id="an unknown framework"),
        pytest.param({"STOWAGE_GRACE_SECONDS": "soon"}, "STOWAGE_GRACE_SECONDS=soon", id="no number"),
        pytest.param({"STOWAGE_TOKEN_FILE": "/no/such"}, "STOWAGE_TOKEN_FILE", id="no token file"),
    ],
)
def test_wrong_settings(tmp_path: Path, environment: dict[str, str], said: str) -> None:
    coordinator = PlayedCoordinator(tmp_path)
    coordinator.start("pass", **environment)
    assert coordinator.wait() == 2
    assert said in (tmp_path / "output").read_text()
