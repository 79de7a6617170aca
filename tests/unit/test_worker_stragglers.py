from __future__ import annotations

import math
from dataclasses import replace

import pytest

from stowage_worker.messages import RankProgress
from stowage_worker.stragglers import LEAST_SAMPLES, SAMPLES, SHOWN, StepTimes


def told(own: list[float], steps: int = 20, step_seconds: float = 2.0) -> StepTimes:
    """Ranks that need `own` seconds of each step and wait for the rest, two to a seat."""
    times = StepTimes()
    for step in range(steps):
        for rank, seconds in enumerate(own):
            one = RankProgress(rank, step, step_seconds=step_seconds, wait_seconds=step_seconds - seconds)
            times.told(f"s{rank // 2}", (one,))
    return times


def test_all_steps_take_equally_long_and_who_waits_least_is_slow() -> None:
    (slow,) = told([1.0, 1.0, 1.0, 1.5, 1.0, 1.05]).straggling()
    assert (slow.rank, slow.seat) == (3, "s1")
    assert slow.ratio == pytest.approx(1.5)
    assert (slow.step_seconds_median, slow.wait_seconds_median) == pytest.approx((2.0, 0.5))


@pytest.mark.parametrize(
    "times",
    [
        pytest.param(told([1.0, 1.0, 1.09, 1.0]), id="within a tenth"),
        pytest.param(told([1.0, 2.0]), id="two ranks: who knows which"),
        pytest.param(told([1.0, 1.0, 2.0], steps=LEAST_SAMPLES - 1), id="too few steps"),
        pytest.param(told([0.0, 0.0, 0.0], step_seconds=0.0), id="no time at all"),
    ],
)
def test_no_straggler(times: StepTimes) -> None:
    assert times.straggling() == ()


def test_a_single_slow_step_is_none() -> None:
    times = told([1.0, 1.0, 1.0])
    times.told("s0", (RankProgress(0, 99, step_seconds=60.0, wait_seconds=0.0),))
    assert times.straggling() == ()


def test_what_was_told_before_counts_once_and_only_the_last_steps_count() -> None:
    times = told([1.0, 1.0, 1.0])
    for _ in range(100):
        times.told("s0", (RankProgress(0, 19, step_seconds=60.0),))
    assert times.straggling() == ()
    for step in range(20, 20 + SAMPLES):
        times.told("s0", (RankProgress(0, step, step_seconds=4.0),))
    (slow,) = times.straggling()
    assert slow.step_seconds_median == 4.0


def test_ranks_that_tell_no_times_are_left_out() -> None:
    times = told([1.0, 1.0, 1.0])
    for step in range(20):
        times.told("s9", (RankProgress(7, step), RankProgress(8, step, step_seconds=math.nan)))
    assert times.straggling() == ()


def test_the_slowest_come_first_and_not_all_are_shown() -> None:
    slow = told([1.0] * 100 + [1.2 + number / 100 for number in range(40)]).straggling()
    assert len(slow) == SHOWN
    assert slow[0].rank == 139
    assert [one.ratio for one in slow] == sorted((one.ratio for one in slow), reverse=True)


@pytest.mark.parametrize(
    "one",
    [
        pytest.param(RankProgress(0, 1, step_seconds=1e300), id="longer than anything"),
        pytest.param(RankProgress(0, 1, step_seconds=math.inf), id="for ever"),
        pytest.param(RankProgress(0, 1, step_seconds=9.0, phase="Saving"), id="with a checkpoint in it"),
        pytest.param(RankProgress(0, 1, step_seconds=9.0, phase="Compiling"), id="with a compilation in it"),
    ],
)
def test_steps_that_say_nothing_about_a_rank(one: RankProgress) -> None:
    times = told([1.0, 1.0, 1.0])
    for step in range(100, 100 + SAMPLES):
        times.told("s0", (replace(one, step=step),))
    assert times.straggling() == ()


@pytest.mark.parametrize("wait", [-5.0, math.nan, math.inf, 1e9], ids=str)
def test_a_wait_is_part_of_its_step_whatever_a_program_tells(wait: float) -> None:
    times = told([1.0, 1.0, 1.0], step_seconds=1.0)
    for step in range(100, 100 + SAMPLES):
        times.told("s0", (RankProgress(0, step, step_seconds=3.0, wait_seconds=wait),))
    assert all(0 <= one.wait_seconds_median <= one.step_seconds_median for one in times.straggling())
    assert all(math.isfinite(one.ratio) for one in times.straggling())
