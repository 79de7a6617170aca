"""Links to coordinators over real connections: made again when they end, and told again what to do."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.coordinator import FakeCoordinator, fake_coordinator
from harness.coordinator_process import coordinator_process
from harness.waiting import eventually
from stowage.decide.training.evidence_of_coordinators import LOST_SECONDS
from stowage.run import coordinators
from stowage.run.coordinators import (
    DIALS_AT_ONCE,
    MOST_RING_SECONDS,
    PROGRESS_LOOKS_A_SECOND,
    PROGRESS_SECONDS,
    Coordinators,
    Target,
)
from stowage.run.coordinators import Links as States
from stowage_worker.messages import Begin, End
from stowage_worker.wire import Connection, dial

TARGET = Target("team/tiny", "uid-1", "a-token", leader_epoch=3)
BEGIN = Begin(1, 1, ("s0", "s1"), 1, pods=("uid-a", "uid-b"))


class Links:
    """The links of an operator that follows one job."""

    def __init__(self, fake: FakeCoordinator) -> None:
        self.fake = fake
        self.rings: list[float] = []
        self.all = Coordinators(lambda _, seconds: self.rings.append(seconds), random.Random(1), lambda: 5.0)

    async def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.fake.port

    def follow(self, target: Target = TARGET) -> None:
        self.all.follow(target, self.address)

    async def until_phase(self, phase: str, epoch: int) -> None:
        async def there() -> bool:
            report = self.all.report(TARGET.key, TARGET.uid)
            return report is not None and (report.phase, report.epoch) == (phase, epoch)

        await eventually(there, timeout_seconds=10, what=f"{phase} of epoch {epoch} is reported")

    async def until_attached(self, times: int) -> None:
        async def there() -> bool:
            return len(self.fake.attached) >= times and self.all.connected(TARGET.key)

        await eventually(there, timeout_seconds=10, what=f"attached {times} times")


@pytest.fixture
async def links() -> AsyncIterator[Links]:
    async with fake_coordinator() as fake:
        made = Links(fake)
        yield made
        made.all.drop_all()


async def test_who_attaches_says_its_token_and_term_and_is_told_how_things_are(links: Links) -> None:
    links.follow()
    await links.until_phase("Waiting", 0)
    assert [(one.token, one.leader_epoch) for one in links.fake.attached] == [("a-token", 3)]
    assert links.all.connected(TARGET.key)


async def test_a_command_is_said_at_once_and_again_on_each_connection(links: Links) -> None:
    links.follow()
    await links.until_attached(1)
    links.all.command(TARGET.key, BEGIN)
    await links.until_phase("Running", 1)
    links.fake.begun.clear()  # as if it had been started anew and knew nothing
    links.fake.cut()
    await links.until_attached(2)
    await links.until_phase("Running", 1)
    assert links.fake.begun == [BEGIN]


async def test_a_command_from_before_the_connection_is_not_lost(links: Links) -> None:
    links.follow()
    links.all.command(TARGET.key, BEGIN)
    await links.until_phase("Running", 1)
    links.all.command(TARGET.key, End(0))

    async def ended() -> bool:
        return links.fake.ended == End(0)

    await eventually(ended, timeout_seconds=10, what="the end is said")


async def test_news_ring_at_once_and_progress_now_and_then(links: Links) -> None:
    links.follow()
    links.all.command(TARGET.key, BEGIN)
    await links.until_phase("Running", 1)
    links.rings.clear()
    links.fake.tell("Running", step=5)

    async def rang() -> bool:
        return bool(links.rings)

    await eventually(rang, timeout_seconds=10, what="progress rings")
    assert links.rings == [PROGRESS_SECONDS]
    links.rings.clear()
    links.fake.fails("s1", at=1.0)
    await eventually(rang, timeout_seconds=10, what="a failure rings")
    assert links.rings == [0.0]


async def test_news_without_end_ring_less_and_less(links: Links) -> None:
    """A coordinator is its user's: it must not keep the operator from the jobs of others."""
    links.follow()
    links.all.command(TARGET.key, BEGIN)
    await links.until_phase("Running", 1)
    links.rings.clear()
    for number in range(100):
        links.fake.tell("Running" if number % 2 else "Failed")

    async def heard() -> bool:
        return len(links.rings) >= 100

    await eventually(heard, timeout_seconds=20, what="all of them are heard")
    assert links.rings[0] == 0.0
    assert links.rings[-1] == MOST_RING_SECONDS


