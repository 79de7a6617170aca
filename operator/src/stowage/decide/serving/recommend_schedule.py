"""Replicas by time of day: bounds that people set, held early enough for a cold start."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from stowage.api.model_service_reasons import ScalingReason
from stowage.decide.serving.decision import Recommendation, Recommender, inputs
from stowage.decide.serving.settings import ScheduledBounds


def recommend_schedule(
    schedules: tuple[ScheduledBounds, ...], now: float, cold_start_seconds: float
) -> Recommendation | None:
    """The most that a window asks for now or when a replica asked for now would be ready; None: no window does.

    Raises:
        ZoneInfoNotFoundError: a time zone is not known.
    """
    holding = [one for one in schedules if _holds(one, now) or _holds(one, now + cold_start_seconds)]
    least = max((one.least for one in holding if one.least is not None), default=None)
    if least is None:
        return None
    return Recommendation(
        Recommender.SCHEDULE, least, least, ScalingReason.SCHEDULED, inputs({"scheduled_least": float(least)})
    )


def scheduled_most(schedules: tuple[ScheduledBounds, ...], now: float) -> int | None:
    """The fewest that a window of now allows at most; None: no window does."""
    return min((one.most for one in schedules if one.most is not None and _holds(one, now)), default=None)


def _holds(bounds: ScheduledBounds, now: float) -> bool:
    local = datetime.fromtimestamp(now, tz=UTC).astimezone(ZoneInfo(bounds.zone))
    second = local.hour * 3600 + local.minute * 60 + local.second
    today, yesterday = local.weekday(), (local - timedelta(days=1)).weekday()
    begin, end = bounds.begin_second, bounds.end_second
    if begin < end:
        return today in bounds.days and begin <= second < end
    return (today in bounds.days and second >= begin) or (yesterday in bounds.days and second < end)
