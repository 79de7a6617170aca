"""Schedules of a ModelService that no clock can keep, or that contradict each other or the bounds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from stowage.admission.verdict import Problem
from stowage.api.model_service import ModelService
from stowage.api.model_service_scaling import EVERY_DAY, Schedule

SCHEDULES: Final = "spec.scaling.schedules"
_DAY: Final = 24 * 60
_WEEK: Final = 7 * _DAY


def impossible_schedules(service: ModelService) -> Iterator[Problem]:
    """Each alone: its time zone, its role, the bounds of that; then pairs of one role that overlap."""
    schedules = service.spec.scaling.schedules
    for number, one in enumerate(schedules):
        yield from _by_itself(service, one, f"{SCHEDULES}[{number}]")
    first = service.spec.roles[0].name
    for (_, one), (number, other) in itertools.combinations(enumerate(schedules), 2):
        if (one.role or first) == (other.role or first) and one.time_zone == other.time_zone:
            yield from _contradiction(one, other, f"{SCHEDULES}[{number}]")


def _by_itself(service: ModelService, schedule: Schedule, path: str) -> Iterator[Problem]:
    try:
        ZoneInfo(schedule.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        rule = "is no time zone of the IANA database; write it as in Europe/Berlin"
        yield Problem(f"{path}.timeZone", schedule.time_zone, rule)
    role = service.spec.role(schedule.role)
    if role is None:
        known = ", ".join(one.name for one in service.spec.roles)
        yield Problem(f"{path}.role", str(schedule.role), f"is not one of spec.roles: {known}")
        return
    if schedule.min is not None and schedule.min > role.bounds.max:
        rule = f"is more than bounds.max = {role.bounds.max} of role {role.name}, which holds always; raise that"
        yield Problem(f"{path}.min", str(schedule.min), rule)
    if schedule.max is not None and schedule.max < role.bounds.min:
        rule = f"is less than bounds.min = {role.bounds.min} of role {role.name}, which holds always; lower that"
        yield Problem(f"{path}.max", str(schedule.max), rule)


def _contradiction(one: Schedule, other: Schedule, path: str) -> Iterator[Problem]:
    """Two that hold at once, of which one asks for more than the other allows."""
    least = max(one.min or 0, other.min or 0)
    allowed = [schedule.max for schedule in (one, other) if schedule.max is not None]
    if not allowed or least <= min(allowed) or not _overlap(one, other):
        return
    rule = (
        f"holds at the same time as {one.name}, and together they ask for at least {least} and at most "
        f"{min(allowed)} replicas; change the times or the numbers"
    )
    yield Problem(path, other.name, rule)


def _overlap(one: Schedule, other: Schedule) -> bool:
    """Whether the two hold at once in some week, by the clocks of their common time zone."""
    shifts = (-_WEEK, 0, _WEEK)
    return any(
        begin < finish + shift and start + shift < end
        for begin, end in _windows(one)
        for start, finish in _windows(other)
        for shift in shifts
    )


def _windows(schedule: Schedule) -> list[tuple[int, int]]:
    """Begin and end in minutes of the week; one that ends after Sunday has an end beyond the week."""
    start, end = _minute(schedule.start), _minute(schedule.end)
    length = end - start if end > start else end - start + _DAY
    days = (EVERY_DAY.index(day) for day in schedule.days)
    return [(day * _DAY + start, day * _DAY + start + length) for day in days]


def _minute(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)