async def test_a_report_that_cannot_be_true_ends_the_connection(links: Links, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    links.fake.report = replace(links.fake.report, epoch=-5)
    links.follow()

    async def again() -> bool:
        return len(links.fake.attached) >= 2

    await eventually(again, timeout_seconds=10, what="it connects again")
    assert not links.all.connected(TARGET.key)
    assert "nobody has counted to" in caplog.text


async def test_a_job_made_again_under_its_name_has_a_link_of_its_own(links: Links) -> None:
    links.follow()
    await links.until_phase("Waiting", 0)
    again = Target(TARGET.key, "uid-2", "another", leader_epoch=3)
    links.follow(again)
    assert links.all.report(TARGET.key, "uid-1") is None
    assert links.all.report(TARGET.key, "uid-2") is None, "nothing is taken over from the job before"
    await links.until_attached(2)
    assert links.fake.attached[-1].token == again.token
    assert len(links.all) == 1


async def test_a_link_that_is_dropped_hears_nothing_more(links: Links) -> None:
    links.follow()
    await links.until_attached(1)
    links.all.drop_all()
    assert len(links.all) == 0
    assert not links.all.connected(TARGET.key)
    assert links.all.report(TARGET.key, TARGET.uid) is None


async def test_a_report_that_tells_nothing_new_rings_nobody(links: Links) -> None:
    links.follow()
    links.all.command(TARGET.key, BEGIN)
    await links.until_phase("Running", 1)
    links.fake.tell("Running", step=12)
    heard = links.all.report(TARGET.key, TARGET.uid)
    links.rings.clear()
    links.fake.tell("Running")  # a step later by the clock alone
    links.fake.tell("Running", step=13)

    async def told() -> bool:
        report = links.all.report(TARGET.key, TARGET.uid)
        return report is not heard and report is not None and report.progress.step == 13

    await eventually(told, timeout_seconds=10, what="step 13 is reported")
    assert links.rings == [PROGRESS_SECONDS, PROGRESS_SECONDS]  # of the steps 12 and 13


async def test_one_that_was_never_heard_is_lost_when_its_pod_has_had_an_address_for_a_minute() -> None:
    """Else the alert would end with the leader's term: whoever leads next has never heard it."""
    now, dials = [5.0], asyncio.Semaphore(0)

    async def nowhere() -> tuple[str, int]:
        raise ConnectionError("its pod has no address yet")

    async def nobody() -> tuple[str, int]:
        dials.release()
        return "127.0.0.1", 1

    links = Coordinators(lambda *_: None, random.Random(1), lambda: now[0])
    links.follow(TARGET, nobody)
    links.follow(Target("team/waits", "uid", "a-token", leader_epoch=3), nowhere)
    async with asyncio.timeout(20):
        await dials.acquire()
        await dials.acquire()
    assert links.counts() == {States.CONNECTING: 2}
    now[0] += LOST_SECONDS
    assert links.counts() == {States.CONNECTING: 1, States.LOST: 1}
    links.drop_all()


async def test_the_more_jobs_there_are_the_less_is_each_looked_at_for_its_progress() -> None:
    async def nowhere() -> tuple[str, int]:
        raise OSError("nowhere")

    links = Coordinators(lambda *_: None, random.Random(1), lambda: 5.0)
    paces = []
    for number in range(500):
        links.follow(Target(f"team/j{number}", "uid", "a-token", leader_epoch=3), nowhere)
        paces.append(links.progress_seconds())
    links.drop_all()
    assert paces[:200] == [PROGRESS_SECONDS] * 200
    assert paces[-1] == 500 / PROGRESS_LOOKS_A_SECOND


async def test_one_whose_process_is_stopped_is_not_heard_though_its_connection_stands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(coordinators, "SILENT_SECONDS", 1.0)
    (tmp_path / "token").write_text(TARGET.token)
    rings: list[float] = []
    links = Coordinators(lambda _, seconds: rings.append(seconds), random.Random(1), lambda: 5.0)
    async with coordinator_process("--port=0", f"--token-file={tmp_path / 'token'}") as (running, port):

        async def address() -> tuple[str, int]:
            return "127.0.0.1", port

        async def heard() -> bool:
            return links.connected(TARGET.key)

        async def unheard() -> bool:
            return not links.connected(TARGET.key) and bool(rings)

        links.follow(TARGET, address)
        await eventually(heard, timeout_seconds=20, what="it is heard")
        rings.clear()
        running.send_signal(signal.SIGSTOP)
        await eventually(unheard, timeout_seconds=20, what="its silence is noticed")
        running.send_signal(signal.SIGCONT)
        await eventually(heard, timeout_seconds=20, what="it is heard again")
        links.drop_all()


async def test_dead_coordinators_of_one_namespace_keep_nobody_elsewhere_waiting(
    links: Links, monkeypatch: pytest.MonkeyPatch
) -> None:
    dials: list[int] = []

    async def nobody_answers(host: str, port: int, seconds: float) -> Connection:
        if port == links.fake.port:
            return await dial(host, port, seconds)
        dials.append(port)
        await asyncio.Event().wait()
        raise AssertionError

    async def dead() -> tuple[str, int]:
        return "127.0.0.1", 1

    monkeypatch.setattr(coordinators, "dial", nobody_answers)
    for number in range(5 * DIALS_AT_ONCE):
        links.all.follow(Target(f"dead/j{number}", "uid", "a-token", leader_epoch=3), dead)

    async def all_taken() -> bool:
        return len(dials) >= DIALS_AT_ONCE

    await eventually(all_taken, timeout_seconds=10, what="no dial of the namespace is free")
    links.follow()
    await links.until_attached(1)
    assert len(dials) == DIALS_AT_ONCE
