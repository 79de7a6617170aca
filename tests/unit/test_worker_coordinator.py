from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from harness.coordinator_process import coordinator_process
from harness.fake_supervisors import LOOPBACK, TOKEN, FakeCommander, FakeSupervisor
from stowage_worker import coordinator
from stowage_worker.codec import TO_SUPERVISOR
from stowage_worker.coordinator import Coordinator
from stowage_worker.coordinator_command import clocks, main
from stowage_worker.messages import (
    Begin,
    Checkpoint,
    End,
    Exited,
    Finished,
    Go,
    Hello,
    Prepare,
    RankProgress,
    Refused,
    SaveAt,
    Stop,
    Welcome,
)
from stowage_worker.wire import FIRST_LINE_BYTES, Connection, dial

Attaching: TypeAlias = Callable[..., Awaitable[FakeCommander]]
SECONDS = 20.0
SEATS = ("s0", "s1", "s2")


@pytest.fixture
async def attach() -> AsyncIterator[Attaching]:
    """Attaches commanders, and closes their connections at the end of the test."""
    attached: list[FakeCommander] = []

    async def one_more(port: int, leader_epoch: int = 0) -> FakeCommander:
        attached.append(await FakeCommander.attach(port, leader_epoch))
        return attached[-1]

    yield one_more
    for one in attached:
        one.connection.close()
        await one.connection.wait_closed()


@contextlib.asynccontextmanager
async def serving(port: int = 0) -> AsyncIterator[tuple[int, asyncio.Task[int]]]:
    where: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    served = Coordinator("team/job", TOKEN, clocks)
    task = asyncio.ensure_future(served.run(LOOPBACK, port, lambda _, at: where.set_result(at)))
    try:
        async with asyncio.timeout(SECONDS):
            yield await where, task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def supervisors(port: int, seats: tuple[str, ...] = SEATS) -> AsyncIterator[list[FakeSupervisor]]:
    joined = [FakeSupervisor(seat) for seat in seats]
    for one in joined:
        await one.join(port)
    try:
        yield joined
    finally:
        for one in joined:
            await one.leave()


async def test_an_epoch_from_the_first_command_to_the_end(attach: Attaching) -> None:
    async with serving() as (port, task), supervisors(port) as three:
        commander = await attach(port)
        commander.say(Begin(1, 1, SEATS, 2, environment={"A": "b"}, world={"global": 64}, log_rules=(("r", "x"),)))
        report = await commander.report(1, "Running")
        assert report.started_at is not None
        assert [one.told(Go) for one in three] == [
            [Go(1, 1, node_rank, 3, 2, LOOPBACK, 40_000, {"A": "b"}, {"global": 64})] for node_rank in range(3)
        ]
        assert all(one.told(Welcome)[-1] == Welcome("team/job", (("r", "x"),)) for one in three)
        for number, one in enumerate(three):
            told = RankProgress(number, step=5 + number, tokens=10, loss=0.5, phase="Training", asked_step=5)
            one.progress = (told,)
        while report.progress.step != 5:
            report = await commander.next()
        assert report.first_step_at is not None
        commander.say(Checkpoint(1))
        while not all(one.told(SaveAt) for one in three):
            await commander.next()
        for one in three:
            one.say(Finished(1))
        report = await commander.report(1, "Finished")
        assert report.evidence == ()
        assert [one.state for one in report.seats] == ["Finished"] * 3
        commander.say(End(7))
        assert await task == 7
        assert [one.exit_code for one in three] == [7, 7, 7]
        assert {one.told(SaveAt)[0].step for one in three} == {6}


async def test_a_process_exits_and_the_next_epoch_starts_all_again(attach: Attaching) -> None:
    async with serving() as (port, _), supervisors(port) as three:
        commander = await attach(port)
        commander.say(Begin(1, 1, SEATS, 1))
        await commander.report(1, "Running")
        three[1].say(Exited(1, 1, 0, code=42, error_type="ValueError", error_message="no such row", step=9))
        report = await commander.report(1, "Failed")
        (found,) = report.evidence
        assert (found.event, found.seat, found.rank, found.code) == ("ProcessExited", "s1", 1, 42)
        assert (found.error_type, found.error_message, found.step) == ("ValueError", "no such row", 9)
        commander.say(Begin(2, 2, SEATS, 1))
        report = await commander.report(2, "Running")
        assert report.evidence == ()
        assert all([go.epoch for go in one.told(Go)] == [1, 2] for one in three)


