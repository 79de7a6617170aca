"""From the answer of a packing to the PackingPlan that is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from graphlib import TopologicalSorter

from msgspec import structs

from stowage.api.durations import instant
from stowage.api.names import MAX_STEPS, POLICY_LABEL, TRACE_ANNOTATION
from stowage.api.packing_plan import (
    Approval,
    PackingPlan,
    PackingPlanSpec,
    PlanSlot,
    PlanSteering,
    PlanStep,
)
from stowage.api.packing_plan_status import (
    MAX_PRIORITIES,
    MAX_UNPLACED,
    PackingPlanStatus,
    PriorityCount,
    SolveStatus,
    UnplacedPod,
)
from stowage.api.packing_policy import Mode, PackingPolicy, Steering
from stowage.api.pod_reference import PodReference
from stowage.api.resource import Metadata
from stowage_scheduler.cluster import Pod, Snapshot
from stowage_scheduler.packing import Action, Packing, Step, Unplaced
from stowage_scheduler.slots import Slot, slot_class

_SHORT_MESSAGE = 1024


def plan_document(
    packing: Packing,
    policy: PackingPolicy,
    snapshot: Snapshot,
    *,
    steering: PlanSteering,
    suffix: str,
    now: float,
    trace: str = "",
    empties: Iterable[str] = (),
) -> PackingPlan:
    """The plan that carries out a packing, as far as one plan may hold.

    Args:
        packing: what the solver found.
        policy: whom it was made for; its mode decides who approves.
        snapshot: what it was made from.
        steering: what makes the pods land where the plan says.
        suffix: four random characters of a-z and 0-9 that make the name unique.
        now: seconds since the epoch.
        trace: of the decision; empty when nobody follows it.
        empties: nodes that the plan is made to empty.
    """
    steps = within_limit(packing.steps, packing.slots, MAX_STEPS)
    slots = _slots(packing, steps, snapshot)
    moment = instant(now)
    enforce = policy.spec.mode is Mode.ENFORCE
    return PackingPlan(
        metadata=Metadata(
            name=f"{policy.name}-{moment:%Y%m%d-%H%M%S}-{suffix}",
            labels={POLICY_LABEL: policy.name},
            annotations={TRACE_ANNOTATION: trace} if trace else {},
        ),
        spec=PackingPlanSpec(
            policy=policy.name,
            policy_uid=policy.metadata.uid,
            approval=Approval.APPROVED if enforce else Approval.PENDING,
            steering=steering,
            slots=tuple(PlanSlot.of(slot) for slot in slots),
            steps=tuple(PlanStep.of(_steered(step, steering)) for step in steps),
            empties=tuple(empties) or None,
        ),
    )


def steering_of(policy: PackingPolicy, extenders: Collection[str], *, taints: bool = True) -> PlanSteering:
    """What steers the next plan of a policy.

    Args:
        policy: whose `spec.steering` decides, unless it is `Auto`.
        extenders: holders whose extender lives. The operator cannot tell which scheduler they stand beside before a
            plan is acknowledged, so with `Auto` any of them will do.
        taints: whether the operator may taint nodes; without that it cannot bind pods beside an untouched scheduler.
    """
    if not taints:
        return PlanSteering.EXTENDER
    if policy.spec.steering is Steering.AUTO:
        return PlanSteering.EXTENDER if extenders else PlanSteering.BIND
    return PlanSteering(policy.spec.steering.value)


def _steered(step: Step, steering: PlanSteering) -> Step:
    """Where no extender steers, pending pods are bound; the packer does not know."""
    bind = step.action is Action.PLACE and steering is PlanSteering.BIND
    return structs.replace(step, action=Action.BIND) if bind else step


def first_status(packing: Packing) -> PackingPlanStatus:
    """What a new plan says about its making: what it places, how sure that is, and what it leaves."""
    priorities = sorted(packing.placed, reverse=True)[:MAX_PRIORITIES]
    return PackingPlanStatus(
        placed_by_priority=tuple(
            PriorityCount(
                priority=priority,
                before=packing.before.get(priority, 0),
                after=packing.placed[priority],
                bound=packing.bound.get(priority, packing.placed[priority]),
            )
            for priority in priorities
        ),
        certified=packing.certified,
        solve=SolveStatus(
            seconds=f"{packing.seconds:.3f}",
            stages={name[:63]: f"{seconds:.3f}" for name, seconds in sorted(packing.stages.items())[:32]},
        ),
        unplaced=tuple(_unplaced(entry) for entry in packing.unplaced[:MAX_UNPLACED]),
        unplaced_total=len(packing.unplaced),
    )


def within_limit(steps: Sequence[Step], slots: Iterable[Slot], most: int) -> tuple[Step, ...]:
    """At most `most` steps, in the order of the plan, closed under `after`, that of the slots included.

    Pending pods come first, each with all that has to happen before; what is left goes to other moves. A swap
    is only taken together with the steps that free its place, a pod of a gang with the whole gang, and the way to a
    temporary place with the way on.
    """
    if len(steps) <= most:
        return tuple(steps)
    opens_after = {slot.id: slot.after for slot in slots}
    builds_on = {step.id: {*step.after, *opens_after.get(step.slot or "", ())} for step in steps}
    speakers: dict[tuple[str, str], str] = {}  # the first step of each gang brings the others, and they bring it
    alone: list[str] = []
    for step in steps:
        first = speakers.setdefault((step.pod.namespace, step.gang), step.id) if step.gang else step.id
        if first == step.id:
            alone.append(step.id)
        else:
            builds_on[first].add(step.id)
            builds_on[step.id].add(first)
    for step in steps:  # who goes to a temporary place goes on from there
        if step.replacement_of:
            builds_on[step.replacement_of].add(step.id)
    arriving = {step.id for step in steps if step.action.arrives}
    kept: set[str] = set()
    for step_id in sorted(alone, key=lambda one: one not in arriving):
        needed = _needed(step_id, builds_on) - kept
        if len(kept) + len(needed) <= most:
            kept |= needed
    if not kept:  # one chain longer than the limit: its head is a plan of its own
        head = list(TopologicalSorter({step.id: step.after for step in steps}).static_order())[:most]
        kept = _closed(set(head), builds_on)
    return tuple(step for step in steps if step.id in kept)


def _needed(step_id: str, builds_on: Mapping[str, Collection[str]]) -> set[str]:
    """A step and everything that it builds on."""
    needed: set[str] = set()
    todo = [step_id]
    while todo:
        one = todo.pop()
        if one not in needed:
            needed.add(one)
            todo += builds_on[one]
    return needed


def _closed(kept: set[str], builds_on: Mapping[str, Collection[str]]) -> set[str]:
    """Those of `kept` that build on nothing else."""
    while incomplete := {step_id for step_id in kept if not kept.issuperset(builds_on[step_id])}:
        kept = kept - incomplete
    return kept


def _slots(packing: Packing, steps: Sequence[Step], snapshot: Snapshot) -> tuple[Slot, ...]:
    """The slots that the kept steps fill, with the pods that stand there and stay.

    Those are counted here: pods that never move are of the same class for kube-scheduler, and pods whose
    eviction was cut off stay after all.
    """
    used = {step.slot for step in steps}
    leaving = {step.pod.uid for step in steps if step.action is Action.EVICT}
    staying = Counter(
        (slot_class(pod), pod.node)
        for pod in snapshot.pods
        if pod.node is not None and not pod.terminating and not pod.finished and pod.uid not in leaving
    )
    return tuple(
        structs.replace(slot, standing=staying[slot.slot_class, slot.node]) for slot in packing.slots if slot.id in used
    )


def _unplaced(entry: Unplaced) -> UnplacedPod:
    return UnplacedPod(pod=PodReference.of(entry.pod), reason=entry.reason.value, help=entry.help[:_SHORT_MESSAGE])


def stale_for(packing: Packing, now_pods: Mapping[str, Pod]) -> str | None:
    """Why a packing no longer fits the pods it speaks of, None when it does: it is made again then.

    Args:
        packing: made from an older snapshot.
        now_pods: pods by UID as they are now.
    """
    for step in packing.steps:
        pod = now_pods.get(step.pod.uid)
        if pod is None or pod.terminating or pod.finished:
            return f"pod {step.pod.key} is gone"
        if step.action is Action.EVICT and not step.replacement_of and pod.node != step.node:
            return f"pod {step.pod.key} is not on node {step.node}"
        if step.action.arrives and pod.node is not None:
            return f"pod {step.pod.key} runs already"
    return None
