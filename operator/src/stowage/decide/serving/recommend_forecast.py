"""Replicas by what is forecast for when a replica asked for now would be ready: a cold start and one interval on.

The model is chosen by back-test (`forecast_models`), the quantile by the price of an idle replica. A replica that is
let go could be back only after a cold start as well, so the role may shrink to what the whole of that time needs.
"""

from __future__ import annotations

import math

from stowage.api.model_service_reasons import ScalingReason
from stowage.decide.serving.decision import Recommendation, Recommender, inputs
from stowage.decide.serving.demand import BIN_SECONDS
from stowage.decide.serving.forecast_models import Forecast, forecast, trailing_mean
from stowage.decide.serving.replicas_for_demand import Expected, replicas_for
from stowage.decide.serving.situation import Situation

WIDTH_BINS = 3
"""The mean of half a minute is forecast, about as long as a request takes: what varies faster is part of what a replica
was found to bear."""

DEVIATIONS_PLANNED = 3.0
"""So many deviations, by chance and by what is known of a replica, above the highest half minute of the last hour, or
above what is expected if that is more: demand that jumps to and fro has a spread that would call for far more than
ever came."""


def recommend_forecast(situation: Situation) -> Recommendation | None:
    """What the demand ahead asks for; None before any demand is known."""
    if not len(situation.series):
        return None
    horizon = situation.view.cold_start_seconds + situation.settings.interval_seconds
    far = _ahead(situation, max(WIDTH_BINS, math.ceil(horizon / BIN_SECONDS)))
    near = _ahead(situation, WIDTH_BINS)
    soon, spares = _replicas(situation, near), situation.view.spares
    needed = _replicas(situation, far) - spares  # no start has to be ahead of what spares stand in for
    if spares:
        needed = max(needed, soon)
    enough = max(needed, soon)
    known = inputs(
        {
            "horizon_seconds": horizon,
            "forecast_per_second": far.level,
            "forecast_spread": far.spread,
            "forecast_loss_ratio": far.loss_ratio,
            "capacity_per_replica_per_second": situation.capacity.within_targets_per_second,
            "idle_price": situation.price.idle,
        }
    )
    return Recommendation(Recommender.FORECAST, needed, enough, ScalingReason.FORECAST_HIGHER, known)


def _ahead(situation: Situation, horizon: int) -> Forecast:
    series = situation.series
    noise = situation.noise(float(series[-6:].mean()), WIDTH_BINS * BIN_SECONDS)
    return forecast(series, horizon, WIDTH_BINS, BIN_SECONDS, noise, situation.season(horizon))


def _replicas(situation: Situation, ahead: Forecast) -> int:
    capacity = situation.capacity
    highest = max(ahead.level, float(trailing_mean(situation.series, WIDTH_BINS).max()))
    deviation = math.hypot(situation.noise(highest, WIDTH_BINS * BIN_SECONDS), capacity.spread)
    most = math.ceil(highest * math.exp(DEVIATIONS_PLANNED * deviation) / capacity.requests_per_second)
    return max(1, min(most, replicas_for(Expected(ahead.level, ahead.spread), capacity, situation.price)))
