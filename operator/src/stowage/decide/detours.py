"""Temporary places in a plan under way: who stands there, and which slots are over.

A plan can not name the pod that it will evict from a temporary place, for that is the replacement of another one. The
step (`replacementOf`) gets its pod from the cluster: the one that fills the slot of the earlier step. Its UID is
written with the intent, as for every step; from then on the temporary slot is over, and nobody takes it again. Before
that it opens anew when the pod in it is lost, so that the next one comes the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, structs

from stowage.api.packing_plan_status import StepState
from stowage.decide.plan_facts import PlanFacts, StepStatus
from stowage_scheduler.cluster import Pod
from stowage_scheduler.packing import PodRef, Step


class Detours(Struct, frozen=True):
    """Of the temporary places of a plan: `spent` are ids of slots that are over, `resting` of steps not yet begun.

    The pod of a resting step fills its temporary slot, if it has come.
    """

    spent: frozenset[str] = frozenset()
    resting: frozenset[str] = frozenset()


def detours_of(steps: Sequence[Step], status: Mapping[str, StepStatus]) -> Detours:
    """How far the detours among steps are, given the states of these."""
    places = temporary_slots(steps)
    if not places:
        return Detours()
    resting = frozenset(step_id for step_id in places if status[step_id].state is StepState.WAITING)
    return Detours(frozenset(slot for step_id, slot in places.items() if step_id not in resting), resting)


def temporary_slots(steps: Iterable[Step]) -> Mapping[str, str]:
    """By id of each step that sends a pod on from its temporary place, the id of the slot there."""
    by_id = {step.id: step for step in steps}
    return {
        step.id: slot
        for step in by_id.values()
        if step.replacement_of in by_id
        for slot in [by_id[step.replacement_of].slot]
        if slot is not None
    }


def with_names_on_record(plan: PlanFacts, pods: Mapping[str, Pod]) -> PlanFacts:
    """The plan whose steps name the pods in temporary places, as far as that is on record; empty UIDs elsewhere.

    Args:
        plan: as it reads, with the first pod in the place of each replacement.
        pods: by UID, what there is now.
    """
    if not any(step.replacement_of for step in plan.steps):
        return plan

    def named(step: Step) -> Step:
        if not step.replacement_of:
            return step
        uid = plan.named.get(step.id, "") if plan.status_of(step).state is not StepState.WAITING else ""
        pod = pods.get(uid)
        return structs.replace(step, pod=PodRef(step.pod.namespace, pod.name if pod else step.pod.name, uid))

    return structs.replace(plan, steps=tuple(map(named, plan.steps)))


def names(plan: PlanFacts) -> Mapping[str, PodRef]:
    """By step, the pods that are known by now to have come to temporary places."""
    return {step.id: step.pod for step in plan.steps if step.replacement_of and step.pod.uid}