async def test_a_supervisor_that_is_gone_is_evidence_after_two_seconds(attach: Attaching) -> None:
    async with serving() as (port, _), supervisors(port) as three:
        commander = await attach(port)
        commander.say(Begin(1, 1, SEATS, 1))
        await commander.report(1, "Running")
        await three[2].leave()
        report = await commander.report(1, "Failed")
        assert [(one.event, one.seat) for one in report.evidence] == [("SupervisorLost", "s2")]
        commander.say(Begin(2, 2, ("s0", "s1"), 1))
        await commander.report(2, "Running")
        assert [one.told(Go)[-1].nodes for one in three[:2]] == [2, 2]


async def test_a_coordinator_that_is_started_again_leaves_running_members_alone(attach: Attaching) -> None:
    begin = Begin(3, 2, SEATS, 1)
    async with serving() as (port, _), supervisors(port) as three:
        commander = await attach(port)
        commander.say(begin)
        await commander.report(3, "Running")
        for one in three:
            await one.leave()
    async with serving() as (port, _):
        again = await attach(port)
        again.say(begin)
        for one in three:
            one.heard.clear()
            await one.join(port)
        report = await again.report(3, "Running")
        assert report.evidence == ()
        assert all(not one.told(Go) and not one.told(Prepare) for one in three)
        three[0].say(Exited(3, 0, 0, signal=9))
        assert (await again.report(3, "Failed")).evidence[0].signal == 9
        for one in three:
            await one.leave()


async def test_who_commands_last_is_listened_to_and_an_older_leader_is_not(attach: Attaching) -> None:
    async with serving() as (port, _):
        first = await attach(port, leader_epoch=4)
        await first.next()
        second = await attach(port, leader_epoch=5)
        await second.next()
        with pytest.raises(AssertionError, match="another commander"):
            await first.next()
        stale = await attach(port, leader_epoch=4)
        with pytest.raises(AssertionError, match="leader epoch 4 is over"):
            await stale.next()
        second.say(Begin(2, 1, (), 1))
        await second.report(2, "Yielded")
        second.say(Begin(1, 1, (), 1))
        with pytest.raises(AssertionError, match="epoch 1 is over"):
            await second.report(1, "Running")


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(
            b'{"kind":"Hello","token":"x","seat":"s0","pod":"p","address":"a","processes":1}\n', id="supervisor"
        ),
        pytest.param('{"kind":"Attach","token":"thé"}\n'.encode(), id="commander"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="a browser"),
        pytest.param(b"x" * (FIRST_LINE_BYTES + 1), id="a long first line"),
    ],
)
async def test_strangers_are_refused(first: bytes) -> None:
    async with serving() as (port, _):
        connection = await dial(LOOPBACK, port)
        connection.send_line(first)
        answer = await connection.receive(TO_SUPERVISOR)
        assert isinstance(answer, Refused)
        assert TOKEN not in answer.reason
        assert await connection.receive(TO_SUPERVISOR) is None
        connection.close()


async def test_a_supervisor_that_does_not_read_holds_nobody_up(attach: Attaching) -> None:
    world = {"filler": "x" * 900_000}
    async with serving() as (port, _), supervisors(port, ("s0", "s1")) as two:
        deaf = FakeSupervisor("s2", is_answering=False)
        await deaf.join(port)
        deaf._tasks[0].cancel()  # reads nothing any more, beats go on
        commander = await attach(port)
        for epoch in range(1, 4):
            commander.say(Begin(epoch, epoch, ("s0", "s1"), 1, world=world))
            await commander.report(epoch, "Running")
        assert [go.epoch for go in two[0].told(Go)] == [1, 2, 3]
        await deaf.leave()


