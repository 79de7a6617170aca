"""Between the custom resource of a plan and the values that an execution works on."""

from __future__ import annotations

from stowage.api.conditions import Conditions, condition_of, with_condition
from stowage.api.durations import instant
from stowage.api.names import OPERATOR_MANAGER
from stowage.api.packing_plan import Approval, PackingPlan
from stowage.api.packing_plan_status import (
    ApprovedBy,
    PackingPlanStatus,
    PlanPhase,
    StepState,
)
from stowage.api.packing_plan_status import (
    SlotStatus as SlotEntry,
)
from stowage.api.packing_plan_status import (
    StepStatus as StepEntry,
)
from stowage.api.packing_policy import Mode, PackingPolicy
from stowage.api.pod_reference import PodReference
from stowage.api.reasons import PlanCondition, PlanReason, StepReason
from stowage.decide.execution import Advance
from stowage.decide.plan_facts import PlanFacts, PolicyFacts, SlotStatus, StepStatus, StopRule

_STALLED = frozenset(
    {
        PlanReason.AWAITING_EXTENDER,
        PlanReason.DISRUPTION_BUDGET,
        PlanReason.OWNER_LIMIT,
        PlanReason.CANARY_PENDING,
        PlanReason.REPLACEMENT_PENDING,
        PlanReason.THROTTLED,
        PlanReason.EVICTION_FAILED,
        PlanReason.BINDING_FAILED,
    }
)


def policy_facts(policy: PackingPolicy) -> PolicyFacts:
    """What an execution reads of a policy."""
    limits = policy.spec.disruption
    return PolicyFacts(
        name=policy.name,
        uid=policy.metadata.uid or "",
        paused=policy.spec.paused,
        enforce=policy.spec.mode is Mode.ENFORCE,
        plan_timeout_seconds=limits.plan_timeout.seconds,
        scheduler_names=policy.spec.scheduler_names,
        canary=limits.canary,
        max_unavailable=limits.max_unavailable_per_owner.to_fact(),
        stop=StopRule(
            landed_elsewhere=limits.stop_rule.landed_elsewhere,
            newly_unready=limits.stop_rule.newly_unready,
            ready_within_seconds=limits.stop_rule.ready_within.seconds,
        ),
    )


def plan_facts(plan: PackingPlan) -> PlanFacts:
    """What an execution reads of a plan."""
    spec, status, metadata = plan.spec, plan.status, plan.metadata
    approved = condition_of(status.conditions, PlanCondition.APPROVED)
    onward = {step.id for step in spec.steps if step.replacement_of}
    return PlanFacts(
        name=plan.name,
        uid=metadata.uid or "",
        policy=spec.policy,
        policy_uid=spec.policy_uid or "",
        approval=spec.approval,
        steering=spec.steering,
        empties=spec.empties or (),
        steps=tuple(step.to_fact() for step in spec.steps),
        slots=tuple(slot.to_fact() for slot in spec.slots),
        created_at=metadata.creation_timestamp.timestamp() if metadata.creation_timestamp else 0.0,
        phase=status.phase,
        reason=_known(status.reason),
        message=status.message,
        epoch=status.epoch,
        approved_at=approved.last_transition_time.timestamp() if approved and approved.status == "True" else None,
        started_at=status.started_at.timestamp() if status.started_at else None,
        unready_at_start=status.unready_at_start,
        step_status={
            entry.id: StepStatus(entry.state, _known_step(entry.reason), entry.at.timestamp() if entry.at else None)
            for entry in status.steps
        },
        named={
            entry.id: entry.pod_uid
            for entry in status.steps
            if entry.id in onward and entry.state is not StepState.WAITING and entry.pod_uid
        },
        slot_status={
            entry.id: SlotStatus(entry.state, entry.pod.to_fact() if entry.pod else None) for entry in status.slots
        },
        observed_by=tuple(one.holder for one in status.extenders if one.observed_plan == metadata.uid),
    )


def next_status(plan: PackingPlan, advance: Advance, now: float) -> PackingPlanStatus:
    """The status to write for an advance; equal to the present one when nothing changed.

    Args:
        plan: as read; what an advance does not speak of stays, `extenders` among it.
        advance: what was decided.
        now: seconds since the epoch.
    """
    uids = {step.id: step.pod.uid for step in plan.spec.steps if not step.replacement_of}
    uids |= {step_id: pod.uid for step_id, pod in advance.names.items()}
    steps = tuple(
        StepEntry(
            id=step_id,
            state=one.state,
            reason=one.reason.value if one.reason else None,
            at=instant(one.at) if one.at is not None else None,
            pod_uid=uids.get(step_id) if one.state is not StepState.WAITING else None,
        )
        for step_id, one in advance.step_status.items()
    )
    slots = tuple(
        SlotEntry(id=slot_id, state=one.state, pod=PodReference.of(one.pod) if one.pod else None)
        for slot_id, one in advance.slot_status.items()
    )
    return plan.status.model_copy(
        update={
            "observed_generation": plan.metadata.generation or 0,
            "phase": advance.phase,
            "reason": advance.reason.value,
            "message": advance.message[:1024],
            "epoch": advance.epoch,
            "steps": steps,
            "slots": slots,
            "approved_by": plan.status.approved_by or approved_by(plan),
            "started_at": _moment(advance.started_at),
            "unready_at_start": advance.unready_at_start,
            "finished_at": _moment(advance.finished_at),
            "conditions": _conditions(plan, advance, now),
        }
    )


def approved_by(plan: PackingPlan) -> ApprovedBy | None:
    """Who approved a plan: the newest field manager of `spec.approval`; None while it is not approved."""
    if plan.spec.approval is not Approval.APPROVED:
        return None
    owners = [
        entry
        for entry in plan.metadata.managed_fields
        if not entry.subresource and "f:approval" in entry.fields.get("f:spec", {})
    ]
    if not owners:
        return ApprovedBy(manager=OPERATOR_MANAGER)
    newest = max(owners, key=lambda entry: entry.time.timestamp() if entry.time else 0.0)
    return ApprovedBy(manager=newest.manager or OPERATOR_MANAGER, at=newest.time)


def _conditions(plan: PackingPlan, advance: Advance, now: float) -> Conditions:
    moment, generation = instant(now), plan.metadata.generation or 0
    conditions = plan.status.conditions
    stalled = advance.phase is PlanPhase.RUNNING and advance.reason in _STALLED
    facts = (
        (PlanCondition.APPROVED, *_approved(plan), ""),
        (PlanCondition.COMPLETE, advance.phase is PlanPhase.DONE, advance.reason, advance.message[:1024]),
        (PlanCondition.STALLED, stalled, advance.reason, advance.message[:1024]),
    )
    for kind, holds, reason, message in facts:
        conditions = with_condition(
            conditions, kind, holds, reason, message, now=moment, observed_generation=generation
        )
    return conditions


def _approved(plan: PackingPlan) -> tuple[bool, PlanReason]:
    if plan.spec.approval is Approval.APPROVED:
        return True, PlanReason.APPROVED
    aborted = plan.spec.approval is Approval.ABORTED
    return False, PlanReason.ABORTED_BY_USER if aborted else PlanReason.AWAITING_APPROVAL


def _moment(seconds: float | None) -> object:
    return instant(seconds) if seconds is not None else None


def _known(reason: str | None) -> PlanReason | None:
    return PlanReason(reason) if reason in set(PlanReason) else None


def _known_step(reason: str | None) -> StepReason | None:
    return StepReason(reason) if reason in set(StepReason) else None
