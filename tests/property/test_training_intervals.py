"""Checkpoint intervals: near the true optimum, within bounds, and moved by what is measured."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stowage_worker.intervals import (
    LEAST_CHANGE,
    LONGEST_SECONDS,
    SHORTEST_SECONDS,
    between_failures,
    checkpoint_interval,
    daly,
    young,
)

HOUR = 3600.0


def expected_share_of_time(interval: float, cost: float, between: float) -> float:
    """Time per second of progress, with exponential failures and no restart time (Daly 2006, equation 20)."""
    return between * math.expm1((interval + cost) / between) / interval


@pytest.mark.parametrize(
    ("cost", "hours", "minutes"),
    [
        pytest.param(60, 3.09, 19.3, id="16,384 GPUs, a minute"),
        pytest.param(1, 3.09, 2.5, id="16,384 GPUs, a second"),
        pytest.param(60, 49.5, 77, id="1,024 GPUs, a minute"),
        pytest.param(5, 49.5, 22, id="1,024 GPUs, five seconds"),
    ],
)
def test_published_rates_give_the_known_intervals(cost: float, hours: float, minutes: float) -> None:
    assert young(cost, hours * HOUR) / 60 == pytest.approx(minutes, rel=0.02)
    assert daly(cost, hours * HOUR) / 60 == pytest.approx(minutes, rel=0.06)


@given(st.floats(0.1, 600), st.floats(HOUR, 1000 * HOUR), st.sampled_from([0.5, 0.8, 1.25, 2.0]))
def test_no_other_interval_is_better(cost: float, between: float, factor: float) -> None:
    best = daly(cost, between)
    assert best > 0
    other = expected_share_of_time(best * factor, cost, between)
    assert expected_share_of_time(best, cost, between) <= other * (1 + 1e-9)


def test_with_checkpoints_that_cost_more_than_failures_the_interval_is_that_of_failures() -> None:
    assert daly(100, 40) == 40


settled = st.fixed_dictionaries(
    {
        "nodes": st.integers(0, 4096),
        "failures": st.integers(0, 1000),
        "trained_seconds": st.floats(0, 1e8),
        "cost_seconds": st.none() | st.floats(0, 1e5),
    }
)


@given(settled, st.none() | st.floats(1, 1e5))
def test_intervals_are_bounded_and_do_not_tremble(facts: dict[str, float], before: float | None) -> None:
    interval = checkpoint_interval(**facts, before_seconds=before)  # type: ignore[arg-type]
    assert SHORTEST_SECONDS <= interval.seconds <= LONGEST_SECONDS
    again = checkpoint_interval(**facts, before_seconds=interval.seconds)  # type: ignore[arg-type]
    assert again.seconds == interval.seconds
    trembling = dict(facts, trained_seconds=facts["trained_seconds"] * (1 + LEAST_CHANGE / 4))
    after = checkpoint_interval(**trembling, before_seconds=interval.seconds)  # type: ignore[arg-type]
    fresh = checkpoint_interval(**trembling)  # type: ignore[arg-type]
    assert after.seconds in {interval.seconds, fresh.seconds}


@given(settled)
def test_more_failures_and_cheaper_checkpoints_mean_shorter_intervals(facts: dict[str, float]) -> None:
    seconds = checkpoint_interval(**facts).seconds  # type: ignore[arg-type]
    worse = dict(facts, failures=facts["failures"] + 5)
    assert checkpoint_interval(**worse).seconds <= seconds  # type: ignore[arg-type]
    cost = facts["cost_seconds"]
    if cost is not None and cost < between_failures(int(facts["nodes"]), 0, 0) / 100 and facts["failures"] == 0:
        assert checkpoint_interval(**dict(facts, cost_seconds=cost / 2)).seconds <= seconds  # type: ignore[arg-type]


def test_prior_rates_give_way_to_what_is_seen() -> None:
    new = between_failures(nodes=64, failures=0, trained_seconds=0)
    assert new == pytest.approx(86400 / 1.2432)
    seen = between_failures(nodes=64, failures=100, trained_seconds=100 * HOUR)
    assert seen == pytest.approx(HOUR, rel=0.2)
    assert between_failures(nodes=64, failures=0, trained_seconds=30 * 86400) > 30 * 86400
