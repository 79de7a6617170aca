"""Which pods of a running plan may be evicted now."""

from __future__ import annotations

from collections.abc import Sequence

from stowage.api.packing_plan import PlanSteering
from stowage.api.packing_plan_status import StepState
from stowage.api.reasons import StepReason
from stowage.decide.budget_gate import BudgetGate, unready_replacements
from stowage.decide.canary import awaits_canary
from stowage.decide.landing import expected_on
from stowage.decide.owner_gate import OwnerGate
from stowage.decide.plan_validity import room_now
from stowage.decide.situation import Situation, extender_ready
from stowage.decide.step_progress import Progress
from stowage_scheduler.movability import forbids_disruption
from stowage_scheduler.packing import Action, Step

EVICTIONS_AT_ONCE = 20


def evictions(progress: Progress, situation: Situation) -> tuple[Step, ...]:
    """The evictions to ask for in this pass; each is marked as intended."""
    unready = unready_replacements(progress)
    gate = BudgetGate(progress.facts, progress.plan.steps, progress.steps, progress.slots_by_id, unready)
    owners = OwnerGate(progress, situation.policy.max_unavailable if situation.policy is not None else None)
    canary = situation.policy is not None and situation.policy.canary
    chosen: list[Step] = []
    for step in progress.unsettled:
        if progress.is_to_come(step):
            progress.set(step, StepState.WAITING, StepReason.DEPENDENCY_PENDING)
        pod = progress.facts.standing(step.pod.uid)
        if step.action is not Action.EVICT or pod is None or not _may_start(progress, step, situation):
            continue
        if forbids_disruption(pod):
            progress.set(step, StepState.FAILED, StepReason.DO_NOT_DISRUPT)
            continue
        hold = StepReason.CANARY_PENDING if canary and awaits_canary(progress, step) else None
        hold = hold or gate.hold(step, pod) or owners.hold(step)
        intended = progress.steps[step.id].state is StepState.INTENDED
        if hold is StepReason.EVICTION_REFUSED:
            progress.set(step, StepState.FAILED, hold)
        elif hold is not None:
            progress.set(step, StepState.INTENDED if intended else StepState.WAITING, hold)
        elif len(chosen) < EVICTIONS_AT_ONCE:
            gate.passed(step, pod)
            owners.passed(step)
            # asked once more, it waits for what it waited for: else each try would be two writes, and news
            progress.set(step, StepState.INTENDED, progress.steps[step.id].reason if intended else None)
            chosen.append(step)
    return tuple(chosen)


def _may_start(progress: Progress, step: Step, situation: Situation) -> bool:
    """Whether an eviction is due, budgets apart: for the first time, or once more after a refusal or a restart."""
    if progress.steps[step.id].state is StepState.INTENDED:
        attempt = situation.attempts.get(step.id)
        return attempt is None or situation.now >= attempt.at + attempt.retry_after_seconds
    if not all(progress.released(other) for other in _before(progress, step)):
        progress.set(step, StepState.WAITING, StepReason.DEPENDENCY_PENDING)
        return False
    if progress.plan.steering is PlanSteering.EXTENDER and not extender_ready(progress.plan, situation):
        # the extender has died, or the scheduler has failed over: the replacement would go anywhere
        progress.set(step, StepState.WAITING, StepReason.AWAITING_EXTENDER)
        return False
    return step.swap or _target_is_free(progress, step)


def _before(progress: Progress, step: Step) -> Sequence[Step]:
    """The steps that have to be over before one starts.

    A swap sends a pod away to wait for its place: it comes last of all that can go without it, and so it never
    takes a disruption under a budget that moves before it need.
    """
    if step.swap:
        return progress.plan.steps[: progress.plan.steps.index(step)]
    return [progress.steps_by_id[other] for other in step.after]


def _target_is_free(progress: Progress, step: Step) -> bool:
    """Whether the replacement has room at once: nobody is sent away to wait for others."""
    slot = progress.slot_of(step)
    pod = progress.facts.standing(step.pod.uid)
    if slot is None or slot.id not in progress.balance.open or pod is None:
        return True
    room = room_now(slot.node, progress.facts, expected_on(progress, slot.node))
    if room is None:
        return False
    free = all(amount <= room.get(resource, 0) for resource, amount in pod.requests.items() if amount)
    if not free:
        progress.set(step, StepState.WAITING, StepReason.DEPENDENCY_PENDING)
    return free
