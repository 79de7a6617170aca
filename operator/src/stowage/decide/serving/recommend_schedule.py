"""Replicas by time of day: bounds that people set, held early enough for a cold start."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from stowage.api.model_service_reasons import ScalingReason
from stowage.decide.serving.decision import Recommendation, Recommender, inputs
from stowage.decide.serving.settings import ScheduledBounds


def recommend_schedule(
    schedules: tuple[ScheduledBounds, ...], now: float, cold_start_seconds: float
) -> Recommendation | None:
    """The most that a window asks for at any time from now until a replica asked for now would be ready.

    None: no window does. One that is shorter than a cold start is held from a cold start before it to its end.

    Raises:
        ZoneInfoNotFoundError: a time zone is not known.
    """
    holding = [one for one in schedules if _holds(one, now, now + cold_start_seconds)]
    least = max((one.least for one in holding if one.least is not None), default=None)
    if least is None:
        return None
    return Recommendation(
        Recommender.SCHEDULE, least, least, ScalingReason.SCHEDULED, inputs({"scheduled_least": float(least)})
    )


def scheduled_most(schedules: tuple[ScheduledBounds, ...], now: float) -> int | None:
    """The fewest that a window of now allows at most; None: no window does."""
    return min((one.most for one in schedules if one.most is not None and _holds(one, now, now)), default=None)


def _holds(bounds: ScheduledBounds, since: float, until: float) -> bool:
    """Whether a window has a part between two times, both included.

    Its ends are times of the clocks on the wall. One that a change of those leaves out comes when it would have been;
    one that comes twice begins a window the first time and ends it the second time.
    """
    zone = ZoneInfo(bounds.zone)
    day = datetime.fromtimestamp(since, tz=zone).date() - timedelta(days=1)
    last = datetime.fromtimestamp(until, tz=zone).date()
    while day <= last:
        if day.weekday() in bounds.days:
            ends = day if bounds.begin_second < bounds.end_second else day + timedelta(days=1)
            end = max(_at(ends, bounds.end_second, zone, fold) for fold in (0, 1))
            if _at(day, bounds.begin_second, zone) <= until and since < end:
                return True
        day += timedelta(days=1)
    return False


def _at(day: date, second: int, zone: ZoneInfo, fold: int = 0) -> float:
    wall = datetime.combine(day, time(), tzinfo=zone) + timedelta(seconds=second)  # by the wall, as both have a zone
    return wall.replace(fold=fold).timestamp()
