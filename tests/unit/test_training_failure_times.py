"""Where the time of a recovery went: when a failure happened, when it was seen, when training was as far as before."""

from __future__ import annotations

import pytest

from stowage.api.durations import instant
from stowage.api.training_job_status import EvidenceRecord, LastFailure
from stowage.api.training_words import Action, Domain, Event, JobPhase
from stowage.decide.training.failure_story import failure_story
from stowage.decide.training.failure_times import timed
from stowage.decide.training.heard import Heard, heard_of
from stowage.decide.training.repair_times import STAGES, Repair, reached_at, went_on
from stowage.decide.training.time_words import span
from stowage_worker.messages import Evidence, Progress, Report, SeatState
from unit.test_training_job_status import Life

FAILED = 1_000_000.0


def failure(event: Event = Event.PROCESS_EXITED, seat: str | None = "s1", at: float = FAILED) -> LastFailure:
    return LastFailure(
        at=instant(at),
        domain=Domain.UNKNOWN,
        event=event,
        seat=seat,
        rank=1 if event is Event.PROCESS_EXITED else None,
        action=Action.RESTART_PROCESSES,
    )


@pytest.mark.parametrize(
    ("event", "heard", "rung_at", "began", "detect", "decide"),
    [
        pytest.param(
            Event.PROCESS_EXITED, [Heard("ProcessExited", "s1", 1, FAILED + 0.2)], None, FAILED, 0.2, 0.8, id="an exit"
        ),
        pytest.param(
            Event.SUPERVISOR_LOST,
            [Heard("SupervisorLost", "s1", -1, FAILED, 5.0)],
            None,
            FAILED - 5,
            5.0,
            1.0,
            id="silence began before it was told",
        ),
        pytest.param(
            Event.HANG, [Heard("Hang", "s1", 0, FAILED, 30.0)], None, FAILED - 30, 30.0, 1.0, id="the last step counts"
        ),
        pytest.param(
            Event.NODE_LOST,
            [Heard("SupervisorLost", "s1", -1, FAILED - 2, 5.0)],
            FAILED + 0.9,
            FAILED - 7,
            5.0,
            3.0,
            id="a node is lost when its seat falls silent, and the decision waited for the node's word",
        ),
        pytest.param(
            Event.PROCESS_EXITED,
            [Heard("ProcessExited", "s0", 0, FAILED - 3)],
            None,
            FAILED,
            1.0,
            0.0,
            id="of another seat",
        ),
        pytest.param(
            Event.PROCESS_EXITED, [Heard("LogRule", "s1", 1, FAILED - 900)], None, FAILED, 1.0, 0.0, id="a line of log"
        ),
        pytest.param(Event.POD_DELETED, [], FAILED + 0.6, FAILED, 0.6, 0.4, id="the cluster tells it"),
        pytest.param(Event.POD_DELETED, [], FAILED - 60, FAILED, 0.0, 1.0, id="a clock that is behind"),
    ],
)
def test_detection_ends_when_the_evidence_comes_in_and_decision_when_it_is_decided(
    event: Event, heard: list[Heard], rung_at: float | None, began: float, detect: float, decide: float
) -> None:
    told = timed(failure(event), heard, rung_at, FAILED + 1)
    assert told.at.timestamp() == pytest.approx(began)
    assert told.recovery.detect is not None
    assert told.recovery.decide is not None
    assert told.recovery.detect.seconds == pytest.approx(detect)
    assert told.recovery.decide.seconds == pytest.approx(decide)
    assert told.recovery.schedule is None


@pytest.mark.parametrize(
    ("known", "told", "from_step"),
    [
        pytest.param(31, 34, 34, id="who failed was further than was told a second ago"),
        pytest.param(31, 12, 31, id="who failed was behind"),
        pytest.param(None, 3, 3, id="nobody else told"),
        pytest.param(None, None, None, id="a program that tells no steps"),
    ],
)
def test_how_far_training_was_is_known_from_who_failed(
    known: int | None, told: int | None, from_step: int | None
) -> None:
    seen = EvidenceRecord(event=Event.PROCESS_EXITED, at=instant(FAILED), source="coordinator", seat="s1", step=told)
    lost = failure().model_copy(update={"from_step": known, "evidence": (seen,)})
    assert timed(lost, (), None, FAILED + 1).from_step == from_step


def report(*evidence: Evidence, silent: float = 0.0, still: float = 0.0) -> Report:
    seat = SeatState("s1", "uid", connected=False, state="Lost", silent_seconds=silent)
    return Report(1, 1, "Failed", (seat,), evidence, Progress(step=3, since_step_seconds=still))


def test_evidence_keeps_the_time_at_which_it_was_heard_first() -> None:
    lost = Evidence("SupervisorLost", 1, 10.0, seat="s1")
    first = heard_of(report(lost, silent=5.25), (), 100.0)
    assert first == (Heard("SupervisorLost", "s1", -1, 100.0, 5.25),)
    hang = Evidence("Hang", 1, 12.0, seat="s0", rank=0)
    again = heard_of(report(lost, hang, silent=8.0, still=31.0), first, 103.0)
    assert again == (*first, Heard("Hang", "s0", 0, 103.0, 31.0))


