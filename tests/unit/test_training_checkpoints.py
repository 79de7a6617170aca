"""Checkpoints in the life of a job: the interval, planned changes, and which one is the newest."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from stowage.api.durations import instant
from stowage.api.training_job_status import RecoveryRecord, RestartCount, TrainingJobStatus
from stowage.api.training_words import Action, Domain, Event, JobPhase, Lost, Scope
from stowage.decide.training.checkpoints import interruptions, newest_checkpoint
from stowage.decide.training.commands import command_of
from stowage.decide.training.evidence_of_reports import evidence_of_report
from stowage_scheduler.health import PodHealth
from stowage_worker import messages
from stowage_worker.messages import Begin, Evidence, Progress, Report
from unit.builders import NOW
from unit.test_training_job_status import Life

OLD = newest_checkpoint(None, Progress(checkpoint_step=90, checkpoint_uri="s3://a", checkpoint_at=NOW - 60.0), NOW)


def seconds(life: Life) -> float:
    begin = command_of(life.job)
    assert isinstance(begin, Begin)
    assert life.status.checkpoint_interval.seconds == begin.checkpoint_seconds
    return begin.checkpoint_seconds


def saved(step: int, cost: float | None = None) -> dict[str, Any]:
    return {"progress": Progress(step=step, checkpoint_step=step, checkpoint_seconds=cost)}


def test_the_interval_of_the_spec_is_told_also_when_it_changes_while_ranks_run() -> None:
    life = Life(checkpoint={"interval": "10m"}).run()
    assert seconds(life) == 600.0
    life.spec(checkpoint={"interval": "20s"})
    life.step()
    assert (seconds(life), life.status.epoch) == (20.0, 1)


def test_auto_follows_what_a_checkpoint_costs_and_how_often_the_job_fails() -> None:
    life = Life().run()
    usual = seconds(life)
    life.tell("Running", **saved(10, cost=0.5))
    life.step()
    cheap = seconds(life)
    life.tell("Running", **saved(20, cost=300.0))
    life.step()
    dear = seconds(life)
    assert cheap < usual < dear
    for epoch in range(2, 6):
        life.fails("s1", step=20 + epoch)
        life.make()
        life.step()
        life.tell("Running", **saved(20 + epoch, cost=300.0))
        life.step()
    assert seconds(life) < dear


def test_evictions_do_not_shorten_the_interval_for_a_checkpoint_is_made_before_them() -> None:
    life = Life().run()
    before = seconds(life)
    for _ in range(4):
        evict(life)
        life.make()
        life.step()
        life.tell("Running", started_at=life.now)
        life.step()
    assert life.status.restart_count == 4
    assert seconds(life) == before


def evict(life: Life) -> None:
    name = next(one for one in life.pods if one.startswith("tiny-s0-"))
    pod = life.pods.pop(name)
    life.now += 60
    health = PodHealth(disruption="EvictionByEvictionAPI", disrupted_at=life.now, deleted_at=life.now)
    life.pods[name] = structs.replace(pod, terminating=True, health=health)
    life.step()
    life.pods.pop(name)


@pytest.mark.parametrize(
    ("what", "waits"),
    [
        pytest.param("a resize", True, id="the number of nodes changes"),
        pytest.param("an eviction", True, id="a pod is evicted"),
        pytest.param("a failure", False, id="a process failed"),
    ],
)
def test_ranks_save_before_what_is_planned(what: str, waits: bool) -> None:
    life = Life(nodes=2).run()
    if what == "a resize":
        life.spec(nodes={"min": 1, "max": 2, "target": 1})
        life.step()
    if what == "an eviction":
        evict(life)
        assert life.status.last_failure.event is Event.DISRUPTION
    if what == "a failure":
        life.fails()
    life.make()
    life.step()
    begin = command_of(life.job)
    assert isinstance(begin, Begin)
    assert begin.epoch == 2
    assert begin.yield_first_seconds == (25.0 if waits else 0.0)


def test_who_was_told_to_end_and_is_gone_was_not_at_fault() -> None:
    life = Life().run()
    gone = Evidence("SupervisorLost", 1, life.now - 3, seat="s1", name="Leaving")
    life.tell("Failed", (gone,))
    assert [one.event for one in evidence_of_report(life.report)] == [Event.DISRUPTION]  # type: ignore[arg-type]
    life.now += 5
    step = life.step()
    assert step.decision.action is Action.REPLACE_NODE
    assert life.status.recoveries[0].blameless


def test_the_checkpoint_that_was_made_before_a_change_is_known_after_it() -> None:
    life = Life().run()
    life.tell("Running", **saved(50))
    life.step()
    evict(life)
    assert life.status.epoch == 2
    life.report = Report(1, 1, "Running", progress=Progress(step=63, checkpoint_step=63))
    life.step()
    assert life.status.progress.last_checkpoint.step == 63
    assert life.status.progress.step == 50, "of an epoch that is over nothing else counts"
    life.make()
    life.step()
    life.tell("Running", progress=Progress(step=64, checkpoint_step=63))
    life.step()
    assert (life.status.phase, life.status.progress.last_checkpoint.step) == (JobPhase.RUNNING, 63)


def test_a_cost_that_is_known_later_is_lost_time_once() -> None:
    life = Life().run()
    for at, told in ((10.0, saved(10)), (20.0, saved(20)), (30.0, saved(20, cost=4.0)), (40.0, saved(20, cost=4.0))):
        life.now = NOW + at
        life.tell("Running", **told)
        life.step()
    lost = {one.cause: one.seconds for one in life.status.goodput.lost_seconds}
    assert lost[Lost.CHECKPOINT_SAVE] == 4


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        pytest.param({}, (90, NOW - 60.0, "s3://a", None), id="a coordinator that was started again knows of none"),
        pytest.param({"checkpoint_step": 90, "checkpoint_at": NOW}, (90, NOW - 60.0, "s3://a", None), id="the same"),
        pytest.param(
            {"checkpoint_step": 90, "checkpoint_seconds": 2.5}, (90, NOW - 60.0, "s3://a", "2.500"), id="its cost"
        ),
        pytest.param({"checkpoint_step": 95}, (95, NOW, None, None), id="a newer one, nobody says since when"),
        pytest.param(
            {"checkpoint_step": 80, "checkpoint_at": NOW - 5.0}, (80, NOW - 5.0, None, None), id="an attempt went back"
        ),
        pytest.param(
            {"checkpoint_step": 95, "checkpoint_at": NOW + 5.0, "checkpoint_seconds": float("inf")},
            (95, NOW, None, None),
            id="a clock that is ahead, and no number",
        ),
    ],
)
def test_the_newest_checkpoint(told: dict[str, Any], expected: tuple[object, ...]) -> None:
    found = newest_checkpoint(OLD, messages.Progress(**told), NOW)
    assert found is not None
    step, at, uri, cost = expected
    assert (found.step, found.at, found.uri, found.seconds) == (step, instant(float(str(at))), uri, cost)


def line(epoch: int, event: Event, action: Action = Action.REPLACE_NODE) -> RecoveryRecord:
    blameless = event is Event.DISRUPTION
    return RecoveryRecord(
        at=instant(NOW), event=event, action=action, domain=Domain.INFRASTRUCTURE, epoch=epoch, blameless=blameless
    )


@pytest.mark.parametrize(
    ("starts", "recoveries", "expected"),
    [
        pytest.param(0, (), 0, id="nothing has happened"),
        pytest.param(3, (line(1, Event.NODE_LOST), line(2, Event.NODE_LOST)), 3, id="one is forgotten"),
        pytest.param(2, (line(1, Event.DISRUPTION), line(2, Event.NODE_LOST)), 1, id="an eviction is none"),
        pytest.param(
            2,
            (*[line(1, Event.DISRUPTION)] * 4, line(2, Event.NODE_LOST)),
            1,
            id="four evictions at once were one start",
        ),
        pytest.param(
            1, (line(1, Event.NODE_LOST), line(1, Event.DISRUPTION)), 1, id="a failure, and an eviction beside it"
        ),
        pytest.param(
            1,
            (line(1, Event.NODE_LOST), *[line(2, Event.DISRUPTION, Action.IGNORE)] * 2),
            1,
            id="spares that make way stop nobody",
        ),
    ],
)
def test_failures_are_starts_that_were_not_planned(
    starts: int, recoveries: tuple[RecoveryRecord, ...], expected: int
) -> None:
    counts = (RestartCount(scope=Scope.NODE, count=starts),) if starts else ()
    assert interruptions(TrainingJobStatus(restarts=counts, recoveries=recoveries)) == expected
