"""Links to coordinators over real connections: made again when they end, and told again what to do."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from harness.coordinator import FakeCoordinator, fake_coordinator
from harness.waiting import eventually
from stowage.run.coordinators import (
    MOST_RING_SECONDS,
    PROGRESS_LOOKS_A_SECOND,
    PROGRESS_SECONDS,
    Coordinators,
    Target,
)
from stowage_worker.messages import Begin, End

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