@pytest.mark.parametrize(
    ("progress", "from_step", "reached"),
    [
        pytest.param(Progress(step=16, step_seconds=2.0, since_step_seconds=1.0), 10, 87.0, id="six steps ago"),
        pytest.param(Progress(step=10, step_seconds=2.0), 10, 100.0, id="just now"),
        pytest.param(Progress(step=9, step_seconds=2.0), 10, None, id="not yet"),
        pytest.param(Progress(step=12), 10, None, id="nobody tells how long steps are"),
        pytest.param(Progress(step=12, step_seconds=2.0), None, None, id="nothing was lost"),
    ],
)
def test_training_came_back_between_two_looks(progress: Progress, from_step: int | None, reached: float | None) -> None:
    assert reached_at(progress, from_step, 100.0) == reached


def test_a_look_that_comes_late_does_not_make_a_recovery_longer() -> None:
    repair = Repair(0.0, from_step=10, spent_seconds=(1.0, 0.0))
    late = went_on(repair, now=60.0, placed=True, started_at=3.0, first_step_at=5.0, step=30, caught_up_at=20.0)
    assert late.over
    told = (1.0, 0.0, 2.0, 0.0, 2.0, 15.0)
    assert late.stages == dict(zip(STAGES, told, strict=True)), "what started had its nodes by then"


def test_steps_that_were_done_since_the_last_look_count_before_the_failure_that_ended_them() -> None:
    life = Life().run()
    for step in (1, 10):
        life.now += 10
        life.tell("Running", progress=Progress(step=step))
        life.step()
    life.now += 10
    life.tell("Running", progress=Progress(step=20))
    lost = Evidence("ProcessExited", 1, life.now, seat="s1", rank=1, code=1, step=20)
    life.tell("Failed", (lost,), progress=Progress(step=20))
    life.step()
    assert life.status.epoch == 2
    assert life.status.last_failure.from_step == 20
    assert (life.status.goodput.furthest_step, life.status.goodput.productive_seconds) == (20, 30)
    life.tell("Running", started_at=life.now + 1, first_step_at=life.now + 2, progress=Progress(step=16))
    life.now += 4
    life.step()
    assert life.status.last_failure.recovery.recompute is None, "four steps are done again"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        pytest.param(0, "0 s", id="nothing"),
        pytest.param(0.0384, "38 ms", id="a part of a second"),
        pytest.param(9.96, "10.0 s", id="seconds"),
        pytest.param(59.4, "59 s", id="almost a minute"),
        pytest.param(60, "1 min", id="a minute"),
        pytest.param(125, "2 min 5 s", id="minutes"),
        pytest.param(3 * 3600 + 600, "3 h 10 min", id="hours"),
        pytest.param(52 * 3600, "2 d 4 h", id="days"),
        pytest.param(-3, "0 s", id="a clock that is behind"),
    ],
)
def test_spans_of_time_are_told_in_two_units_at_most(seconds: float, words: str) -> None:
    assert span(seconds) == words


@pytest.mark.parametrize(
    ("at", "quiet"),
    [
        pytest.param(3.0, 0.0, id="a kubelet whose clock stands in 1970"),
        pytest.param(1.7e9, 1e9, id="a coordinator that says it was quiet for thirty years"),
    ],
)
def test_clocks_that_make_no_sense_do_not_keep_a_failure_from_being_told(at: float, quiet: float) -> None:
    lost = failure(Event.SUPERVISOR_LOST, at=at)
    told = timed(lost, [Heard("SupervisorLost", "s1", -1, 1.7e9, quiet)], None, 1.7e9)
    assert told.recovery.detect is not None
    assert told.recovery.detect.seconds <= 999_999_999
    assert LastFailure.model_validate(told.model_dump(by_alias=True)).recovery == told.recovery


@pytest.mark.parametrize("code", [pytest.param(1, id="suspended meanwhile"), pytest.param(3, id="paused by it")])
def test_the_time_in_which_a_job_stands_still_belongs_to_no_recovery(code: int) -> None:
    life = Life(recovery={"rules": [{"when": {"exitCodes": [3]}, "do": "Pause"}]}).run()
    life.now += 10
    life.fails(code=code)
    life.spec(suspend=True)
    life.pods = {}
    life.step()
    life.step()
    assert life.status.phase is JobPhase.SUSPENDED
    stood = life.status.last_failure
    story = failure_story(life.job)
    assert story is not None
    assert story.open_stage is None, "nobody waits for it any more"
    life.now += 7200
    life.spec(suspend=False)
    life.step()
    life.make()
    life.step()
    life.tell("Running", started_at=life.now, first_step_at=life.now, progress=Progress(step=20))
    life.step()
    assert life.status.phase is JobPhase.RUNNING
    assert life.status.last_failure == stood, "two hours would else count as the time of a start"
    life.now += 10
    life.fails("s0", code=2)
    life.tell("Running", started_at=life.now)
    life.step()
    assert life.status.last_failure.recovery.start is not None, "the next one is followed again"
