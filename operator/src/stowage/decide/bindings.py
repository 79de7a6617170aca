"""Steering Bind: which pods are bound where, now.

A slot that may be taken is promised to one pod by name and UID, in the plan's status, before the binding is asked
for. Slots of a class are interchangeable, so whoever waits longest gets one; a promise is kept while its pod waits.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from msgspec import Struct, structs

from stowage.api.packing_plan_status import SlotState
from stowage.decide.plan_facts import SlotStatus
from stowage.decide.plan_validity import room_now
from stowage.decide.situation import Situation
from stowage.decide.step_progress import Progress
from stowage_scheduler.cluster import Pod
from stowage_scheduler.kube.between_pods import refuses
from stowage_scheduler.kube.matching import port_conflict
from stowage_scheduler.packing import Action, PodRef
from stowage_scheduler.slots import SlotClass

BINDINGS_AT_ONCE = 20


class Binding(Struct, frozen=True):
    """A pod to be bound: it takes a slot."""

    slot: str
    pod: PodRef
    node: str

    @property
    def attempt_key(self) -> str:
        """Where attempts at this binding are remembered."""
        return f"slot/{self.slot}"


class Promises(Struct, frozen=True):
    """`slots` are all slots with what is promised of them, `bind` the bindings to ask for in this pass."""

    slots: Mapping[str, SlotStatus]
    bind: tuple[Binding, ...]


def promises(progress: Progress, slots: Mapping[str, SlotStatus], situation: Situation) -> Promises:
    """Promise the slots that may be taken to pods that wait.

    Args:
        progress: the plan now.
        slots: status of each slot, in the plan's order.
        situation: attempts and time: a binding that was refused is not asked for again at once.
    """
    # members of a gang are not bound: ungated and pinned, they are left to kube-scheduler
    pinned = {step.slot for step in progress.plan.steps if step.action is Action.UNGATE}
    free = [slot for slot in progress.plan.slots if slots[slot.id].state is SlotState.OPEN and slot.id not in pinned]
    waiting = _waiting(progress)
    granted = {slot.id: pod for slot in free if (pod := _promised(progress, slot.id, slot.slot_class)) is not None}
    taken = {pod.uid for pod in granted.values()}
    expected: dict[str, list[SlotClass]] = defaultdict(list)
    for slot in free:
        if slot.id in granted:
            expected[slot.node].append(slot.slot_class)
    for slot in free:
        if slot.id in granted:
            continue
        pod = next((pod for pod in waiting.get(slot.slot_class, ()) if pod.uid not in taken), None)
        if pod is not None and _fits(progress, pod, slot.node, expected[slot.node]):
            granted[slot.id] = pod
            taken.add(pod.uid)
            expected[slot.node].append(slot.slot_class)
    told = {slot_id: structs.replace(slots[slot_id], pod=_ref(pod)) for slot_id, pod in granted.items()}
    nodes = {slot.id: slot.node for slot in free}
    due = [Binding(slot_id, _ref(pod), nodes[slot_id]) for slot_id, pod in granted.items()]
    due = [one for one in due if _is_due(one, situation) and _admitted(progress, granted[one.slot], one.node)]
    return Promises({**slots, **told}, tuple(due[:BINDINGS_AT_ONCE]))


def _waiting(progress: Progress) -> Mapping[SlotClass, list[Pod]]:
    """Pods that can be bound, by class; the pods that the plan names come first, then the oldest."""
    named = {step.pod.uid for step in progress.plan.steps if step.action.arrives}
    return {
        of_class: sorted(
            (pod for pod in pods if _can_be_bound(pod)), key=lambda pod: (pod.uid not in named, pod.created_at, pod.key)
        )
        for of_class, pods in progress.facts.by_class.items()
    }


def _promised(progress: Progress, slot_id: str, of_class: SlotClass) -> Pod | None:
    """The pod that a slot was promised to, if it still waits."""
    before = progress.plan.slot_status.get(slot_id)
    if before is None or before.pod is None:
        return None
    pod = progress.facts.by_uid.get(before.pod.uid)
    return pod if pod is not None and pod in progress.facts.by_class.get(of_class, ()) and _can_be_bound(pod) else None


def _can_be_bound(pod: Pod) -> bool:
    """Whether a binding may be sent: claims, volumes and groups are for kube-scheduler's plugins to prepare."""
    alone = not pod.unmodelled and not pod.scheduling_group
    ready = alone and not pod.unbound_volume and not pod.volume_obstacle
    return pod.node is None and not pod.terminating and not pod.gated and ready


def _fits(progress: Progress, pod: Pod, node: str, expected: list[SlotClass]) -> bool:
    """Whether a node has room, and no pod that came since the plan was made keeps this one from it."""
    room = room_now(node, progress.facts, expected)
    wanted = Counter({resource: amount for resource, amount in pod.requests.items() if amount})
    if room is None or any(amount > room.get(resource, 0) for resource, amount in wanted.items()):
        return False
    return _admitted(progress, pod, node)


def _admitted(progress: Progress, pod: Pod, node: str) -> bool:
    """Whether no pod that stands now keeps this one from the node: by its port, or by a rule between pods."""
    target = progress.facts.nodes.get(node)
    if target is None:
        return False
    taken = [port for other in progress.facts.on_node.get(node, ()) for port in other.host_ports]
    return port_conflict(pod.host_ports, taken) is None and refuses(pod, target, progress.facts.neighbours) is None


def _is_due(binding: Binding, situation: Situation) -> bool:
    attempt = situation.attempts.get(binding.attempt_key)
    return attempt is None or situation.now >= attempt.at + attempt.retry_after_seconds


def _ref(pod: Pod) -> PodRef:
    return PodRef(pod.namespace, pod.name, pod.uid)