async def test_the_process_prints_its_port_and_ends_with_the_code_of_the_job(tmp_path: Path, attach: Attaching) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n", encoding="utf-8")
    arguments = ("--port", "0", "--host", LOOPBACK, "--token-file", str(tmp_path / "token"))
    async with coordinator_process(*arguments) as (running, port), supervisors(port, ("s0",)) as (one,):
        commander = await attach(port)
        commander.say(Begin(1, 1, ("s0",), 1))
        await commander.report(1, "Running")
        commander.say(End(3))
        assert await running.wait() == 3
        assert one.told(Stop) == [Stop(3)]


async def test_the_process_ends_at_sigterm_and_supervisors_are_told_nothing(tmp_path: Path, attach: Attaching) -> None:
    (tmp_path / "token").write_text(TOKEN, encoding="utf-8")
    arguments = ("--listen", f"{LOOPBACK}:0", "--token-file", str(tmp_path / "token"))
    async with coordinator_process(*arguments) as (running, port), supervisors(port, ("s0",)) as (one,):
        commander = await attach(port)
        commander.say(Begin(1, 1, ("s0",), 1))
        await commander.report(1, "Running")
        running.send_signal(signal.SIGTERM)
        assert await running.wait() == 143
        assert one.told(Stop) == []


async def test_a_log_that_nobody_reads_and_strangers_without_number_hold_nobody_up(
    tmp_path: Path, attach: Attaching
) -> None:
    (tmp_path / "token").write_text(TOKEN, encoding="utf-8")
    arguments = ("--listen", f"{LOOPBACK}:0", "--token-file", str(tmp_path / "token"))
    unread, written = os.pipe()
    try:
        os.set_blocking(written, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(written, b"x" * 4096)
        os.set_blocking(written, True)
        async with coordinator_process(*arguments, stderr=written) as (running, port), supervisors(port, ("s0",)):
            for _ in range(3):
                stranger = await dial(LOOPBACK, port)
                stranger.send_line(b"GET / HTTP/1.1\n")
                assert isinstance(await stranger.receive(TO_SUPERVISOR), Refused)
                stranger.close()
                await stranger.wait_closed()
            commander = await attach(port)
            commander.say(Begin(1, 1, ("s0",), 1))
            await commander.report(1, "Running")
            commander.say(End(3))
            assert await running.wait() == 3
    finally:
        os.close(unread)
        os.close(written)


async def test_the_oldest_stranger_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    async def welcomed(port: int, seat: str) -> Connection:
        connection = await dial(LOOPBACK, port)
        connection.send(Hello(TOKEN, seat, f"uid-{seat}", LOOPBACK, 1))
        assert isinstance(await connection.receive(TO_SUPERVISOR), Welcome)
        return connection

    monkeypatch.setattr(coordinator, "MAX_STRANGERS", 2)
    async with serving() as (port, _):
        known = [await welcomed(port, seat) for seat in SEATS]
        strangers = [await dial(LOOPBACK, port) for _ in range(3)]
        assert await strangers[0].receive(TO_SUPERVISOR) is None
        known.append(await welcomed(port, "s3"))
        commander = await FakeCommander.attach(port)
        assert [one.connected for one in (await commander.next()).seats] == [True] * 4
        for one in [*strangers, *known, commander.connection]:
            one.abort()
            await one.wait_closed()


async def test_one_that_has_nothing_to_do_says_so_now_and_then(
    attach: Attaching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator, "IDLE_REPORT_SECONDS", 0.1)
    async with serving() as (port, _):
        commander = await attach(port)
        assert [(await commander.next()).phase for _ in range(3)] == ["Waiting"] * 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["--port", "0"], "it is empty", id="no token"),
        pytest.param(["--token-file", "/nowhere/token"], "/nowhere/token", id="no such file"),
    ],
)
def test_wrong_use(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STOWAGE_TOKEN", raising=False)
    monkeypatch.delenv("STOWAGE_TOKEN_FILE", raising=False)
    assert main(arguments) == 2
    assert says in capsys.readouterr().err
