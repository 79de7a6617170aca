"""Durations, budgets and timestamps as users type them."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from stowage.cli.errors import InputError

_DAY_HOURS = 24


def duration_seconds(text: str, option: str, *, most_hours: int = _DAY_HOURS) -> float:
    """Seconds of a duration like `1s`, `500ms` or `1m30s`; more than zero, by default at most a day.

    Raises:
        InputError: the text is no such duration.
    """
    from stowage.api.durations import Duration

    try:
        seconds = Duration(text).seconds
    except ValueError as error:
        raise InputError(f"{option} {text[:40]!r}: {error}") from error
    if not 0 < seconds <= most_hours * 3600:
        raise InputError(f"{option} {text}: must be more than 0s and at most {most_hours}h")
    return seconds


def positive_number(amount: float, option: str) -> float:
    """The same number, when it is finite and more than zero.

    Raises:
        InputError: it is not.
    """
    if not math.isfinite(amount) or amount <= 0:
        raise InputError(f"{option} {amount}: must be a number above zero")
    return amount


def budget_given(budget: str | None, deterministic_budget: float | None) -> tuple[float | None, float | None]:
    """Wall seconds and deterministic units of the options of these names; None for what was not given.

    Raises:
        InputError: both were given, or one of them is no budget.
    """
    if budget is not None and deterministic_budget is not None:
        raise InputError("--budget and --deterministic-budget: give one of them")
    seconds = duration_seconds(budget, "--budget") if budget is not None else None
    if deterministic_budget is None:
        return seconds, None
    return seconds, positive_number(deterministic_budget, "--deterministic-budget")


def timestamp_seconds(text: str, option: str) -> float:
    """Seconds since the epoch of an RFC 3339 timestamp; without a zone it is UTC.

    Raises:
        InputError: the text is no timestamp.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"{option} {text[:40]!r}: must be a timestamp such as 2026-01-31T12:00:00Z") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
