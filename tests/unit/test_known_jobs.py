"""Jobs that need not be read again: whatever may have changed is, and no older version stays known."""

from __future__ import annotations

import pytest

from stowage.api.training_job import TrainingJob
from stowage.run.known_jobs import KEPT_SECONDS, KnownJobs
from unit.builders import NOW
from unit.test_training_job_status import Life


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def known(clock: Clock) -> KnownJobs:
    return KnownJobs(clock)


@pytest.fixture(scope="module")
def job() -> TrainingJob:
    return Life(1).run().job


def test_a_job_that_was_read_is_known_for_a_while(known: KnownJobs, clock: Clock, job: TrainingJob) -> None:
    assert known.get(job.key) is None
    known.keep(job, known.changes(job.key))
    clock.now += KEPT_SECONDS - 1
    assert known.get(job.key) is job
    clock.now += 1
    assert known.get(job.key) is None, "a watch that tells nothing does not make it last"


def test_a_clock_that_was_put_back_makes_nothing_last(known: KnownJobs, clock: Clock, job: TrainingJob) -> None:
    known.keep(job, known.changes(job.key))
    clock.now -= 1
    assert known.get(job.key) is None


def test_a_change_by_somebody_else_makes_it_unknown(known: KnownJobs, job: TrainingJob) -> None:
    known.keep(job, known.changes(job.key))
    known.changed(job.key)
    assert known.get(job.key) is None


def test_what_was_read_before_a_change_is_not_kept_after_it(known: KnownJobs, job: TrainingJob) -> None:
    before = known.changes(job.key)
    known.changed(job.key)  # told while the answer is on its way
    known.keep(job, before)
    assert known.get(job.key) is None
    known.keep(job, known.changes(job.key))
    assert known.get(job.key) is job


def test_nothing_is_known_when_somebody_else_leads(known: KnownJobs, job: TrainingJob) -> None:
    known.keep(job, known.changes(job.key))
    known.clear()
    assert known.get(job.key) is None


def test_a_standby_that_is_told_of_many_jobs_and_asks_for_none_keeps_nothing(known: KnownJobs) -> None:
    for number in range(1000):
        known.changed(f"team/job-{number}")
    assert known._changes == {}


def test_what_is_read_while_a_term_ends_is_not_kept(known: KnownJobs, job: TrainingJob) -> None:
    before = known.changes(job.key)
    known.clear()
    known.changed(job.key)
    known.keep(job, before)
    assert known.get(job.key) is None
