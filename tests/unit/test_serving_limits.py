"""Any recommender raises, all together lower; limits, the stabilisation window and the rate of falls."""

from __future__ import annotations

import pytest

from stowage.api.model_service_reasons import ScalingReason
from stowage.decide.serving.combine import combine
from stowage.decide.serving.decision import Recommendation, Recommender
from stowage.decide.serving.limits import limited
from stowage.decide.serving.memory import Memory, Wanted
from stowage.decide.serving.settings import Settings
from stowage.decide.serving.stabilisation import (
    MOST_KEPT,
    fall,
    remember_change,
    remember_needed,
    remember_wanted,
    rise,
)
from unit.serving_views import PERFORMANCE


def says(recommender: Recommender, needed: int, enough: int) -> Recommendation:
    return Recommendation(recommender, needed, enough, ScalingReason.STEADY)


def test_the_highest_need_and_the_highest_hold_count() -> None:
    low, high = says(Recommender.SLO, 3, 9), says(Recommender.FORECAST, 5, 6)
    assert combine([low, high]) == (high, low)
    assert combine([]) is None


@pytest.mark.parametrize(
    ("wanted", "budget", "scheduled", "answer"),
    [
        pytest.param(5, None, None, (5, None), id="within all"),
        pytest.param(1, None, None, (2, ScalingReason.AT_MINIMUM), id="at the minimum"),
        pytest.param(99, None, None, (20, ScalingReason.AT_MAXIMUM), id="at the maximum"),
        pytest.param(9, 7, None, (7, ScalingReason.BUDGET_REACHED), id="no more than is paid for"),
        pytest.param(9, 8, 6, (6, ScalingReason.SCHEDULED), id="the lowest ceiling holds"),
        pytest.param(9, 1, None, (2, ScalingReason.AT_MINIMUM), id="the minimum holds against a budget"),
    ],
)
def test_limits(
    wanted: int, budget: int | None, scheduled: int | None, answer: tuple[int, ScalingReason | None]
) -> None:
    settings = Settings(PERFORMANCE, least=2, most=20, budget_replicas=budget)
    assert limited(wanted, settings, scheduled) == answer


def after(*enough: tuple[float, int], window: float = 60) -> Memory:
    memory = Memory()
    for at, count in enough:
        memory = remember_wanted(memory, at, count, window)
    return memory


@pytest.mark.parametrize(
    ("memory", "current", "enough", "percent", "answer"),
    [
        pytest.param(after((100, 2)), 4, 2, 100, (4, ScalingReason.STABILIZING), id="one look is not enough"),
        pytest.param(after((40, 2), (100, 2)), 4, 2, 100, (2, None), id="fewer did all the time"),
        pytest.param(
            after((40, 2), (70, 3), (100, 2)), 4, 2, 100, (3, ScalingReason.STABILIZING), id="down to the highest"
        ),
        pytest.param(
            after((40, 2), (70, 5), (100, 2)), 4, 2, 100, (4, ScalingReason.STABILIZING), id="more were needed since"
        ),
        pytest.param(after((40, 2), (100, 2)), 20, 2, 20, (16, ScalingReason.RATE_LIMITED), id="a fifth in a minute"),
        pytest.param(
            after((40, 1), (100, 1)), 3, 1, 20, (2, ScalingReason.RATE_LIMITED), id="at least one in a minute"
        ),
    ],
)
def test_falls(
    memory: Memory, current: int, enough: int, percent: float, answer: tuple[int, ScalingReason | None]
) -> None:
    settings = Settings(PERFORMANCE, most_percent_per_minute=percent)
    found = fall(memory, settings, 100.0, current, enough, 60.0)
    assert (found.replicas, found.reason) == answer


def test_the_rate_of_falls_counts_those_of_the_last_minute() -> None:
    settings = Settings(PERFORMANCE, most_percent_per_minute=20)
    memory = remember_change(after((40, 2), (100, 2)), settings, 100.0, 10, 8)
    memory = remember_wanted(memory, 105.0, 2, 60.0)
    assert fall(memory, settings, 105.0, 8, 2, 60.0).replicas == 8
    memory = remember_wanted(memory, 161.0, 2, 60.0)
    assert fall(memory, settings, 161.0, 8, 2, 60.0).replicas == 7


def test_the_window_forgets_what_is_older() -> None:
    assert after((10, 9), (40, 2), (100, 2)).wanted == (Wanted(40, 2), Wanted(100, 2))


def test_a_window_of_a_day_is_kept_in_few_entries_and_holds_what_was_needed_in_it() -> None:
    day, settings = 86_400.0, Settings(PERFORMANCE, most_percent_per_minute=100)
    memory = Memory()
    for at in range(0, 2 * 86_400, 50):
        memory = remember_wanted(memory, float(at), 9 if at == 100_000 else 2 + at // 50 % 2, day)
        assert len(memory.wanted) <= 2 + MOST_KEPT
    assert fall(memory, settings, 172_800.0, 12, 2, day).replicas == 9
    for at in range(172_800, 187_000, 50):
        memory = remember_wanted(memory, float(at), 2, day)
    assert fall(memory, settings, 187_000.0, 12, 2, day).replicas == 3


def asked(*needed: tuple[float, int], settings: Settings) -> Memory:
    memory = Memory()
    for at, count in needed:
        memory = remember_needed(memory, settings, at, count)
    return memory


@pytest.mark.parametrize(
    ("needed", "window", "percent", "answer"),
    [
        pytest.param([(100, 9)], 0, None, (9, None), id="at once, where nothing is asked for"),
        pytest.param([(100, 9)], 60, None, (4, ScalingReason.STABILIZING), id="one look is not enough"),
        pytest.param([(40, 9), (70, 8), (100, 9)], 60, None, (8, ScalingReason.STABILIZING), id="up to the lowest"),
        pytest.param([(40, 9), (70, 4), (100, 9)], 60, None, (4, ScalingReason.STABILIZING), id="less did since"),
        pytest.param([(40, 9), (100, 9)], 60, None, (9, None), id="more was needed all the time"),
        pytest.param([(100, 9)], 0, 50, (6, ScalingReason.RATE_LIMITED), id="half as many more in a minute"),
        pytest.param([(100, 9)], 0, 5, (5, ScalingReason.RATE_LIMITED), id="at least one in a minute"),
    ],
)
def test_rises(
    needed: list[tuple[float, int]], window: float, percent: float | None, answer: tuple[int, ScalingReason | None]
) -> None:
    settings = Settings(PERFORMANCE, rise_stabilisation_seconds=window, most_rise_percent_per_minute=percent)
    found = rise(asked(*needed, settings=settings), settings, 100.0, 4, needed[-1][1])
    assert (found.replicas, found.reason) == answer


def test_the_rate_of_rises_counts_those_of_the_last_minute() -> None:
    settings = Settings(PERFORMANCE, most_rise_percent_per_minute=50)
    memory = remember_change(Memory(), settings, 100.0, 4, 6)
    assert rise(memory, settings, 105.0, 6, 20).replicas == 6
    memory = remember_change(memory, settings, 161.0, 6, 6)
    assert rise(memory, settings, 161.0, 6, 20).replicas == 9


def test_nothing_is_remembered_of_rises_that_nobody_holds_back() -> None:
    memory = remember_change(asked((100, 9), settings=Settings(PERFORMANCE)), Settings(PERFORMANCE), 100.0, 4, 9)
    assert (memory.needed, memory.raised) == ((), ())
