"""Rates, means and quantiles of what was scraped: resets, gaps, stale and broken samples never become zero."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from stowage.decide.serving.view import ITL_BOUNDS_SECONDS, TTFT_BOUNDS_SECONDS, Scrape, View

NAN = math.nan


def scrape(at: float, arrived: Any = 0, waiting: Any = 0, ttft: tuple[Any, ...] | None = None) -> Scrape:
    return Scrape(
        at=at,
        ready=1,
        starting=0,
        waiting=waiting,
        running=0,
        kv_tokens_in_use=0,
        kv_tokens_capacity=1000,
        arrived=arrived,
        completed=0,
        prompt_tokens=0,
        generated_tokens=0,
        ttft_counts=ttft or (0,) * (len(TTFT_BOUNDS_SECONDS) + 1),
        itl_counts=(0,) * (len(ITL_BOUNDS_SECONDS) + 1),
    )


def view(*scrapes: Scrape, now: float = 60.0) -> View:
    return View(now=now, desired=1, replicas=(), scrapes=scrapes, cold_start_seconds=60)


def counted(**by_bound: int) -> tuple[int, ...]:
    """Cumulative counts from new ones: `le_2_5=3` is three in the bucket up to 2.5 s, `rest` beyond the last."""
    new = {float(name[3:].replace("_", ".")): n for name, n in by_bound.items() if name != "rest"}
    total, row = 0, []
    for bound in TTFT_BOUNDS_SECONDS:
        total += new.get(bound, 0)
        row.append(total)
    return (*row, total + by_bound.get("rest", 0))


@pytest.mark.parametrize(
    ("samples", "rate"),
    [
        pytest.param([(0, 10), (30, 40)], 1.0, id="plain rise"),
        pytest.param([(0, 10), (20, 10), (30, 10)], 0.0, id="counted, and nothing came: a true zero"),
        pytest.param(
            [(0, 100), (10, 120), (20, 5), (30, 25)], 45 / 30, id="process began again: its new count is the rise"
        ),
        pytest.param([(0, 10), (55, 65)], 1.0, id="gap between: the rise is spread over it"),
        pytest.param([(30, 7)], None, id="one sample is no rate"),
        pytest.param([], None, id="no sample is no rate"),
        pytest.param([(-600, 1), (-500, 2)], None, id="all older than the window"),
        pytest.param([(0, 10), (20, NAN), (30, 40)], 1.0, id="NaN is no sample"),
        pytest.param([(0, NAN), (30, NAN)], None, id="only NaN is no rate, not zero"),
        pytest.param([(0, 10), (20, -5), (30, 40)], 1.0, id="negative count is no sample, not a reset"),
        pytest.param([(0, 10), (20, math.inf), (30, 40)], 1.0, id="infinite is no sample"),
        pytest.param([(10, 10), (10, 40)], None, id="two samples of one instant"),
        pytest.param([(0, 0), (30, 30), (90, 9000)], 1.0, id="samples from later than now are not known yet"),
    ],
)
def test_rate(samples: list[tuple[float, Any]], rate: float | None) -> None:
    assert view(*(scrape(at, n) for at, n in samples)).rate("arrived", 61) == rate


@pytest.mark.parametrize(
    ("samples", "mean"),
    [
        pytest.param([(0, 2), (30, 4)], 3.0, id="of two"),
        pytest.param([(30, 4)], 4.0, id="of one, as avg_over_time does"),
        pytest.param([(0, 2), (30, NAN)], 2.0, id="NaN is left out"),
        pytest.param([(0, -3)], None, id="negative is left out"),
        pytest.param([], None, id="of none"),
    ],
)
def test_mean(samples: list[tuple[float, Any]], mean: float | None) -> None:
    assert view(*(scrape(at, waiting=n) for at, n in samples)).mean("waiting", 61) == mean


@pytest.mark.parametrize(
    ("before", "after", "q", "seconds"),
    [
        pytest.param(counted(), counted(le_2_5=10), 0.5, 1.75, id="the middle of one bucket"),
        pytest.param(
            counted(), counted(le_0_5=50, le_2_5=50), 0.9, 1.0 + 1.5 * 0.8, id="within the bucket of its rank"
        ),
        pytest.param(counted(), counted(le_0_5=1, rest=9), 0.9, 2560.0, id="beyond the last bound: that bound"),
        pytest.param(counted(le_0_5=7), counted(le_0_5=7), 0.9, None, id="nothing new is no quantile"),
        pytest.param(counted(le_80=90), counted(le_2_5=10), 0.5, 1.75, id="begun again: only what came since"),
        pytest.param(counted(), (NAN,) * (len(TTFT_BOUNDS_SECONDS) + 1), 0.5, None, id="NaN is no sample"),
        pytest.param(counted(), (1, 2, 3), 0.5, None, id="a row with other bounds is no sample"),
    ],
)
def test_quantile(before: tuple[Any, ...], after: tuple[Any, ...], q: float, seconds: float | None) -> None:
    found = view(scrape(0, ttft=before), scrape(30, ttft=after)).quantile("ttft_counts", q, 61)
    assert found == (None if seconds is None else pytest.approx(seconds))


def test_window_is_open_at_its_old_end_and_closed_at_now() -> None:
    seen = view(scrape(0), scrape(30), scrape(60), now=60)
    assert [one.at for one in seen.within(60)] == [30, 60]
    assert [one.at for one in replace(seen, now=59).within(60)] == [0, 30]
