"""Whether what remains of a plan still makes sense in the cluster as it is now."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping

from msgspec import Struct

from stowage.api.packing_plan_status import PlanPhase
from stowage.api.reasons import PlanReason
from stowage.decide.detours import temporary_slots
from stowage.decide.plan_facts import PlanFacts
from stowage.decide.slot_balance import PodFacts
from stowage_scheduler.cluster import Node, Pod, Resources
from stowage_scheduler.counted import counted
from stowage_scheduler.explain.words import amount_of
from stowage_scheduler.kube.matching import matches_node_affinity, tolerates_node
from stowage_scheduler.kube.volume_matching import volumes_admit
from stowage_scheduler.packing import Action, Step
from stowage_scheduler.slots import Slot, SlotClass, slot_class


class Invalid(Struct, frozen=True):
    """Why a plan can not go on."""

    reason: PlanReason
    message: str
    phase: PlanPhase = PlanPhase.SUPERSEDED  # in which it ends; Aborted: and should not come back at once


def _like(facts: PodFacts, of_class: SlotClass) -> Pod | None:
    """Some pod of a class; None while there is none in the snapshot."""
    return next(iter(facts.by_class.get(of_class, ())), None)


def requests_of(facts: PodFacts, of_class: SlotClass) -> Resources:
    """What a pod of a class asks for; nothing while there is no such pod in the snapshot."""
    # a class without any pod has not asked for anything yet: its replacement is looked at when it exists
    pod = _like(facts, of_class)
    return pod.requests if pod is not None else {}


def invalid_targets(
    open_slots: Collection[Slot], leaving: Iterable[Step], facts: PodFacts, passing: Collection[str] = ()
) -> Invalid | None:
    """Check the nodes of the open slots.

    Args:
        open_slots: slots that still wait for a pod.
        leaving: evictions that are still to come; their pods make room.
        facts: the cluster now.
        passing: ids of temporary slots: who lands there makes room again before others come.
    """
    by_node: dict[str, list[Slot]] = defaultdict(list)
    for slot in open_slots:
        by_node[slot.node].append(slot)
    leaving_uids = {step.pod.uid for step in leaving}
    for name, slots in sorted(by_node.items()):
        node = facts.nodes.get(name)
        if node is None:
            return Invalid(PlanReason.NODE_GONE, f"node {name} is gone; {_arrivals(slots)} to land there")
        closed = _closed(node, slots, facts)
        if closed is not None:
            return Invalid(PlanReason.NODE_GONE, f"node {name} {closed}; {_arrivals(slots)} to land there")
        lasting = [slot for slot in slots if slot.id not in passing]
        short = _short_of(node.allocatable, _held(name, leaving_uids, facts), _wanted(lasting, facts))
        if short is not None:
            return Invalid(PlanReason.LOST_RACE, f"node {name}: {short}")
    return None


def refused_arrival(open_slots: Iterable[Slot], since: float, facts: PodFacts) -> Invalid | None:
    """Check that no pod failed in its slot after `since`: a kubelet refuses what does not fit (`OutOfcpu`)."""
    places = {(slot.slot_class, slot.node) for slot in open_slots}
    for pod in facts.snapshot.pods:
        if pod.phase == "Failed" and (pod.bound_at or 0.0) >= since and (slot_class(pod), pod.node) in places:
            words = f"pod {pod.key} failed on node {pod.node}, where the plan had placed it"
            return Invalid(PlanReason.STEP_FAILED, words)
    return None


def invalid_proposal(plan: PlanFacts, facts: PodFacts) -> Invalid | None:
    """Check a plan that nothing has been done of: its pods are where they were, and its targets hold."""
    for step in plan.steps:
        if step.replacement_of:
            continue  # its pod is yet to come, from the place of one that is looked at
        pod = facts.standing(step.pod.uid)
        if pod is None:
            return Invalid(PlanReason.STALE_SNAPSHOT, f"step {step.id}: pod {step.pod.key} is gone")
        if step.action.arrives and pod.node is not None:
            return Invalid(PlanReason.STALE_SNAPSHOT, f"step {step.id}: pod {step.pod.key} runs on {pod.node} already")
    evictions = [step for step in plan.steps if step.action is Action.EVICT]
    return invalid_targets(plan.slots, evictions, facts, temporary_slots(plan.steps).values())


def room_now(node: str, facts: PodFacts, expected: Iterable[SlotClass]) -> dict[str, int] | None:
    """What is free on a node at this moment, less the pods expected there; None for a node that is gone.

    Terminating pods hold their room until they are gone.
    """
    target = facts.nodes.get(node)
    if target is None:
        return None
    room = Counter(target.allocatable)
    for pod in facts.on_node.get(node, ()):
        room.subtract(pod.requests)
    for of_class in expected:
        room.subtract(requests_of(facts, of_class))
    return dict(room)


def _closed(node: Node, slots: Iterable[Slot], facts: PodFacts) -> str | None:
    if not node.ready:
        return "is not ready"
    for slot in slots:
        # members of a gang are pinned one by one, each to its own node: one pod that fits is enough
        pods = facts.by_class.get(slot.slot_class, ())
        tolerant = [pod for pod in pods if tolerates_node(pod, node)]
        if node.unschedulable and not tolerant:
            return "is cordoned"
        if pods and not any(
            matches_node_affinity(pod, node) and volumes_admit(pod.volume_needs, node) for pod in tolerant
        ):
            return f"no longer admits pods like {pods[0].key}"
    return None


def _held(node: str, leaving: Collection[str], facts: PodFacts) -> Counter[str]:
    held: Counter[str] = Counter()
    for pod in facts.on_node.get(node, ()):
        if not pod.terminating and pod.uid not in leaving:
            held.update(pod.requests)
    return held


def _wanted(slots: Iterable[Slot], facts: PodFacts) -> Counter[str]:
    wanted: Counter[str] = Counter()
    for slot in slots:
        wanted.update(requests_of(facts, slot.slot_class))
    return wanted


def _short_of(allocatable: Resources, held: Mapping[str, int], wanted: Mapping[str, int]) -> str | None:
    for resource, amount in sorted(wanted.items()):
        free = allocatable.get(resource, 0) - held.get(resource, 0)
        if amount > free:
            return f"the plan keeps {amount_of(resource, amount)}, {amount_of(resource, free)} left"
    return None


def _arrivals(slots: Collection[Slot]) -> str:
    return counted(len(slots), "pod was", "pods were")
