"""Checks of a PackingPlan: of plans written by hand, and of what people say to plans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter

from stowage.admission.known import Known
from stowage.admission.verdict import Problem
from stowage.api.names import POLICY_LABEL
from stowage.api.packing_plan import Approval, PackingPlan, PlanSlot, PlanStep
from stowage.api.packing_policy import Mode
from stowage.decide.plan_status import plan_facts
from stowage.decide.plan_validity import invalid_proposal
from stowage.decide.reservation import without_reservations
from stowage.decide.slot_balance import PodFacts
from stowage_scheduler.packing import Action


def problems(plan: PackingPlan) -> tuple[Problem, ...]:
    """What makes a plan impossible to carry out, whatever the cluster looks like."""
    slots = {slot.id: slot for slot in plan.spec.slots}
    return (*_pods_twice(plan), *_slots_misused(plan, slots), *_circle_by_slots(plan, slots))


def problems_of_change(plan: PackingPlan, before: PackingPlan | None, known: Known) -> tuple[Problem, ...]:
    """What forbids to make this plan, or to say this to it, now.

    Args:
        plan: as it shall be.
        before: as it is; None: it is new.
        known: the policy that the plan names.
    """
    asked = plan.spec.approval
    if before is not None:
        if asked is before.spec.approval:
            return ()
        phase = before.status.phase
        if phase is not None and phase.ended:
            rule = f"the plan has ended ({phase}) and nothing of it is done any more; look for a newer plan"
            return (Problem("spec.approval", asked.value, rule),)
    if asked is Approval.ABORTED:
        return ()  # to stop a plan must always work
    return tuple(_policy_missing(plan, known))


def warnings(plan: PackingPlan, before: PackingPlan | None, known: Known) -> tuple[str, ...]:
    """What is most likely not meant, or will end the plan at once.

    Args:
        plan: as it shall be.
        before: as it is; None: it is new.
        known: the policy that the plan names, and the cluster.
    """
    if plan.spec.approval is Approval.ABORTED:
        return ()
    found = [*_by_its_policy(plan, known)]
    if before is None:
        found += _by_itself(plan)
    if known.snapshot is not None:
        seen = without_reservations(known.snapshot, plan.metadata.uid or "")
        invalid = invalid_proposal(plan_facts(plan), PodFacts(seen))
        if invalid is not None:
            found.append(f"as the cluster is now, the plan ends at once as {invalid.reason}: {invalid.message}")
    return tuple(found)


def _pods_twice(plan: PackingPlan) -> Iterator[Problem]:
    """A pod leaves once and arrives once; its replacement may leave again."""
    seen: dict[tuple[str, bool], str] = {}
    for number, step in enumerate(plan.spec.steps):
        if step.replacement_of is not None:
            continue
        first = seen.setdefault((step.pod.uid, step.action.arrives), step.id)
        if first != step.id:
            done = "gets a place" if step.action.arrives else "is evicted"
            rule = f"pod {step.pod.key} {done} in step {first} already; keep one of the two steps"
            yield Problem(f"spec.steps[{number}].pod.uid", step.pod.uid, rule)


def _slots_misused(plan: PackingPlan, slots: Mapping[str, PlanSlot]) -> Iterator[Problem]:
    """A slot is for one pod, and where its step says."""
    taken: dict[str, str] = {}
    for number, step in enumerate(plan.spec.steps):
        if step.slot is None:
            continue
        first = taken.setdefault(step.slot, step.id)
        if first != step.id:
            rule = f"step {first} takes that slot already; give each pod a slot of its own"
            yield Problem(f"spec.steps[{number}].slot", step.slot, rule)
        target = slots[step.slot].node
        if step.action.arrives and step.node != target:
            rule = f"its slot {step.slot} is on node {target}; name one node in both"
            yield Problem(f"spec.steps[{number}].node", step.node, rule)


def _circle_by_slots(plan: PackingPlan, slots: Mapping[str, PlanSlot]) -> Iterator[Problem]:
    """A step is done when its slot is filled, which `after` of the slot may hold back: together they can form a circle.

    A swap is out of the way as soon as its own pod has left, so others do not wait for its slot.
    """
    steps = {step.id: step for step in plan.spec.steps}

    def waits_for(step: PlanStep) -> set[str]:
        before = set(step.after)
        for other in step.after:
            slot = slots.get(steps[other].slot or "")
            if slot is not None and not steps[other].swap:
                before |= set(slot.after)
        return before

    try:
        TopologicalSorter({step.id: waits_for(step) for step in plan.spec.steps}).prepare()
    except CycleError as error:
        circle = " → ".join(error.args[1])
        rule = "steps wait for each other in a circle, through the `after` of their slots; take one of these away"
        yield Problem("spec.slots", circle, rule)


def _policy_missing(plan: PackingPlan, known: Known) -> Iterator[Problem]:
    if known.policies is None:
        return
    policy = known.policies.get(plan.spec.policy)
    if policy is None or policy.metadata.deletion_timestamp is not None:
        state = "does not exist" if policy is None else "is being deleted"
        rule = f"the PackingPolicy {state}: the plan would end at once as PolicyGone; name one that exists"
        yield Problem("spec.policy", plan.spec.policy, rule)
    elif plan.spec.policy_uid is not None and plan.spec.policy_uid != policy.metadata.uid:
        rule = (
            f"PackingPolicy {policy.name} has UID {policy.metadata.uid}: the plan was made for an earlier policy of "
            "that name; make a new plan"
        )
        yield Problem("spec.policyUid", plan.spec.policy_uid, rule)


def _by_its_policy(plan: PackingPlan, known: Known) -> Iterator[str]:
    if known.policies is None:
        yield f"spec.policy = {plan.spec.policy}: not checked: {known.unread}"
        return
    policy = known.policies.get(plan.spec.policy)
    if policy is None:
        return
    if policy.spec.paused:
        yield f"PackingPolicy {policy.name} is paused: no step starts until `stowage resume {policy.name}`"
    if policy.spec.mode is Mode.ENFORCE and plan.spec.approval is Approval.PENDING:
        yield (
            f"spec.approval = Pending: PackingPolicy {policy.name} enforces, so the plan is superseded at once; "
            "write it as Approved"
        )
    active = policy.status.active_plan
    if active is not None and active != plan.name:
        yield f"PackingPolicy {policy.name} has plan {active} under way: one plan of a policy runs at a time"


def _by_itself(plan: PackingPlan) -> Iterator[str]:
    label = plan.metadata.labels.get(POLICY_LABEL)
    if label is not None and label != plan.spec.policy:
        yield f"label {POLICY_LABEL} = {label}, but spec.policy = {plan.spec.policy}: the label is only for looking up"
    used = {step.slot for step in plan.spec.steps}
    for slot in plan.spec.slots:
        if slot.id not in used:
            yield f"slot {slot.id} on node {slot.node} is taken by no step: it keeps room for nobody"
    for step in plan.spec.steps:
        if step.action.arrives and step.slot is None:
            yield f"step {step.id}: {step.action} without a slot: no room is kept, and it is never seen as done"
        elif step.action is Action.EVICT and step.slot is not None and _stays(step, plan):
            yield f"step {step.id}: pod {step.pod.key} would be evicted to come back to node {step.node}"


def _stays(step: PlanStep, plan: PackingPlan) -> bool:
    return any(slot.id == step.slot and slot.node == step.node for slot in plan.spec.slots)
