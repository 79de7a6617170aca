"""Models of demand, tried on what has been: one is used only while it beats persistence.

Persistence, that the next minutes are as the last one, is right for most servers (Seagull, VLDB 2021); what is meant to
be better has to show it on the recent past of the very service. All models are fixed functions of the past, so that
the trial is honest without fitting.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
PERSISTENCE = "persistence"
PERSISTENCE_BINS = 6
LEVEL_BINS = 18
"""Half-life of the level that a season is scaled by."""
BETTER = 0.97
"""Another model's mean loss must be at most so many times that of persistence."""
LEAST_TRIALS = 24
HALF_LIFE_BINS = 60
"""Trials so many bins older weigh half."""
PRIOR_TRIALS = 4.0
"""What is assumed of the drift before anything was tried weighs as much as so many trials."""
DRIFT_PER_SECOND = 0.0007
"""Assumed standard deviation of the logarithm per second of horizon."""
LEAST_RATE = 0.01


@dataclass(frozen=True, slots=True)
class Forecast:
    """Of the demand around one horizon: its level, the logarithm's spread, and the model that says so."""

    level: float
    spread: float
    model: str
    loss_ratio: float
    """The model's mean loss over that of persistence."""


def smoothed(series: Floats, half_life_bins: float) -> Floats:
    """Exponential smoothing, unbiased at the beginning; one value per bin."""
    growth = 2.0 ** (np.arange(len(series)) / half_life_bins)  # at most 2^94 for the bins that are kept
    values: Floats = np.cumsum(series * growth) / np.cumsum(growth)
    return values


def trailing_mean(series: Floats, bins: int) -> Floats:
    """Mean of the last `bins` values, of fewer at the beginning."""
    sums = np.concatenate(([0.0], np.cumsum(series)))
    ends = np.arange(1, len(series) + 1)
    begins = np.maximum(0, ends - bins)
    means: Floats = (sums[ends] - sums[begins]) / (ends - begins)
    return means


def _damped_trend(series: Floats, horizon: int) -> Floats:
    """Holt's linear trend, damped (Gardner and McKenzie, 1985), from two smoothings of different age."""
    fast, slow = smoothed(series, 6), smoothed(series, 24)
    age = (24 - 6) / math.log(2)  # of the slow smoothing's information over the fast one's
    reach = 30 * (1 - 0.5 ** (horizon / 30)) / math.log(2)  # bins that a trend which halves in 30 goes on for
    trend = fast + (fast - slow) / age * (reach + 6)
    bounded: Floats = np.clip(trend, fast * 0.5, fast * 2)
    return bounded


def _autoregressive(series: Floats, horizon: int) -> Floats:
    """A first-order autoregression in continuous time around the mean of the last minutes."""
    near, far = smoothed(series, 4), smoothed(series, 60)
    mean: Floats = far + (near - far) * 0.5 ** (horizon / 30)
    return mean


MODELS: dict[str, Callable[[Floats, int], Floats]] = {
    PERSISTENCE: lambda series, _: trailing_mean(series, PERSISTENCE_BINS),
    "smoothing-1m": lambda series, _: smoothed(series, 6),
    "smoothing-3m": lambda series, _: smoothed(series, 18),
    "smoothing-10m": lambda series, _: smoothed(series, 60),
    "damped-trend": _damped_trend,
    "autoregression": _autoregressive,
}


def forecast(
    series: Floats, horizon: int, width: int, bin_seconds: float, noise: float, season: Floats | None = None
) -> Forecast:
    """The mean demand of the `width` bins that end `horizon` bins from now.

    Args:
        series: demand per bin, the newest last; at least one.
        horizon: bins, at least `width`.
        width: bins over which demand matters.
        bin_seconds: length of a bin.
        noise: assumed standard deviation of the logarithm of such a mean at a steady rate.
        season: what was one season ago at each bin of the series and at the `horizon` after it (length: that of
            the series plus `horizon`); NaN where nothing is known.
    """
    floor = max(LEAST_RATE, float(series.mean()) * 0.02)
    predictions = {name: np.maximum(floor, model(series, horizon)) for name, model in MODELS.items()}
    if season is not None:
        seasonal = _seasonal(series, season, horizon)
        if math.isfinite(seasonal[-1]):
            predictions["seasonal"] = np.maximum(floor, seasonal)
    chance = noise**2 * (1 + width / PERSISTENCE_BINS)  # of the mean that comes and of the one that foretells it
    drift = (DRIFT_PER_SECOND * horizon * bin_seconds) ** 2
    count = len(series) - horizon - PERSISTENCE_BINS
    if count < 1:
        return Forecast(float(predictions[PERSISTENCE][-1]), math.sqrt(chance + drift), PERSISTENCE, 1.0)
    tried = slice(PERSISTENCE_BINS, PERSISTENCE_BINS + count)  # before, too little was known to foretell
    actual = np.maximum(floor, trailing_mean(series, width)[horizon + PERSISTENCE_BINS :])
    weights = 0.5 ** (np.arange(count)[::-1] / HALF_LIFE_BINS)
    errors = {name: np.log(actual / made[tried]) for name, made in predictions.items()}
    name, ratio = _best(errors, weights) if count >= LEAST_TRIALS else (PERSISTENCE, 1.0)
    error = np.where(np.isfinite(errors[name]), errors[name], 0.0)
    trials = float(weights.sum()) / max(1.0, horizon / 2)  # neighbours share most of what they tried
    bias = float((weights * error).sum() / weights.sum()) * trials / (trials + PRIOR_TRIALS)
    level = float(predictions[name][-1])
    # chance is relatively larger where little came: what is left of the errors beyond it is drift, and goes on
    beyond = (error - bias) ** 2 - chance * level / predictions[name][tried]
    drifted = max(0.0, float((weights * beyond).sum() / weights.sum()))
    spread = math.sqrt(chance + (PRIOR_TRIALS * drift + trials * drifted) / (PRIOR_TRIALS + trials))
    return Forecast(level * math.exp(bias), spread, name, ratio)


def _best(errors: dict[str, Floats], weights: Floats) -> tuple[str, float]:
    losses = {name: _loss(error, weights) for name, error in errors.items()}
    name = min(losses, key=lambda one: losses[one])
    if not losses[PERSISTENCE] > 0:
        return PERSISTENCE, 1.0
    ratio = losses[name] / losses[PERSISTENCE]
    return (name, ratio) if ratio <= BETTER else (PERSISTENCE, 1.0)


def _loss(error: Floats, weights: Floats) -> float:
    """Mean absolute error of the logarithm where the model has an answer; infinite where that is seldom."""
    known = np.isfinite(error)
    if known.mean() < 0.5:
        return math.inf
    return float((weights[known] * np.abs(error[known])).sum() / weights[known].sum())


def _seasonal(series: Floats, season: Floats, horizon: int) -> Floats:
    """Seasonal naive: as one season ago, times how the last minutes compare with those of then."""
    then, later = season[: len(series)], trailing_mean(season, PERSISTENCE_BINS)[horizon:]
    known = np.isfinite(then)
    now, before = (smoothed(np.where(known, one, 0.0), LEVEL_BINS) for one in (series, then))
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = later * np.clip(now / before, 0.25, 4.0)
    return found
