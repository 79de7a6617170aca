"""Conditions: the standard way in which a resource says how it is."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from stowage.api.durations import Instant
from stowage.api.fields import MAX_COUNT, Integer, Message, ReasonWord, Unique
from stowage.api.resource import StatusFields


class ConditionStatus(StrEnum):
    """Whether a condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(StatusFields):
    """One aspect of a resource's state (metav1.Condition)."""

    type: ReasonWord
    """Which aspect."""
    status: ConditionStatus
    """Whether it holds."""
    observed_generation: Annotated[Integer, Field(ge=0, le=MAX_COUNT)] = 0
    """`metadata.generation` that this speaks of."""
    last_transition_time: Instant
    """When `status` last changed."""
    reason: ReasonWord
    """Why, from a closed set."""
    message: Message = ""
    """Why, in words."""


Conditions = Annotated[tuple[Condition, ...], Field(max_length=16), Unique("type")]


def with_condition(
    conditions: tuple[Condition, ...],
    kind: StrEnum,
    status: ConditionStatus | bool,  # noqa: FBT001 - True and False are what a condition is about
    reason: StrEnum,
    message: str = "",
    *,
    now: datetime,
    observed_generation: int,
) -> tuple[Condition, ...]:
    """`conditions` with the one of type `kind` set; the time of its last transition moves only with its status.

    Args:
        conditions: as read from the status.
        kind: a member of `PolicyCondition` or `PlanCondition`.
        status: whether it holds; a bool stands for True or False.
        reason: a member of the enum of reasons that belongs to the kind of resource.
        message: words for people, cut at 1024 characters.
        now: current time, cut to whole seconds as Kubernetes keeps it.
        observed_generation: `metadata.generation` of the resource that was looked at.
    """
    if isinstance(status, bool):
        status = ConditionStatus.TRUE if status else ConditionStatus.FALSE
    old = condition_of(conditions, kind)
    unchanged = old is not None and old.status == status
    fresh = Condition(
        type=kind.value,
        status=status,
        observed_generation=observed_generation,
        last_transition_time=old.last_transition_time if old and unchanged else now.replace(microsecond=0),
        reason=reason.value,
        message=message,
    )
    if old is None:
        return (*conditions, fresh)
    return tuple(fresh if one.type == kind.value else one for one in conditions)


def condition_of(conditions: tuple[Condition, ...], kind: StrEnum) -> Condition | None:
    """The condition of type `kind`, or None when it was never set."""
    return next((one for one in conditions if one.type == kind.value), None)
