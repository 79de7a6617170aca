"""Demand in even stretches of time: from arrivals, with gaps left out and never taken for quiet."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stowage.decide.serving import demand
from stowage.decide.serving.memory import Bin, Memory
from stowage.decide.serving.pipeline import situation
from stowage.decide.serving.settings import Settings
from stowage.decide.serving.view import View
from unit.serving_views import PERFORMANCE, until, view

BEGIN = 100_000.0


def without(seen: View, first: float, last: float) -> View:
    kept = tuple(one for one in seen.scrapes if not BEGIN + first < one.at < BEGIN + last)
    return replace(seen, scrapes=kept)


def rates(memory: Memory) -> list[float]:
    return [round(one.requests_per_second, 3) for one in memory.bins]


def test_bins_are_arrivals_per_second() -> None:
    memory = demand.remember_demand(view(lambda at: 4.0 if at <= 30 else 8.0, seconds=60), Memory())
    assert rates(memory) == [4, 4, 4, 8, 8, 8]
    assert [one.at - BEGIN for one in memory.bins] == [10, 20, 30, 40, 50, 60]
    assert {one.prompt_tokens_per_second for one in memory.bins} == {4000, 8000}


def test_step_by_step_is_as_at_once() -> None:
    seen, memory = view(lambda at: 5 + at / 100, seconds=300), Memory()
    for at in range(5, 301, 5):
        memory = demand.remember_demand(until(seen, at), memory)
    assert memory.bins == demand.remember_demand(seen, Memory()).bins


@pytest.mark.parametrize(
    ("first", "last", "count"),
    [
        pytest.param(20, 40, 12, id="a short gap is bridged by the counters"),
        pytest.param(20, 90, 5, id="a long one is left out: nothing is made up, least of all zeros"),
    ],
)
def test_gaps(first: float, last: float, count: int) -> None:
    memory = demand.remember_demand(without(view(6.0, seconds=120), first, last), Memory())
    assert rates(memory) == [6] * count


def test_a_counter_that_falls_gives_no_bin() -> None:
    seen = view(6.0, seconds=60)
    again = tuple(
        replace(one, arrived=one.arrived - 200 if one.at > BEGIN + 30 else one.arrived) for one in seen.scrapes
    )
    assert all(
        one.requests_per_second >= 0 for one in demand.remember_demand(replace(seen, scrapes=again), Memory()).bins
    )


def test_memory_of_demand_is_bounded() -> None:
    memory = demand.remember_demand(view(1.0, seconds=7200, every=10), Memory())
    assert len(memory.bins) == demand.KEPT_BINS


def test_a_week_is_remembered_for_long_enough_to_be_tried_on_the_last_hour() -> None:
    seen = view(5.0, seconds=3600.0)
    known = demand.remember_demand(seen, Memory())
    weeks = tuple(Bin(known.bins[-1].at - 600.0 * number, 5.0, 5000.0) for number in reversed(range(2000)))
    memory = demand.remember_demand(until(seen, 3600.0), replace(known, season=weeks))
    found = situation(seen, Settings(PERFORMANCE, season_seconds=604_800.0), memory).season(12)
    assert found is not None
    assert np.isfinite(found).all()


def test_season_is_kept_in_longer_bins() -> None:
    seen, memory = view(lambda at: 3.0 if at <= 1200 else 9.0, seconds=2400, every=10), Memory()
    for at in range(600, 2401, 600):
        memory = demand.remember_demand(until(seen, at), memory)
    assert [(one.at - BEGIN, round(one.requests_per_second, 2)) for one in memory.season] == [
        (600, 3),
        (1200, 3),
        (1800, 9),
        (2400, 9),
    ]


def test_shape_is_that_of_what_came_lately() -> None:
    memory = demand.remember_demand(view(6.0, prompt_tokens=700, output_tokens=90), Memory())
    assert demand.shape(memory) == demand.Shape(pytest.approx(700), pytest.approx(90))


def test_shape_without_requests_is_the_default() -> None:
    assert demand.shape(Memory()) == demand.DEFAULT_SHAPE
    assert demand.shape(Memory(bins=(Bin(10.0, 0.0, 0.0),))) == demand.DEFAULT_SHAPE
