"""A model is used only while it beats persistence, and the spread is what the trial showed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stowage.decide.serving.forecast_models import PERSISTENCE, Floats, Forecast, forecast

BINS = np.arange(360.0)
HORIZON, WIDTH = 13, 6


def noisy(series: Floats, seed: int = 1, deviation: float = 0.05) -> Floats:
    return np.asarray(series * np.exp(np.random.default_rng(seed).normal(0, deviation, len(series))))


def ahead(series: Floats, season: Floats | None = None) -> Forecast:
    return forecast(series, HORIZON, WIDTH, 10.0, 0.05, season)


def test_a_steady_rate_is_foretold_as_it_is() -> None:
    found = ahead(noisy(np.full(360, 10.0)))
    assert found.level == pytest.approx(10, rel=0.05)
    assert found.spread < 0.1


def test_a_wandering_rate_is_left_to_persistence() -> None:
    steps = np.random.default_rng(4).normal(0, 0.03, 360)
    found = ahead(10 * np.exp(np.cumsum(steps)))
    assert found.loss_ratio > 0.7


def test_a_ramp_is_followed_ahead_of_persistence() -> None:
    found = ahead(noisy(5 + BINS / 20, deviation=0.01))
    assert found.model == "damped-trend"
    assert found.loss_ratio < 0.97
    assert found.level == pytest.approx(5 + (359 + HORIZON - WIDTH / 2) / 20, rel=0.02)


def test_a_rate_that_returns_to_its_mean_is_not_chased() -> None:
    found = ahead(noisy(np.full(360, 10.0), deviation=0.3))
    assert found.model != PERSISTENCE
    assert found.level == pytest.approx(10, rel=0.1)


def test_a_season_is_used_where_it_repeats() -> None:
    whole = 10 + 8 * np.sin(np.arange(373.0 + HORIZON) / 9)
    found = ahead(whole[:360], season=whole[: 360 + HORIZON])
    assert found.model == "seasonal"
    assert found.level == pytest.approx(float(whole[360 + HORIZON - WIDTH : 360 + HORIZON].mean()), rel=0.2)


def test_a_season_that_does_not_repeat_is_not_used() -> None:
    other = np.random.default_rng(5).uniform(1, 50, 360 + HORIZON)
    assert ahead(noisy(np.full(360, 10.0)), season=other).model != "seasonal"


def test_an_unknown_season_is_not_used() -> None:
    assert ahead(noisy(np.full(360, 10.0)), season=np.full(360 + HORIZON, math.nan)).model != "seasonal"


@pytest.mark.parametrize("length", [1, 5, 13, 20, 60])
def test_short_histories_have_an_answer(length: int) -> None:
    found = ahead(np.full(length, 4.0))
    assert found.level == pytest.approx(4.0, rel=0.01)
    assert 0 < found.spread < 1
    assert found.model == PERSISTENCE or length >= 40


def test_no_demand_at_all_has_an_answer() -> None:
    found = ahead(np.zeros(100))
    assert 0 <= found.level < 0.1
    assert math.isfinite(found.spread)


def test_wilder_demand_has_a_wider_spread() -> None:
    calm, wild = (ahead(noisy(np.full(360, 10.0), deviation=one)).spread for one in (0.02, 0.6))
    assert wild > 1.5 * calm


def test_errors_of_chance_where_little_came_are_not_those_of_now() -> None:
    """From 2 to 32 requests per second in 20 minutes, foretold where only chance is left of the errors."""
    rate = 2.0 * 2.0 ** (np.arange(120) / 30)
    series = np.asarray(rate * (1 + np.random.default_rng(3).normal(0, 1, 120) / np.sqrt(10.0 * rate)))
    noise = 1 / math.sqrt(30.0 * rate[-1])
    assert forecast(series, 3, 3, 10.0, noise).spread < 1.5 * noise * math.sqrt(1.5)
