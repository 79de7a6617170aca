"""What a running plan waits for when it stands still, and when waiting is of no use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stowage.api.packing_plan_status import StepState
from stowage.api.reasons import PlanReason, StepReason
from stowage.decide.plan_facts import Attempt
from stowage.decide.plan_validity import Invalid, room_now
from stowage.decide.slot_balance import owner_sends_more
from stowage.decide.step_progress import Progress
from stowage_scheduler.cluster import Pod
from stowage_scheduler.packing import Action, Step

STALL_SECONDS: Final = 10.0  # without any change of a step, a running plan says what it waits for
STUCK_SECONDS: Final = 30.0  # without any change and without anything under way, it is given up

_WORTH_WAITING = frozenset(
    {
        StepReason.DISRUPTION_BUDGET,
        StepReason.PEER_NOT_READY,
        StepReason.OWNER_LIMIT,
        StepReason.CANARY_PENDING,
        StepReason.AWAITING_EXTENDER,
        StepReason.THROTTLED,
        StepReason.EVICTION_FAILED,
        StepReason.BINDING_FAILED,
        StepReason.POLICY_PAUSED,
    }
)
_STALLS = {
    StepReason.DISRUPTION_BUDGET: PlanReason.DISRUPTION_BUDGET,
    StepReason.PEER_NOT_READY: PlanReason.DISRUPTION_BUDGET,
    StepReason.OWNER_LIMIT: PlanReason.OWNER_LIMIT,
    StepReason.CANARY_PENDING: PlanReason.CANARY_PENDING,
    StepReason.AWAITING_EXTENDER: PlanReason.AWAITING_EXTENDER,
    StepReason.THROTTLED: PlanReason.THROTTLED,
    StepReason.EVICTION_FAILED: PlanReason.EVICTION_FAILED,
    StepReason.BINDING_FAILED: PlanReason.BINDING_FAILED,
    StepReason.REPLACEMENT_PENDING: PlanReason.REPLACEMENT_PENDING,
    StepReason.POD_TERMINATING: PlanReason.REPLACEMENT_PENDING,
}


def mood(progress: Progress, attempts: Mapping[str, Attempt], *, paused: bool) -> tuple[PlanReason, str]:
    """Why a running plan is where it is, and what it waits for when it stands still, in the server's words."""
    if paused:
        return PlanReason.POLICY_PAUSED, f"policy {progress.plan.policy} is paused: no pod is evicted"
    waiting = {progress.steps[step.id].reason: step for step in reversed(progress.unsettled)}
    times = [status.at for status in progress.steps.values() if status.at is not None]
    moving = not times or progress.now - max(times) < STALL_SECONDS
    for reason, of_plan in _STALLS.items():
        step = waiting.get(reason)
        if step is not None and not moving:
            return of_plan, f"step {step.id} ({step.pod.key}): {reason.value}{said(attempts, step, reason)}"
    return PlanReason.EXECUTING, ""


def said(attempts: Mapping[str, Attempt], step: Step, reason: StepReason) -> str:
    """What the API server answered to the last request for a step, if that is why it waits; with a colon before."""
    attempt = attempts.get(step.id) or attempts.get(f"slot/{step.slot}")
    return f": {attempt.message}" if attempt is not None and attempt.reason is reason and attempt.message else ""


def stuck(progress: Progress) -> Invalid | None:
    """Whether a plan that stands still for long can not go on by itself: another one is made from what is.

    An eviction under way, a budget, an owner that is slow to make a pod, and a pod that has room but is not
    scheduled yet are all worth waiting for, up to the plan's time-out.
    """
    times = [status.at for status in progress.steps.values() if status.at is not None]
    since = max([*times, progress.plan.started_at or progress.now])
    if progress.now - since < STUCK_SECONDS or not all(_hopeless(progress, step) for step in progress.unsettled):
        return None
    step = progress.unsettled[0]
    words = f"nothing went on for {STUCK_SECONDS:g} s; step {step.id} ({step.pod.key}) has no room"
    return Invalid(PlanReason.STALE_SNAPSHOT, words)


def _hopeless(progress: Progress, step: Step) -> bool:
    """Whether nothing that is under way lets a step go on."""
    status = progress.steps[step.id]
    if status.reason in _WORTH_WAITING:
        return False
    slot = progress.slot_of(step)
    if step.action is Action.EVICT and not progress.gone(step):
        return status.state is StepState.WAITING
    if slot is None:
        return False
    waiting = [pod for pod in progress.facts.by_class.get(slot.slot_class, ()) if pod.node is None]
    if not waiting:
        return not owner_sends_more(slot.slot_class, progress.facts)
    places = [other.node for other in progress.open_slots if other.slot_class == slot.slot_class]
    return not any(_has_room(progress, pod, node) for pod in waiting for node in places)


def _has_room(progress: Progress, pod: Pod, node: str) -> bool:
    room = room_now(node, progress.facts, ()) or {}
    return all(amount <= room.get(resource, 0) for resource, amount in pod.requests.items() if amount)
