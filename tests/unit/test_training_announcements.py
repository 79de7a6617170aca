"""What is told on a job: each change of its state once, on one line, and not more than a bounded number."""

from __future__ import annotations

from typing import Any

import pytest

from stowage.api.training_words import JobPhase
from stowage.decide.training.job_announcements import (
    MOST_NOTE,
    JobAnnouncement,
    JobEventReason,
    job_announcements,
    one_line,
)
from stowage.run.event_allowance import BURST, EVERY_SECONDS, EventAllowance
from stowage_worker.messages import Progress
from unit.test_training_job_status import Life


class Told(Life):
    """A job's life with what is told of it."""

    def step(self) -> Any:
        before = self.job
        step = super().step()
        self.told: tuple[JobAnnouncement, ...] = job_announcements(before, self.job)
        return step

    def line(self) -> tuple[str, str]:
        """The only event of the last step."""
        (one,) = self.told
        return one.reason.value, one.note


def test_a_life_without_failures_is_told_in_three_events() -> None:
    life = Told()
    life.step()
    assert life.line() == ("Created", "to run on 2 nodes, 1 a node")
    life.make()
    life.step()
    assert life.told == ()
    life.tell("Running", started_at=life.now)
    life.step()
    assert life.line() == ("Started", "every rank runs on 2 nodes, epoch 1, attempt 1")
    life.step()
    assert life.told == ()
    life.tell("Finished")
    life.step()
    reason, note = life.line()
    assert reason == "Succeeded"
    assert note.startswith("every rank of epoch 1 ended with code 0; 0 restarts, goodput ")


def test_a_failure_is_told_with_what_is_done_and_how_long_each_stage_took() -> None:
    life = Told().run()
    life.tell("Running", progress=Progress(step=12))
    life.step()
    life.fails(error_type="OSError", error_message="stale\nfile handle")
    reason, note = life.line()
    assert reason == "FailureSeen"
    assert note.startswith("ProcessExited on rank 1, seat s1")
    assert "OSError: stale file handle: the processes start again." in note
    life.now += 4
    life.tell("Running", started_at=life.now, progress=Progress(step=8))
    life.step()
    stages = "detect 1.0 s, decide 0 s, schedule 0 s, start 4.0 s"
    words = f"every rank runs again on 2 nodes, 5.0 s after the failure ({stages}); epoch 2, attempt 2"
    assert life.line() == ("Recovered", words)
    life.now += 2
    life.tell("Running", started_at=life.now - 2, first_step_at=life.now - 1, progress=Progress(step=9))
    life.step()
    assert life.told == ()
    life.now += 3
    life.tell("Running", started_at=life.now - 5, first_step_at=life.now - 4, progress=Progress(step=12))
    life.step()
    assert life.line() == (
        "CaughtUp",
        "training is at step 12 again, 10 s after the failure (restore 1.0 s, recompute 4.0 s)",
    )


def test_a_job_that_fails_tells_whose_words_it_ends_with() -> None:
    life = Told(recovery={"rules": [{"when": {"exitCodes": [42]}, "do": "Fail", "message": "data error"}]}).run()
    life.fails(code=42)
    seen, failed = life.told
    assert (seen.reason, failed.reason) == (JobEventReason.FAILURE_SEEN, JobEventReason.FAILED)
    assert failed.warning
    assert failed.note.startswith("FailedByRule: ")
    assert "data error" in failed.note


def test_who_is_paused_is_told_how_to_go_on() -> None:
    life = Told(recovery={"rules": [{"when": {"exitCodes": [3]}, "do": "Pause"}]}).run()
    life.fails(code=3)
    seen, paused = life.told
    assert (seen.reason, paused.reason) == (JobEventReason.FAILURE_SEEN, JobEventReason.PAUSED)
    assert paused.note.endswith("Set spec.suspend to true and to false again to go on.")


def test_suspended_and_resumed() -> None:
    life = Told().run()
    life.spec(suspend=True)
    life.step()
    assert life.told == (), "the ranks yield"
    life.tell("Yielded")
    life.step()
    assert life.status.phase is JobPhase.SUSPENDED
    assert life.line()[0] == "Suspended"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param("two\nlines\tof\x1b[31m text", "two lines of [31m text", id="control characters"),
        pytest.param("x" * 5000, "x" * (MOST_NOTE - 1) + "…", id="far too long"),
        pytest.param("fits", "fits", id="as it is"),
    ],
)
def test_words_of_others_are_one_bounded_line(text: str, line: str) -> None:
    assert one_line(text) == line


class TestAllowance:
    def told(self, count: int) -> list[JobAnnouncement]:
        return [JobAnnouncement(JobEventReason.FAILURE_SEEN, f"failure {number}") for number in range(count)]

    def test_a_job_that_never_stops_failing_is_told_now_and_then_with_what_was_left_out(self) -> None:
        now = [0.0]
        allowance = EventAllowance(lambda: now[0])
        assert len(allowance.allowed("team/loops", self.told(BURST))) == BURST
        assert allowance.allowed("team/loops", self.told(3)) == ()
        assert len(allowance.allowed("team/other", self.told(1))) == 1, "another job is not held back"
        now[0] += EVERY_SECONDS
        (one,) = allowance.allowed("team/loops", self.told(2))
        assert one.note == "failure 0 (3 events before were not told)"
        now[0] += EVERY_SECONDS
        (one,) = allowance.allowed("team/loops", self.told(1))
        assert one.note == "failure 0 (1 events before were not told)"

    def test_a_quiet_job_saves_no_more_than_a_burst(self) -> None:
        now = [0.0]
        allowance = EventAllowance(lambda: now[0])
        allowance.allowed("team/loops", self.told(1))
        now[0] += 1e6
        assert len(allowance.allowed("team/loops", self.told(BURST + 9))) == BURST
        allowance.forget("team/loops")
        assert len(allowance.allowed("team/loops", self.told(BURST))) == BURST
