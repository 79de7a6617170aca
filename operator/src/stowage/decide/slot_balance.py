"""Which slots of a plan are open, filled or void, seen from the pods alone.

No memory is needed: slots of one class and node are filled as far as more pods of the class stand there
than stood when the plan was made. A slot is void when fewer pods of the class can still come than slots
are open.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property

from msgspec import Struct

from stowage.decide.detours import Detours
from stowage_scheduler.cluster import Node, Pod, Snapshot, Workload
from stowage_scheduler.kube.standing import Standing
from stowage_scheduler.packing import Action, PodRef, Step
from stowage_scheduler.slots import Slot, SlotClass, slot_class

# kinds whose objects are in the snapshot: a controller of these kinds that is not there is gone
WATCHED_CONTROLLERS = frozenset({"ReplicaSet", "StatefulSet", "Job", "DaemonSet"})


class PodFacts(Struct, frozen=True, dict=True):
    """The pods of a snapshot, indexed as an execution needs them."""

    snapshot: Snapshot

    @cached_property
    def nodes(self) -> dict[str, Node]:
        """Nodes by name."""
        return {node.name: node for node in self.snapshot.nodes}

    @cached_property
    def by_uid(self) -> dict[str, Pod]:
        """Pods by UID."""
        return {pod.uid: pod for pod in self.snapshot.pods}

    @cached_property
    def by_class(self) -> dict[SlotClass, list[Pod]]:
        """Pods that have not finished, by class; terminating ones included."""
        classes: dict[SlotClass, list[Pod]] = defaultdict(list)
        for pod in self.snapshot.pods:
            if not pod.finished:
                classes[slot_class(pod)].append(pod)
        return classes

    @cached_property
    def by_owner(self) -> dict[str, list[Pod]]:
        """Pods that neither finished nor terminate, by the UID of their controller."""
        owners: dict[str, list[Pod]] = defaultdict(list)
        for pod in self.snapshot.pods:
            if pod.owner is not None and not pod.finished and not pod.terminating:
                owners[pod.owner.uid].append(pod)
        return owners

    @cached_property
    def on_node(self) -> dict[str, list[Pod]]:
        """Pods that hold room on each node: bound and not finished, terminating ones included."""
        nodes: dict[str, list[Pod]] = defaultdict(list)
        for pod in self.snapshot.pods:
            if pod.node is not None and not pod.finished:
                nodes[pod.node].append(pod)
        return nodes

    @cached_property
    def neighbours(self) -> Standing:
        """Who stands where, for rules between pods."""
        return Standing(self.nodes, self.on_node, self.snapshot.namespace_labels)

    @cached_property
    def workloads(self) -> dict[str, Workload]:
        """Controllers by UID."""
        return {workload.uid: workload for workload in self.snapshot.workloads}

    def standing(self, uid: str) -> Pod | None:
        """The pod of this UID, if it runs or waits and nobody has begun to end it."""
        pod = self.by_uid.get(uid)
        if pod is None or pod.finished or pod.terminating or pod.disruption_target:
            return None
        return pod


class SlotBalance(Struct, frozen=True):
    """Slots of a plan by what became of them: ids. `pods` has the pod that fills each filled slot."""

    filled: frozenset[str]
    void: frozenset[str]
    open: frozenset[str]
    pods: Mapping[str, PodRef]


def balance(
    slots: Sequence[Slot], steps: Sequence[Step], facts: PodFacts, settled: frozenset[str], detours: Detours
) -> SlotBalance:
    """Tell open, filled and void slots apart.

    Args:
        slots: all slots of the plan.
        steps: all steps of the plan.
        facts: the cluster now.
        settled: ids of steps that are finished; an eviction among them sends no further pod.
        detours: how far those are that lead over temporary places.
    """
    over_or_resting = settled | detours.resting
    leaving = {step.pod.uid for step in steps if step.action is Action.EVICT and step.id not in over_or_resting}
    spent = detours.spent
    slots = [slot for slot in slots if slot.id not in spent] if spent else slots
    pods = _filling_pods(slots, facts, leaving)
    open_by_class: dict[SlotClass, list[str]] = defaultdict(list)
    for slot in slots:
        if slot.id not in pods:
            open_by_class[slot.slot_class].append(slot.id)
    to_come = _evictions_to_come(slots, steps, facts, settled)
    over = {step.slot for step in steps if step.id in settled}
    own_sender = {step.slot for step in steps if step.action is Action.EVICT and _stands_or_comes(step, facts)}
    void: set[str] = set()
    for of_class, ids in open_by_class.items():
        senders = _senders(of_class, facts, to_come[of_class])
        if senders is not None and senders < len(ids):
            # a pod still to be evicted sends one to its own slot; where a step is over, a pod came and went again
            by_hope = sorted(ids, key=lambda slot_id: (slot_id in over, slot_id not in own_sender, slot_id))
            void.update(by_hope[senders:])
    still_open = {slot_id for ids in open_by_class.values() for slot_id in ids} - void
    return SlotBalance(frozenset(pods), frozenset(void) | spent, frozenset(still_open), pods)


def _stands_or_comes(step: Step, facts: PodFacts) -> bool:
    """Whether the pod of an eviction is there, or is still to come to its temporary place."""
    return not step.pod.uid or facts.standing(step.pod.uid) is not None


def _filling_pods(slots: Iterable[Slot], facts: PodFacts, leaving: Collection[str]) -> dict[str, PodRef]:
    groups: dict[tuple[SlotClass, str], list[Slot]] = defaultdict(list)
    for slot in slots:
        groups[slot.slot_class, slot.node].append(slot)
    filling: dict[str, PodRef] = {}
    for (of_class, node), group in groups.items():
        bound = [
            pod
            for pod in facts.by_class.get(of_class, ())
            if pod.node == node and not pod.terminating and pod.uid not in leaving
        ]
        # the newest came last, so they are the ones that filled the slots
        newest_first = sorted(bound, key=lambda pod: (-(pod.bound_at or pod.created_at), pod.uid))
        came = max(0, len(bound) - group[0].standing)
        for slot, pod in zip(sorted(group, key=lambda slot: slot.id), newest_first[:came], strict=False):
            filling[slot.id] = PodRef(pod.namespace, pod.name, pod.uid)
    return filling


def _evictions_to_come(
    slots: Iterable[Slot], steps: Iterable[Step], facts: PodFacts, settled: frozenset[str]
) -> Counter[SlotClass]:
    classes = {slot.id: slot.slot_class for slot in slots}
    return Counter(
        classes[step.slot]
        for step in steps
        if step.action is Action.EVICT
        and step.slot in classes
        and step.id not in settled
        and _stands_or_comes(step, facts)
    )


def _senders(of_class: SlotClass, facts: PodFacts, to_come: int) -> int | None:
    """How many pods of a class may still ask for a place; None when nobody can tell."""
    alive = [pod for pod in facts.by_class.get(of_class, ()) if not pod.terminating]
    waiting = sum(1 for pod in alive if pod.node is None)
    workload = facts.workloads.get(of_class.controller_uid)
    if workload is None:
        kinds = {pod.owner.kind for pod in facts.by_class.get(of_class, ()) if pod.owner is not None}
        if kinds - WATCHED_CONTROLLERS:
            return None
        return waiting + to_come
    of_owner = facts.by_owner.get(workload.uid, [])
    if of_class.pod_name and workload.kind == "Job":
        return waiting + to_come  # it makes no pod of that name again
    if of_class.pod_name:
        return waiting + to_come + _seat_to_come(of_class.pod_name, workload, of_owner)
    if workload.replicas is None:
        return None
    return waiting + to_come + max(0, workload.replicas - len(of_owner))


def owner_sends_more(of_class: SlotClass, facts: PodFacts) -> bool:
    """Whether pods of a class wait or will be made without any further eviction; True when nobody can tell."""
    senders = _senders(of_class, facts, 0)
    return senders is None or senders > 0


def _seat_to_come(pod_name: str, workload: Workload, of_owner: Sequence[Pod]) -> int:
    """Whether a StatefulSet will create the pod of this name again."""
    if any(pod.name == pod_name for pod in of_owner):
        return 0  # it waits (counted already), or it runs: here, elsewhere, or as another revision
    if workload.replicas is None:
        return 1
    return 1 if len(of_owner) < workload.replicas else 0
