from __future__ import annotations

import pytest

from stowage_worker.hang import Hang, HangWatch, watched
from stowage_worker.messages import HangRule, RankProgress

RULE = HangRule(floor_seconds=5.0, factor=5.0, first_step_seconds=600.0)
Told = list[RankProgress]


class Job:
    """Looks at ranks once a second; `hang` is the first that was found, `at` when."""

    def __init__(self, rule: HangRule = RULE) -> None:
        self.rule = rule
        self.now = 1000.0
        self.watch = HangWatch(since=self.now)
        self.is_ending = False
        self.hang: Hang | None = None
        self.at = 0.0

    def looks(self, told: Told, seconds: float = 1.0) -> None:
        self.now += seconds
        self.watch, found = watched(
            self.watch, self.rule, [(0.0, rank) for rank in told], self.now, is_ending=self.is_ending
        )
        assert found is None or self.hang is None, "told twice"
        if found is not None:
            self.hang, self.at = found, self.now

    def trains(self, steps: int, step_seconds: float = 1.0, first: int = 0) -> None:
        for step in range(first, first + steps):
            self.looks([at(step), at(step, rank=1)], step_seconds)

    def stands(self, seconds: int, step: int, phase: str = "Training") -> None:
        for second in range(1, seconds + 1):
            self.looks([at(step, phase, since=second), at(step, phase, since=second, rank=1)])


def at(step: int, phase: str = "Training", *, since: float = 0.0, rank: int = 0) -> RankProgress:
    return RankProgress(rank, step, phase=phase, since_step_seconds=since)


@pytest.mark.parametrize(
    ("step_seconds", "allowed"),
    [
        pytest.param(0.5, 5.0, id="short steps: the floor"),
        pytest.param(1.0, 5.0, id="five steps are the floor"),
        pytest.param(4.0, 20.0, id="long steps: five of them"),
    ],
)
def test_a_job_that_stands_still(step_seconds: float, allowed: float) -> None:
    job = Job()
    job.trains(20, step_seconds)
    stood_at = job.now
    job.stands(60, step=19)
    assert job.hang == Hang(rank=0, step=19, still_seconds=allowed + 1, allowed_seconds=allowed)
    assert job.at == stood_at + allowed + 1
    assert job.watch.is_found


def test_steps_that_ranks_tell_count_from_the_first_on() -> None:
    job = Job()
    told = RankProgress(0, 3, phase="Training", step_seconds=2.0)
    job.looks([told])
    for second in range(1, 13):
        job.looks([RankProgress(0, 3, phase="Training", step_seconds=2.0, since_step_seconds=second)])
    assert job.hang is not None
    assert (job.hang.still_seconds, job.hang.allowed_seconds) == (11.0, 10.0)


def test_the_rank_that_is_behind_is_named() -> None:
    job = Job()
    job.trains(20)
    for second in range(1, 8):
        job.looks([at(20, since=second), at(19, since=second, rank=1), at(20, since=second, rank=2)])
    assert job.hang is not None
    assert (job.hang.rank, job.hang.step) == (1, 19)


def test_one_rank_that_stands_while_others_go_on() -> None:
    job = Job()
    job.trains(20)
    for second in range(1, 8):
        job.looks([at(19 + second), at(19, since=second, rank=1)])
    assert job.hang is not None
    assert job.hang.rank == 1


@pytest.mark.parametrize("phase", ["Saving", "Restoring", "Compiling", "Evaluating", "Initializing", "Leaving"])
def test_other_phases_take_their_time_and_none_of_it_is_a_step(phase: str) -> None:
    job = Job()
    job.trains(20)
    for second in range(1, 301):  # one rank saves, the others wait for it
        job.looks([at(19, phase, since=second), at(19, since=second, rank=1)])
    assert job.hang is None
    for second in range(1, 5):  # training again, but the step has not changed yet
        job.looks([at(19, since=300 + second), at(19, since=300 + second, rank=1)])
    assert job.hang is None
    job.trains(10, first=20)
    assert max(job.watch.step_seconds) == 1.0, "the time of the phase is in no sample"
    job.stands(7, step=29)
    assert job.hang is not None


def test_a_save_that_never_ends_is_a_hang_in_the_end() -> None:
    job = Job()
    job.trains(20)
    job.stands(610, step=19, phase="Saving")
    assert job.hang is not None
    assert job.hang.allowed_seconds == 600.0


def test_ranks_that_part_are_no_hang_before_half_an_hour() -> None:
    job = Job(HangRule())
    job.trains(20, 0.1)
    job.is_ending = True  # one has ended with 0, the others write what they have gathered
    job.stands(1800, step=19)
    assert job.hang is None
    job.stands(1801, step=19)
    assert job.hang is not None


def test_a_rule_that_allows_longer_than_other_phases_holds_in_these_too() -> None:
    job = Job(HangRule(floor_seconds=7200.0, factor=0.0))
    job.trains(20)
    job.stands(7200, step=19, phase="Saving")
    assert job.hang is None
    job.stands(7201, step=19, phase="Saving")
    assert job.hang is not None


def test_a_hang_right_after_a_save() -> None:
    job = Job()
    job.trains(20)
    job.stands(60, step=19, phase="Saving")
    assert job.hang is None
    for second in range(61, 70):
        job.looks([at(19, since=second)])
    assert job.hang is not None
    assert job.hang.still_seconds == 6.0, "counted from the end of the save"


def test_the_first_step_may_take_longer() -> None:
    job = Job()
    job.stands(599, step=-1, phase="Training")
    assert job.hang is None
    job.looks([at(-1, since=601)])
    assert job.hang is not None


def test_programs_that_tell_nothing_never_hang() -> None:
    job = Job()
    for hours in range(1, 10):
        job.looks([RankProgress(0, since_step_seconds=hours * 3600.0)], 3600.0)
    assert job.hang is None


def test_a_new_epoch_knows_nothing_of_the_old_one() -> None:
    job = Job()
    job.trains(20)
    job.stands(30, step=19, phase="Saving")
    job.watch = HangWatch(since=job.now)  # the processes were started again, from an older step
    for second in range(1, 301):
        job.looks([at(10, "Restoring", since=second)])
    job.trains(10, first=10)
    assert job.hang is None
    job.stands(6, step=19)
    assert job.hang is not None


def test_steps_that_go_back_are_no_samples() -> None:
    job = Job()
    job.trains(5)
    job.trains(5, first=2)
    assert all(sample == 1.0 for sample in job.watch.step_seconds)


def test_the_time_between_two_beats_is_no_hang_however_low_the_floor() -> None:
    rule = HangRule(floor_seconds=0.1, factor=5.0)
    watch = HangWatch(since=0.0)
    for tick in range(1, 200):
        now = tick * 0.25
        beat = now // 1.0
        told = [(now - beat, RankProgress(0, step=int(beat * 50), phase="Training", step_seconds=0.02))]
        watch, found = watched(watch, rule, told, now)
        assert found is None
