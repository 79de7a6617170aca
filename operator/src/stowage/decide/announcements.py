"""What to tell on the pods concerned when a plan goes on."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct

from stowage.api.packing_plan_status import StepState
from stowage.api.reasons import StepReason
from stowage.decide.execution import Advance
from stowage.decide.plan_facts import PlanFacts
from stowage_scheduler.packing import PodRef, Step

MOST_AT_ONCE = 50


class EventReason(StrEnum):
    """Reasons of the Kubernetes Events that Stowage writes on pods."""

    MOVING = "Moving"
    LOSES_PLACE = "LosesPlace"
    PLACED = "Placed"
    EVICTION_WAITS = "EvictionWaits"
    EVICTION_REFUSED = "EvictionRefused"
    GANG_RESTARTS = "GangRestarts"


class Announcement(Struct, frozen=True):
    """One event on one pod."""

    pod: PodRef
    reason: EventReason
    note: str
    warning: bool = False


def announcements(plan: PlanFacts, advance: Advance) -> tuple[Announcement, ...]:
    """The events of one write: one for each step whose state changed in a way that the pod's owner cares for.

    That a pod leaves is told by `departures`: the intent is written before the API server has agreed.
    """
    targets = {slot.id: slot.node for slot in plan.slots}
    found = []
    for step in plan.steps:
        before, after = plan.status_of(step), advance.step_status.get(step.id)
        if after is None or (before.state is after.state and before.reason is after.reason):
            continue
        words = _words(step, after.state, after.reason, targets.get(step.slot or ""), advance.message)
        if words is not None:
            reason, note = words
            warning = reason in {EventReason.EVICTION_WAITS, EventReason.EVICTION_REFUSED}
            found.append(Announcement(step.pod, reason, f"plan {plan.name}, step {step.id}: {note}", warning))
    return tuple(found[:MOST_AT_ONCE])


def departures(plan: PlanFacts, evicted: Iterable[Step]) -> tuple[Announcement, ...]:
    """The events on pods whose eviction the API server granted."""
    targets = {slot.id: slot.node for slot in plan.slots}
    found = []
    for step in evicted:
        target = targets.get(step.slot or "")
        if step.action.arrives:
            reason, note = EventReason.GANG_RESTARTS, f"gang {step.gang} was not bound whole in time and starts again"
        elif target is None:
            reason, note = EventReason.LOSES_PLACE, f"evicted from node {step.node} for pods that need the room more"
        else:
            reason, note = EventReason.MOVING, f"evicted from node {step.node}, its replacement goes to node {target}"
        words = f"plan {plan.name}, step {step.id}: {note}"
        found.append(Announcement(step.pod, reason, words, warning=reason is not EventReason.MOVING))
    return tuple(found)


def _words(
    step: Step, state: StepState, reason: StepReason | None, target: str | None, message: str
) -> tuple[EventReason, str] | None:
    if step.action.arrives:
        placed = state is StepState.DONE and target is not None
        return (EventReason.PLACED, f"placed on node {target}") if placed else None
    if reason is StepReason.DISRUPTION_BUDGET:
        return EventReason.EVICTION_WAITS, "its PodDisruptionBudget allows no disruption now"
    if reason in {StepReason.EVICTION_REFUSED, StepReason.EVICTION_FAILED}:
        return EventReason.EVICTION_REFUSED, f"not evicted: {message}"
    return None
