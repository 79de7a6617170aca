"""When a service has nothing to do, and may have no replica at all; who wakes it is in `hold.py`."""

from __future__ import annotations

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from stowage.api.model_service import ModelServiceSpec
from stowage.api.model_service_scaling import Schedule
from stowage.decide.serving.view import View


def what_is_unknown(spec: ModelServiceSpec, schedule: Schedule) -> str:
    """Why a schedule holds never, where admission did not see it; empty: it holds at its times."""
    if spec.role(schedule.role) is None:
        return f"there is no role {schedule.role}"
    try:
        ZoneInfo(schedule.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return f"there is no time zone {schedule.time_zone}"
    return ""


def idle_since(view: View, before: float | None, *, is_sound: bool) -> float | None:
    """Since when no request has come or run, by the scrapes and by what was known `before`.

    None: one runs, or the scrapes can not be trusted: lack of knowledge is no idleness.
    """
    if not is_sound or not view.scrapes:
        return None
    newest = view.scrapes[-1]
    since: float | None = None
    for one in reversed(view.scrapes):
        if one.running + one.waiting > 0 or one.arrived != newest.arrived:
            return since
        since = one.at
    return since if before is None or since is None else min(before, since)


def has_queue(view: View) -> bool:
    """Whether the newest scrape tells of requests that wait or run."""
    return bool(view.scrapes) and view.scrapes[-1].waiting + view.scrapes[-1].running > 0
