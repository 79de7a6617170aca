from __future__ import annotations

import asyncio
import json
import random
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from harness.waiting import eventually
from stowage_worker import local_command, local_processes, local_run
from stowage_worker.children import Children, cancel
from stowage_worker.local_processes import MAX_SHORT_LIVES, LocalJob, LocalProcesses
from stowage_worker.local_run import LocalRun, Wishes
from stowage_worker.messages import Begin, Evidence, Report, SeatState
from stowage_worker.wire import Connection


@pytest.mark.parametrize("is_stopped", [True, False], ids=["stopped from the first", "with nothing to tell"])
async def test_a_coordinator_that_answers_nobody_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_stopped: bool
) -> None:
    # the one that tells something has to get it told before
    monkeypatch.setattr(local_run, "SILENT_SECONDS", 0.1 if is_stopped else 0.5)
    attached = 0
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal attached
        attached += 1
        if not is_stopped:
            Connection(reader, writer).send(Report(0, 0, "Waiting"))
        if attached == 3:
            done.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    (tmp_path / "token").write_text("hush")
    port = server.sockets[0].getsockname()[1]
    job = LocalJob((), 1, "Plain", tmp_path, tmp_path, tmp_path / "token", "run", port)
    children = Children()
    processes = LocalProcesses(job, children)
    killed = 0

    def kill() -> None:
        nonlocal killed
        killed += 1

    monkeypatch.setattr(processes, "kill_coordinator", kill)
    run = LocalRun(job, Wishes(1, 1, 0, None, None), processes, random.Random(1))
    talk = asyncio.ensure_future(run._stay_connected())
    async with asyncio.timeout(20):
        await done.wait()
    await cancel([talk])
    children.close()
    server.close()
    assert (killed > 0) == is_stopped


async def turns() -> None:
    """Let tasks go on that nothing holds up."""
    for _ in range(5):
        await asyncio.sleep(0)


class PlayedChildren(Children):
    """Processes that are none: each ends when the test says so."""

    def __init__(self) -> None:
        self.ends: dict[int, asyncio.Future[int]] = {}

    def start(self, command: Sequence[str], **options: object) -> tuple[int, asyncio.Future[int]]:  # noqa: ARG002
        pid = 1000 + len(self.ends)
        self.ends[pid] = asyncio.get_running_loop().create_future()
        return pid, self.ends[pid]


