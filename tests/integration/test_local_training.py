"""Local mode with real processes: whatever is killed, the committed history is the undisturbed run's."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import stowage_worker
from harness.local_training import LocalTraining, end_runs, undisturbed
from harness.oldest_python import PYTHON39
from harness.waiting import eventually

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for leftovers in Linux' /proc")


@pytest.fixture(autouse=True)
def _no_run_outlives_its_test() -> Iterator[None]:
    yield
    end_runs()


async def nothing_left(run: LocalTraining) -> None:
    async def gone() -> bool:
        assert run.left() == []
        return True

    await eventually(gone, what="no process of the run is left")


async def test_undisturbed(tmp_path: Path) -> None:
    run = LocalTraining(tmp_path)
    assert run.run() == 0, run.output()
    assert run.history() == undisturbed(60)
    assert run.started() == {1: [0, 1, 2, 3]}
    status = run.status()
    told = ("epoch", "attempt", "phase", "worldSize", "nodes", "restarts", "step", "exitCode", "checkpointStep")
    assert [status[name] for name in told] == [1, 1, "Succeeded", 4, 2, 0, 59, 0, 59]
    await nothing_left(run)


@pytest.mark.parametrize("victim", ["rank", "supervisor", "coordinator"])
async def test_killed(tmp_path: Path, victim: str) -> None:
    run = LocalTraining(tmp_path, steps=150, toy=("--held",)).start()
    status = await run.until(lambda status: status["phase"] == "Running" and status["checkpointStep"] > 0)
    pid = {
        "rank": run.rank_pid(3),
        "supervisor": status["seats"]["s1"]["pid"],
        "coordinator": status["coordinatorPid"],
    }[victim]
    os.kill(pid, signal.SIGKILL)
    if victim == "coordinator":
        await run.until(lambda status: status["coordinatorPid"] not in {None, pid}, "another coordinator")
    else:
        await run.until(lambda status: status["epoch"] == 2 and status["phase"] == "Running", "all ranks run again")
    run.go()
    assert run.wait() == 0, run.output()
    assert run.history() == undisturbed(150)
    status = run.status()
    if victim == "coordinator":  # training does not stop for it
        assert (status["epoch"], status["restarts"]) == (1, 0)
        assert run.started() == {1: [0, 1, 2, 3]}
    else:
        assert (status["epoch"], status["attempt"], status["restarts"], status["worldSize"]) == (2, 2, 1, 4)
        assert run.started() == {1: [0, 1, 2, 3], 2: [0, 1, 2, 3]}
        event = {"rank": "ProcessExited", "supervisor": "SupervisorLost"}[victim]
        assert status["lastFailure"]["event"] == event
    await nothing_left(run)


async def test_a_supervisor_that_was_stopped_is_replaced(tmp_path: Path) -> None:
    run = LocalTraining(tmp_path, steps=100_000).start()
    status = await run.until(lambda status: status["phase"] == "Running" and status["checkpointStep"] > 0)
    stopped = status["seats"]["s1"]["pid"]
    os.kill(stopped, signal.SIGSTOP)
    await run.until(lambda status: status["epoch"] == 2 and status["phase"] == "Running" and status["step"] > 0)
    assert run.status()["seats"]["s1"]["pid"] != stopped
    assert run.started() == {1: [0, 1, 2, 3], 2: [0, 1, 2, 3]}
    assert run.process is not None
    run.process.terminate()
    assert run.wait() == 143
    await nothing_left(run)


async def test_no_rank_can_read_the_token_in_an_environment(tmp_path: Path) -> None:
    program = "tr '\\0' '\\n' < /proc/$PPID/environ; env"
    run = LocalTraining(tmp_path, 1, 1, command=("sh", "-c", program))
    assert run.run() == 0, run.output()
    assert "STOWAGE_SEAT=s0" in run.output()
    assert "STOWAGE_TOKEN=" not in run.output()


async def test_killed_again_and_again(tmp_path: Path) -> None:
    run = LocalTraining(tmp_path, steps=200, toy=("--held",)).start()
    for epoch, victim in enumerate(("rank", "supervisor", "rank"), 1):
        status = await run.until(
            lambda status, epoch=epoch: status["epoch"] == epoch and status["phase"] == "Running" and status["step"] > 0
        )
        os.kill(run.rank_pid(epoch) if victim == "rank" else status["seats"]["s0"]["pid"], signal.SIGKILL)
    await run.until(lambda status: status["epoch"] == 4 and status["phase"] == "Running", "all ranks run again")
    run.go()
    assert run.wait() == 0, run.output()
    assert run.history() == undisturbed(200)
    assert run.started() == {epoch: [0, 1, 2, 3] for epoch in (1, 2, 3, 4)}
    await nothing_left(run)


@pytest.mark.parametrize(
    ("kind", "options", "event"),
    [
        pytest.param("raise", (), "ProcessExited", id="an exception"),
        pytest.param("exit", (), "ProcessExited", id="an exit code"),
        # shorter, and a rank that waits for its turn on a busy machine hangs as well
        pytest.param("STOP", ("--hang-seconds", "8"), "Hang", id="a rank that was stopped"),
    ],
)
async def test_recovers_from(tmp_path: Path, kind: str, options: tuple[str, ...], event: str) -> None:
    run = LocalTraining(tmp_path, options=options, toy=("--mischief", f"{kind}:2:17:1"))
    assert run.run() == 0, run.output()
    assert run.history() == undisturbed(60)
    status = run.status()
    assert (status["restarts"], status["lastFailure"]["event"]) == (1, event)
    assert run.started() == {1: [0, 1, 2, 3], 2: [0, 1, 2, 3]}
    await nothing_left(run)


@pytest.mark.parametrize(
    ("kind", "code", "said"),
    [
        pytest.param("raise", 1, "DataError: sample 17 is broken", id="an exception"),
        pytest.param("exit", 42, "the same failure twice at step 16", id="an exit code"),
    ],
)
async def test_the_same_mistake_twice_stops(tmp_path: Path, kind: str, code: int, said: str) -> None:
    run = LocalTraining(tmp_path, toy=("--mischief", f"{kind}:2:17:9"))
    assert run.run() == code, run.output()
    status = run.status()
    assert (status["phase"], status["exitCode"], status["restarts"]) == ("Failed", code, 1)
    assert said in status["reason"]
    await nothing_left(run)


async def test_the_budget_of_restarts(tmp_path: Path) -> None:
    run = LocalTraining(tmp_path, options=("--restarts", "0"), toy=("--mischief", "exit:2:17:9"))
    assert run.run() == 42, run.output()
    assert run.status()["reason"] == "all 0 restarts are used up"
    await nothing_left(run)


async def test_a_coordinator_that_cannot_run(tmp_path: Path) -> None:
    broken = tmp_path / "broken" / "stowage_worker"
    shutil.copytree(Path(stowage_worker.__file__).parent, broken)
    (broken / "coordinator_command.py").write_text("raise SystemExit(5)")
    run = LocalTraining(tmp_path, environment={"PYTHONPATH": str(tmp_path / "broken")})
    assert run.run() == 1, run.output()
    assert run.status()["reason"] == "the coordinator ends again and again, with code 5"
    await nothing_left(run)


async def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    run = LocalTraining(tmp_path, options=("--restarts", "1"), command=("/no/such/program",))
    assert run.run() == 127, run.output()
    await nothing_left(run)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_everything(tmp_path: Path, number: signal.Signals) -> None:
    run = LocalTraining(tmp_path, steps=100_000).start()
    await run.until(lambda status: status["phase"] == "Running" and status["step"] > 0)
    assert run.process is not None
    run.process.send_signal(number)
    assert run.wait() == 128 + number
    assert run.left() == []


async def test_nobody_reads_what_is_said(tmp_path: Path) -> None:
    run = LocalTraining(tmp_path, toy=("--mischief", "raise:2:17:1"))
    reads, writes = os.pipe()
    os.close(reads)
    assert run.start(writes).wait() == 0
    os.close(writes)
    assert run.history() == undisturbed(60)
    assert run.status()["restarts"] == 1


async def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    deaf = ("sh", "-c", 'trap "" TERM; while :; do sleep 1; done')
    run = LocalTraining(tmp_path, options=("--grace", "100000"), command=deaf).start()
    await run.until(lambda status: status["phase"] == "Running")
    assert run.process is not None
    run.process.send_signal(signal.SIGINT)
    await run.until(lambda status: status["exitCode"] == 130)
    run.process.send_signal(signal.SIGINT)
    assert run.wait() == 130
    await nothing_left(run)


async def test_a_signal_while_a_supervisor_is_started_again_does_not_wait_for_the_grace(tmp_path: Path) -> None:
    run = LocalTraining(tmp_path, options=("--grace", "100000"), command=("sleep", "1000")).start()
    status = await run.until(lambda status: status["phase"] == "Running")
    os.kill(status["seats"]["s1"]["pid"], signal.SIGKILL)
    await run.until(lambda status: status["epoch"] == 2 and "s1" in status["seats"])
    assert run.process is not None
    run.process.send_signal(signal.SIGINT)
    assert run.wait() == 130
    await nothing_left(run)


async def test_nohup(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run = LocalTraining(tmp_path, 1, 1, toy=("--held",)).start()
    finally:
        signal.signal(signal.SIGHUP, before)
    await run.until(lambda status: status["phase"] == "Running" and status["step"] > 0)
    assert run.process is not None
    run.process.send_signal(signal.SIGHUP)
    run.go()
    assert run.wait() == 0


async def test_nodes_whose_supervisors_die_again_and_again_are_left_out(tmp_path: Path) -> None:
    killer = "[ $STOWAGE_SEAT = s1 ] && kill -9 $PPID; [ $STOWAGE_NODES = 2 ] || sleep 1000"
    run = LocalTraining(tmp_path, 3, 1, options=("--min-nodes", "2"), command=("sh", "-c", killer))
    assert run.run() == 0, run.output()
    status = run.status()
    assert (status["nodes"], status["worldSize"], status["restarts"]) == (2, 2, 3)
    await nothing_left(run)


async def test_nothing_is_left_when_local_mode_itself_is_killed(tmp_path: Path) -> None:
    run = LocalTraining(tmp_path, steps=100_000).start()
    await run.until(lambda status: status["phase"] == "Running" and status["step"] > 0)
    assert run.process is not None
    run.process.kill()
    run.wait()
    await nothing_left(run)


async def test_two_runs_side_by_side(tmp_path: Path) -> None:
    runs = [LocalTraining(tmp_path / name).start() for name in ("one", "other")]
    for run in runs:
        assert run.wait() == 0, run.output()
        assert run.history() == undisturbed(60)
        assert run.status()["restarts"] == 0
        await nothing_left(run)


async def test_what_one_run_committed_the_next_goes_on_from(tmp_path: Path) -> None:
    options = ("--checkpoint-dir", str(tmp_path / "checkpoints"))
    first = LocalTraining(tmp_path / "first", steps=20, options=options)
    assert first.run() == 0, first.output()
    second = LocalTraining(tmp_path / "second", nodes=1, per_node=3, steps=40, options=options)
    assert second.run() == 0, second.output()
    assert second.history() == undisturbed(40)
    assert second.status()["attempt"] == 2


async def test_two_runs_do_not_share_checkpoints(tmp_path: Path) -> None:
    options = ("--checkpoint-dir", str(tmp_path / "checkpoints"))
    first = LocalTraining(tmp_path / "first", steps=100_000, options=options).start()
    await first.until(lambda status: status["phase"] == "Running")
    second = LocalTraining(tmp_path / "second", options=options)
    assert second.run() == 2
    assert "another run writes to" in second.output()
    assert first.process is not None
    first.process.terminate()
    assert first.wait() == 143


@pytest.mark.skipif(PYTHON39 is None, reason="no python3.9 on PATH, nor named by STOWAGE_PYTHON39")
async def test_python_3_9(tmp_path: Path) -> None:
    source = str(Path(stowage_worker.__file__).parent.parent)
    run = LocalTraining(
        tmp_path,
        python=str(PYTHON39),
        environment={"PYTHONPATH": source},
        toy=("--mischief", "raise:2:17:1"),
    )
    assert run.run() == 0, run.output()
    assert run.history() == undisturbed(60)
    assert run.status()["restarts"] == 1
    await nothing_left(run)


async def test_ranks_save_together_at_the_interval_and_before_a_pod_is_stopped(tmp_path: Path) -> None:
    toy = ("--every", "0", "--pause", "0.02")
    options = ("--checkpoint-interval", "0.5")
    run = LocalTraining(tmp_path, steps=100_000, options=options, toy=toy).start()
    await run.until(lambda status: status["checkpointStep"] > 0, "a checkpoint at the interval")
    first = run.status()["checkpointStep"]
    await run.until(lambda status: status["checkpointStep"] > first, "the next one")
    supervisor = run.status()["seats"]["s1"]["pid"]
    before = max(agreed(run, epoch=1))
    hook = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "stowage_worker", "leave", env=environment_of(supervisor), stderr=asyncio.subprocess.PIPE
    )
    said = (await hook.communicate())[1].decode()
    assert hook.returncode == 0
    assert "checkpoint of step" in said, said
    assert int(said.rsplit(" ", 1)[1]) >= before
    os.kill(run.rank_pid(1), signal.SIGKILL)
    await run.until(lambda status: status["epoch"] == 2 and status["checkpointStep"] > before, "it goes on")
    assert run.process is not None
    run.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(run.wait) == 143


def agreed(run: LocalTraining, epoch: int) -> list[int]:
    """The steps of an epoch at which all ranks had to save; none may have been alone, but for the one that is due."""
    found: dict[int, set[int]] = {}
    for line in (run.folder / "due").read_text().splitlines():
        of_epoch, rank, step = map(int, line.split())
        if of_epoch == epoch:
            found.setdefault(step, set()).add(rank)
    whole = [step for step, ranks in found.items() if ranks == {0, 1, 2, 3}]
    assert all(step in whole or step == max(found) for step in found), found
    return whole


def environment_of(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/environ").read_bytes().decode()
    return dict(variable.split("=", 1) for variable in text.split("\0") if variable)
