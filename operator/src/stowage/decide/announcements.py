"""What to tell on the pods concerned: each function gives the events of one change of state, and none without one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from msgspec import Struct

from stowage.api.packing_plan_status import PlanPhase, StepState
from stowage.api.reasons import StepReason
from stowage.decide.execution import Advance
from stowage.decide.plan_facts import PlanFacts
from stowage_scheduler.packing import PodRef, Reason, Step, Unplaced

MOST_AT_ONCE = 50
TELL_AGAIN_SECONDS = 600.0  # a reason that comes and goes is told once in so long
_UNDER_WAY = frozenset({PlanPhase.APPROVED, PlanPhase.RUNNING})
_GIVEN_UP = frozenset({PlanPhase.ABORTED, PlanPhase.SUPERSEDED})
_NOT_OURS_TO_TELL = frozenset({Reason.OUT_OF_SCOPE, Reason.GATED, Reason.NOMINATED})


class EventReason(StrEnum):
    """Reasons of the Kubernetes Events that Stowage writes on pods."""

    PLACEMENT_PROPOSED = "PlacementProposed"
    """Pending: a plan would place the pod and waits for approval."""
    MOVE_PROPOSED = "MoveProposed"
    """Running: a plan would move or evict the pod and waits for approval."""
    PLACEMENT_PLANNED = "PlacementPlanned"
    """Pending: an approved plan places the pod."""
    PLACEMENT_DROPPED = "PlacementDropped"
    """Pending: the plan that was to place the pod ended without that."""
    STAYS_PENDING = "StaysPending"
    """Pending: no plan places the pod; the note says why and what would help."""
    MOVING = "Moving"
    """Evicted: its replacement goes to another node."""
    LOSES_PLACE = "LosesPlace"
    """Evicted: pods that need the room more take its place."""
    PLACED = "Placed"
    """Bound where the plan says."""
    EVICTION_WAITS = "EvictionWaits"
    """Its PodDisruptionBudget allows no eviction now."""
    EVICTION_REFUSED = "EvictionRefused"
    """The API server refuses the eviction."""
    GANG_RESTARTS = "GangRestarts"
    """Its gang was not bound whole in time and starts again."""


_WARNINGS = frozenset(
    {
        EventReason.PLACEMENT_DROPPED,
        EventReason.STAYS_PENDING,
        EventReason.LOSES_PLACE,
        EventReason.EVICTION_WAITS,
        EventReason.EVICTION_REFUSED,
        EventReason.GANG_RESTARTS,
    }
)


class Announcement(Struct, frozen=True):
    """One event on one pod; `key` tells it from others of the same reason that speak of the same plan or policy."""

    pod: PodRef
    reason: EventReason
    note: str
    key: str = ""

    @property
    def warning(self) -> bool:
        """Whether its type is Warning."""
        return self.reason in _WARNINGS


def announcements(plan: PlanFacts, advance: Advance) -> tuple[Announcement, ...]:
    """The events of one write: one for each step whose state changed in a way that the pod's owner cares for.

    That a pod leaves is told by `departures`: the intent is written before the API server has agreed.
    """
    targets = _targets(plan)
    found = list(_of_phase(plan, advance))
    for step in plan.steps:
        before, after = plan.status_of(step), advance.step_status.get(step.id)
        if after is None or (before.state is after.state and before.reason is after.reason):
            continue
        words = _words(step, after.state, after.reason, targets.get(step.slot or ""), advance.message)
        if words is not None:
            reason, note = words
            key = f"{step.id}/{after.reason}"  # a refusal for good is told after one that is tried again
            pod = advance.names.get(step.id, step.pod)
            found.append(Announcement(pod, reason, f"plan {plan.name}, step {step.id}: {note}", key))
    return tuple(found[:MOST_AT_ONCE])


def departures(plan: PlanFacts, evicted: Iterable[Step]) -> tuple[Announcement, ...]:
    """The events on pods whose eviction the API server granted."""
    targets = _targets(plan)
    sent_on = {step.replacement_of for step in plan.steps if step.replacement_of}
    found = []
    for step in evicted:
        target = targets.get(step.slot or "")
        if step.action.arrives:
            reason, note = EventReason.GANG_RESTARTS, f"gang {step.gang} was not bound whole in time and starts again"
        elif target is None:
            reason = EventReason.LOSES_PLACE
            note = f"evicted from node {step.node}{_for_whom(plan, step)}, without a new place"
        else:
            reason = EventReason.MOVING
            note = f"evicted from node {step.node}{_for_whom(plan, step)}, its replacement goes to node {target}"
            note += " for a while" if step.id in sent_on else ""
        found.append(Announcement(step.pod, reason, f"plan {plan.name}, step {step.id}: {note}", step.id))
    return tuple(found)


def left_pending(
    unplaced: Iterable[Unplaced], told: Mapping[str, Reason], policy: str, now: float
) -> tuple[Announcement, ...]:
    """The events on pods that no plan places: each is told when its reason is not the one told last.

    Args:
        unplaced: what a packing said; pods that the policy does not plan for are passed over.
        told: the reasons told last, by the UID of the pod.
        policy: whom the packing was made for.
        now: seconds since the epoch; a reason that comes back is told again only after a while.
    """
    found = [
        Announcement(
            one.pod,
            EventReason.STAYS_PENDING,
            f"policy {policy}: no plan places it: {one.reason}" + (f"; would help: {one.help}" if one.help else ""),
            f"{one.reason}/{int(now // TELL_AGAIN_SECONDS)}",
        )
        for one in unplaced
        if one.reason not in _NOT_OURS_TO_TELL and told.get(one.pod.uid) is not one.reason
    ]
    return tuple(found[:MOST_AT_ONCE])


def _of_phase(plan: PlanFacts, advance: Advance) -> Iterable[Announcement]:
    """The events on all pods of a plan that is proposed, begins, or is given up."""
    before, after = plan.phase, advance.phase
    if before is None and after is PlanPhase.PROPOSED:
        for step in plan.steps:
            yield _proposed(plan, step)
    elif before in {None, PlanPhase.PROPOSED} and after in _UNDER_WAY:
        evictions = sum(not step.action.arrives for step in plan.steps)
        first = f" after {evictions} evictions" if evictions > 1 else " after one eviction" if evictions else ""
        for step in plan.steps:
            if step.action.arrives:
                note = f"plan {plan.name}, step {step.id}: goes to node {step.node}{first}"
                yield Announcement(step.pod, EventReason.PLACEMENT_PLANNED, note, step.id)
    elif after in _GIVEN_UP and before not in _GIVEN_UP:
        why = ": ".join(str(part) for part in (advance.reason, advance.message) if part)
        for step in plan.steps:
            status = advance.step_status.get(step.id, plan.status_of(step))
            if step.action.arrives and status.state is not StepState.DONE:
                note = f"plan {plan.name} is {after} and does not place it: {why}"
                yield Announcement(step.pod, EventReason.PLACEMENT_DROPPED, note, step.id)


def _proposed(plan: PlanFacts, step: Step) -> Announcement:
    target = _targets(plan).get(step.slot or "")
    if step.action.arrives:
        reason, words = EventReason.PLACEMENT_PROPOSED, f"would place it on node {step.node}"
    elif target is None:
        reason, words = EventReason.MOVE_PROPOSED, f"would evict it from node {step.node}{_for_whom(plan, step)}"
    else:
        reason = EventReason.MOVE_PROPOSED
        words = f"would move it from node {step.node} to node {target}{_for_whom(plan, step)}"
    return Announcement(step.pod, reason, f"plan {plan.name} {words}, and waits for approval", step.id)


def _targets(plan: PlanFacts) -> Mapping[str, str]:
    return {slot.id: slot.node for slot in plan.slots}


def _for_whom(plan: PlanFacts, step: Step) -> str:
    """The pods that an eviction makes room for: those that wait for it, or else all that the plan places."""
    arriving = [one for one in plan.steps if one.action.arrives]
    pods = [one.pod.key for one in arriving if step.id in one.after] or [one.pod.key for one in arriving]
    if not pods:
        return f" so that node {step.node} becomes empty" if step.node in plan.empties else ""
    more = f" and {len(pods) - 1} more" if len(pods) > 1 else ""
    return f" for {pods[0]}{more}"


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