class Played:
    """A local run of two nodes whose processes and coordinator are the test's."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(local_run, "GATHER_SECONDS", 0.0)
        monkeypatch.setattr(local_processes, "send", lambda pids, number: self.sent.extend((p, number) for p in pids))
        self.sent: list[tuple[int, int]] = []
        self.children = PlayedChildren()
        self.hopeless: list[str] = []
        job = LocalJob((), 1, "Plain", folder, folder, folder / "token", "run", 1)
        self.processes = LocalProcesses(job, self.children)
        self.processes.on_hopeless = self.hopeless.append
        self.status_file = folder / "status.json"
        self.run = LocalRun(job, Wishes(2, 2, 9, self.status_file, None), self.processes, random.Random(1))
        self.processes.on_lost = self.run.lose
        for seat in ("s0", "s1"):
            self.processes.start_supervisor(seat)
        self.run._begin_next(1)
        self.decision = asyncio.ensure_future(self.run._until_decided())

    def epoch(self) -> int:
        begin = self.run._begin
        assert isinstance(begin, Begin)
        return begin.epoch

    async def report(self, phase: str, *evidence: Evidence, away: tuple[str, ...] = ()) -> None:
        seats = tuple(SeatState(seat, pod, seat not in away, "") for seat, pod in self.processes.pods.items())
        self.run._report = Report(self.epoch(), 1, phase, seats, evidence)
        self.run._changed.set()
        await turns()

    def phase(self) -> str:
        return str(json.loads(self.status_file.read_text())["phase"])


@pytest.fixture
async def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Played]:
    one = Played(tmp_path, monkeypatch)
    yield one
    await cancel([one.decision])


@pytest.mark.parametrize("is_connected", [True, False], ids=["connected", "silent"])
async def test_a_supervisor_that_is_lost_but_lives_is_replaced_where_it_does_not_answer(
    played: Played, is_connected: bool
) -> None:
    before = dict(played.processes.supervisors)
    lost = Evidence("SupervisorLost", 1, 0.0, seat="s1")
    await played.report("Failed", lost, away=() if is_connected else ("s1",))

    async def begun() -> bool:
        return played.epoch() == 2

    await eventually(begun, what="the next epoch")
    assert (played.processes.supervisors == before) == is_connected
    assert played.sent == ([] if is_connected else [(before["s1"], signal.SIGKILL)])


async def test_a_late_supervisor_is_replaced_though_it_is_connected(played: Played) -> None:
    before = dict(played.processes.supervisors)
    await played.report("Failed", Evidence("StartTimeout", 1, 0.0, seat="s1"))

    async def replaced() -> bool:
        return played.processes.supervisors["s1"] != before["s1"]

    await eventually(replaced, what="another supervisor")


async def test_who_was_never_reached_is_ended_by_a_signal(played: Played) -> None:
    processes = played.processes
    processes.on_lost = processes.start_supervisor
    told = set(processes.pods.values())  # the coordinator still tells of the one before
    played.children.ends[processes.supervisors["s1"]].set_result(-9)
    await turns()
    ending = asyncio.ensure_future(processes.end(1000.0, told))
    await turns()
    assert played.sent == [(processes.supervisors["s1"], signal.SIGTERM)]
    for pid in list(processes.supervisors.values()):
        played.children.ends[pid].set_result(143)
    await ending


async def test_supervisors_whose_coordinator_is_killed_at_the_end_do_not_wait_for_it(played: Played) -> None:
    processes = played.processes
    processes.start_coordinator()
    assert processes.coordinator is not None
    ending = asyncio.ensure_future(processes.end(1000.0, set(processes.pods.values())))
    await turns()
    assert played.sent == []
    played.children.ends[processes.coordinator].set_result(-9)
    await turns()
    assert played.sent == [(pid, signal.SIGTERM) for pid in processes.supervisors.values()]
    for pid in list(processes.supervisors.values()):
        played.children.ends[pid].set_result(143)
    await ending


@pytest.mark.parametrize(
    ("code", "has_answered", "is_hopeless"),
    [
        pytest.param(-9, True, False, id="killed from outside"),
        pytest.param(143, True, False, id="told to end from outside"),
        pytest.param(-9, False, True, id="killed before it said a word"),
        pytest.param(1, True, True, id="ended by itself"),
    ],
)
async def test_a_coordinator_that_is_killed_again_and_again(
    played: Played, monkeypatch: pytest.MonkeyPatch, code: int, has_answered: bool, is_hopeless: bool
) -> None:
    monkeypatch.setattr(local_processes, "AGAIN_SECONDS", 0.0)
    processes = played.processes
    processes.start_coordinator()
    for _ in range(2 * MAX_SHORT_LIVES):
        if has_answered:
            processes.coordinator_answers()
        if processes.coordinator is not None:
            played.children.ends[processes.coordinator].set_result(code)
        await turns()
    assert bool(played.hopeless) == is_hopeless


async def test_the_phase_follows_the_ranks(played: Played) -> None:
    assert played.phase() == "Starting"
    await played.report("Preparing")
    assert played.phase() == "Starting"
    await played.report("Running")
    assert played.phase() == "Running"
    await played.report("Preparing")  # by a coordinator that was started again
    assert played.phase() == "Running"
    await played.report("Failed", Evidence("ProcessExited", 1, 0.0, seat="s1", signal=9))
    assert played.phase() == "Recovering"


async def test_what_has_finished_is_not_begun_again_for_a_supervisor_that_dies_then(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_run, "GATHER_SECONDS", 0.2)
    played.run.lose("s1")
    await asyncio.sleep(0)
    await played.report("Finished")
    assert await played.decision == 0
    assert played.epoch() == 1


async def test_nothing_is_started_any_more_once_it_is_interrupted(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_run, "GATHER_SECONDS", 0.2)
    before = len(played.children.ends)
    played.run.lose("s1")
    await asyncio.sleep(0)
    played.run.interrupt(signal.SIGINT)
    assert await played.decision == 130
    assert len(played.children.ends) == before


def test_a_status_file_that_is_a_folder_is_a_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        local_command.main(["--status-file", str(tmp_path), "--", "true"])
    assert f"--status-file: {tmp_path} is a folder" in capsys.readouterr().err


async def test_a_status_file_that_cannot_be_written_is_told_once(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(local_run, "say", said.append)
    played.status_file.unlink()
    played.status_file.mkdir()
    for _ in range(3):
        await played.report("Preparing")
    assert [text.partition(":")[0] for text in said] == ["status file"]
