"""When a running plan ends because what comes of it is not what was planned, instead of evicting on.

Three signs, each from the pods alone: replacements that land elsewhere, replacements that do not become Ready in time,
and more unready pods among the controllers that the plan touches than at its start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from stowage.api.packing_plan_status import PlanPhase, StepState
from stowage.api.reasons import PlanReason, StepReason
from stowage.decide.plan_facts import PlanFacts, PolicyFacts
from stowage.decide.plan_validity import Invalid
from stowage.decide.step_progress import Progress
from stowage_scheduler.cluster import Pod
from stowage_scheduler.counted import counted
from stowage_scheduler.packing import Action, Step
from stowage_scheduler.slots import SlotClass


def departed(progress: Progress, policy: PolicyFacts | None) -> Invalid | None:
    """Whether reality departs from a running plan so far that it has to end; None while it may go on."""
    rule = policy.stop if policy is not None else None
    if policy is None or rule is None or progress.plan.started_at is None:
        return None
    late = next(_late(progress, rule.ready_within_seconds), None)
    if late is not None:
        words = f"{late}, {rule.ready_within_seconds:g} s after"
        return Invalid(PlanReason.REPLACEMENT_NOT_READY, words, PlanPhase.ABORTED)
    elsewhere = landed_elsewhere(progress, policy.scheduler_names)
    if len(elsewhere) >= rule.landed_elsewhere:
        landed = counted(len(elsewhere), "replacement")
        words = f"{landed} landed where the plan has no slot, such as {elsewhere[0].key}"
        return Invalid(PlanReason.LANDED_ELSEWHERE, words, PlanPhase.ABORTED)
    before = progress.plan.unready_at_start
    now = unready(progress, progress.plan.started_at)
    if before is not None and len(now) - before >= rule.newly_unready:
        those = "of the controllers that it touches"
        many = counted(len(now), f"pod {those} is not Ready", f"pods {those} are not Ready")
        words = f"{many}, {before} at its start: {now[0].key}"
        return Invalid(PlanReason.OWNERS_UNREADY, words, PlanPhase.ABORTED)
    return None


def unready(progress: Progress, started_at: float) -> list[Pod]:
    """Pods of the controllers that a plan moves pods of, older than its start, that run and are not Ready.

    Those that it made itself are looked at one by one, and those on their way out are gone.
    """
    arrived = {ref.uid for ref in progress.balance.pods.values()}
    found = [
        pod
        for owner in sorted(_owners(progress.plan))
        for pod in progress.facts.by_owner.get(owner, ())
        if pod.node is not None and not pod.ready and not pod.leaving
        if pod.created_at < started_at and pod.uid not in arrived
    ]
    return sorted(found, key=lambda pod: pod.key)


def landed_elsewhere(progress: Progress, scheduler_names: tuple[str, ...] | None) -> list[Pod]:
    """Replacements that were bound where no slot of their class waits, as far as steps of the plan miss them.

    Args:
        progress: the plan now.
        scheduler_names: who is steered; pods of other schedulers go where these like. None: everybody is.
    """
    since = progress.plan.started_at or 0.0
    missed: Counter[SlotClass] = Counter()
    for step in progress.plan.steps:
        slot = progress.slot_of(step)
        if step.action is Action.EVICT and slot is not None and _begun_in_vain(progress, step):
            missed[slot.slot_class] += 1
    in_slots = {ref.uid for ref in progress.balance.pods.values()}
    found = []
    for of_class, count in missed.items():
        came = [
            pod
            for pod in progress.facts.by_class.get(of_class, ())
            if pod.node is not None and pod.created_at >= since and not pod.terminating and pod.uid not in in_slots
        ]
        steered = [pod for pod in came if scheduler_names is None or pod.scheduler_name in scheduler_names]
        found += sorted(steered, key=lambda pod: pod.key)[:count]
    return found


def _begun_in_vain(progress: Progress, step: Step) -> bool:
    return progress.steps[step.id].state is StepState.VOID and progress.gone(step)


def _late(progress: Progress, within_seconds: float) -> Iterator[str]:
    """Replacements that are not there, or not Ready, for too long, in words."""
    for slot_id, pod in progress.replacements():
        if pod.ready or pod.terminating:
            continue
        # one that was Ready and is not for a moment has its time anew
        since = max(pod.bound_at or pod.created_at, pod.unready_since or 0.0, progress.plan.started_at or 0.0)
        if progress.now - since >= within_seconds:
            yield f"pod {pod.key} in slot {slot_id} is not Ready"
    for step in progress.unsettled:
        status = progress.steps[step.id]
        waits = step.action is Action.EVICT and step.slot is not None and progress.gone(step)
        if not waits or status.state is not StepState.INTENDED or not progress.offered(step):
            continue
        if progress.now - _room_since(progress, step) >= within_seconds:
            yield f"the replacement of pod {step.pod.key} (step {step.id}) is not bound"


def _room_since(progress: Progress, step: Step) -> float:
    """When an evicted pod, and all whose room its replacement takes, were first seen gone, seconds since the epoch.

    An eviction may have been asked for long before: budgets refuse, and grace periods last.
    """
    slot = progress.slot_of(step)
    left = [step, *(progress.steps_by_id[other] for other in (slot.after if slot is not None else ()))]
    return max(_gone_since(progress, one) for one in left)


def _gone_since(progress: Progress, step: Step) -> float:
    status = progress.steps[step.id]
    seen = status.state.settled or status.reason in {StepReason.REPLACEMENT_PENDING, StepReason.BINDING_FAILED}
    return status.at if seen and status.at is not None else progress.now


def _owners(plan: PlanFacts) -> set[str]:
    classes = {slot.id: slot.slot_class for slot in plan.slots}
    moved = (step.slot for step in plan.steps if step.action is Action.EVICT)
    return {classes[slot].controller_uid for slot in moved if slot in classes}
