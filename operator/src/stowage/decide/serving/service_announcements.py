"""What to tell on a ModelService: the events of one write of its status, and none where nothing happened."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

from msgspec import Struct

from stowage.api.conditions import Condition, ConditionStatus, condition_of
from stowage.api.model_service import ModelService
from stowage.api.model_service_reasons import ServiceCondition
from stowage.api.model_service_status import DecisionRecord, GroupStatus, ModelServiceStatus
from stowage.decide.serving.service_conditions import TROUBLES
from stowage.decide.training.job_announcements import one_line


class ServiceEventReason(StrEnum):
    """Reasons of the Kubernetes Events that Stowage writes on ModelServices."""

    SCALED_UP = "ScaledUp"
    """A role gets more replicas; the note says why."""
    SCALED_DOWN = "ScaledDown"
    """A role gets fewer replicas; the note says why."""
    SIGNALS_LOST = "SignalsLost"
    """Signals are missing, stale or contradictory: replicas stay or rise."""
    SIGNALS_BACK = "SignalsBack"
    """Signals can be relied on again."""
    TARGETS_MISSED = "TargetsMissed"
    """Fewer requests than `slo.attainment` asks for met the targets."""
    TARGETS_MET = "TargetsMet"
    """Enough requests meet the targets again."""
    NOT_ACCEPTED = "NotAccepted"
    """The service is not acted on as it is written; the note says what stands in the way."""
    UNAVAILABLE = "Unavailable"
    """Replicas fail, have no room or may not be made; the note has the words of the cluster."""
    GROUP_RESTARTED = "GroupRestarted"
    """All pods of a replica that has several are made anew; the note says which of them broke."""


_WARNINGS: Final = frozenset(
    {
        ServiceEventReason.SIGNALS_LOST,
        ServiceEventReason.TARGETS_MISSED,
        ServiceEventReason.NOT_ACCEPTED,
        ServiceEventReason.UNAVAILABLE,
        ServiceEventReason.GROUP_RESTARTED,
    }
)
_MOST_INPUTS: Final = 4

_Told = tuple[ServiceEventReason, str, str]


class ServiceAnnouncement(Struct, frozen=True):
    """One event on one service; `key` tells it from others of the same reason."""

    reason: ServiceEventReason
    note: str
    key: str = ""

    @property
    def warning(self) -> bool:
        """Whether its type is Warning."""
        return self.reason in _WARNINGS


def service_announcements(before: ModelService, after: ModelService) -> tuple[ServiceAnnouncement, ...]:
    """The events of one write.

    Args:
        before: the service as it was read.
        after: as it was written.
    """
    if before.status == after.status:
        return ()
    return tuple(ServiceAnnouncement(reason, one_line(note), key) for reason, note, key in _told(before, after))


def _told(before: ModelService, after: ModelService) -> Iterator[_Told]:
    old, new = before.status, after.status
    yield from _changes(old, new)
    yield from _restarts(old, new)
    yield from _turned(
        old, new, ServiceCondition.OBSERVED, ServiceEventReason.SIGNALS_LOST, ServiceEventReason.SIGNALS_BACK
    )
    yield from _turned(
        old, new, ServiceCondition.TARGETS_MET, ServiceEventReason.TARGETS_MISSED, ServiceEventReason.TARGETS_MET
    )
    yield from _refusals(old, new)
    was, now = _condition(old, ServiceCondition.AVAILABLE), _condition(new, ServiceCondition.AVAILABLE)
    if now is not None and now.reason in TROUBLES and (was is None or was.reason != now.reason):
        yield ServiceEventReason.UNAVAILABLE, f"{now.reason}: {now.message}", _key(now)


def _changes(old: ModelServiceStatus, new: ModelServiceStatus) -> Iterator[_Told]:
    known = {(one.at, one.role) for one in old.decisions}
    for one in new.decisions:
        if (one.at, one.role) in known or one.from_ == one.to:
            continue
        reason = ServiceEventReason.SCALED_UP if one.to > one.from_ else ServiceEventReason.SCALED_DOWN
        yield reason, decision_words(one), f"{one.role}/{one.at.timestamp():.3f}"


def _restarts(old: ModelServiceStatus, new: ModelServiceStatus) -> Iterator[_Told]:
    known = {place: one.restarts for place, one in _groups(old)}
    for (role, variant, ordinal), one in _groups(new):
        if one.restarts > known.get((role, variant, ordinal), 0):
            why = f"{one.reason}: {one.message}" if one.message else one.reason
            words = f"{role}: all pods of replica {ordinal} of {variant} are made anew, {why}"
            yield ServiceEventReason.GROUP_RESTARTED, words, f"{role}/{variant}/{ordinal}/{one.attempt}"


def _groups(status: ModelServiceStatus) -> Iterator[tuple[tuple[str, str, int], GroupStatus]]:
    for role in status.roles:
        for variant in role.variants:
            yield from (((role.name, variant.name, one.ordinal), one) for one in variant.groups)


def decision_words(one: DecisionRecord) -> str:
    """A decision on one line: role, numbers, reason, who asked and the first of the numbers behind it."""
    by = f" by {one.recommender}" if one.recommender else ""
    words = f": {one.message}" if one.message else ""
    known = ", ".join(f"{name} {value}" for name, value in sorted(one.inputs.items())[:_MOST_INPUTS])
    numbers = f" ({known})" if known and not words else ""
    return f"{one.role}: from {one.from_} to {one.to} replicas, {one.reason}{by}{words}{numbers}"


def _turned(
    old: ModelServiceStatus,
    new: ModelServiceStatus,
    kind: ServiceCondition,
    bad: ServiceEventReason,
    good: ServiceEventReason,
) -> Iterator[_Told]:
    """A condition became false, or true again after it was false."""
    was, now = _condition(old, kind), _condition(new, kind)
    if now is None or (was is not None and was.status == now.status):
        return
    if now.status is ConditionStatus.FALSE and was is not None:
        yield bad, f"{now.reason}: {now.message}", _key(now)
    elif now.status is ConditionStatus.TRUE and was is not None and was.status is ConditionStatus.FALSE:
        yield good, now.message or now.reason, _key(now)


def _refusals(old: ModelServiceStatus, new: ModelServiceStatus) -> Iterator[_Told]:
    was, now = _condition(old, ServiceCondition.ACCEPTED), _condition(new, ServiceCondition.ACCEPTED)
    if now is None or now.status is ConditionStatus.TRUE:
        return
    if was is None or (was.reason, was.message) != (now.reason, now.message):
        yield ServiceEventReason.NOT_ACCEPTED, f"{now.reason}: {now.message}", f"{_key(now)}/{now.message}"


def _condition(status: ModelServiceStatus, kind: ServiceCondition) -> Condition | None:
    return condition_of(status.conditions, kind)


def _key(one: Condition) -> str:
    return f"{one.reason}/{one.last_transition_time.timestamp():.0f}"
