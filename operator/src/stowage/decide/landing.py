"""When a slot may be taken: not before the room is free that was meant for it.

The order of a plan's steps keeps room for every arrival, as long as each of them comes after its own `after`.
kube-scheduler knows nothing of that order: it takes whatever room there is. So a slot is kept closed until
the step that it belongs to has started.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from stowage.api.packing_plan_status import SlotState, StepState
from stowage.decide.plan_facts import SlotStatus
from stowage.decide.plan_validity import requests_of, room_now
from stowage.decide.step_progress import Progress
from stowage_scheduler.cluster import Resources
from stowage_scheduler.packing import Action, Step
from stowage_scheduler.slots import Slot, SlotClass


def slot_states(progress: Progress) -> dict[str, SlotStatus]:
    """Status of each slot, in the plan's order.

    Slots of one class and node are interchangeable: as many wait as there are steps to them that may not start yet.
    """
    waiting = _waiting_slots(progress)
    states: dict[str, SlotStatus] = {}
    for slot in progress.plan.slots:
        if slot.id in progress.balance.filled:
            states[slot.id] = SlotStatus(SlotState.FILLED, progress.balance.pods[slot.id])
        elif slot.id in progress.balance.void:
            states[slot.id] = SlotStatus(SlotState.VOID)
        else:
            states[slot.id] = SlotStatus(SlotState.WAITING if slot.id in waiting else SlotState.OPEN)
    return states


def kept_back(progress: Progress) -> dict[str, SlotStatus]:
    """Slots of a plan before its start: nobody may take them."""
    return {
        slot_id: SlotStatus(SlotState.WAITING) if status.state is SlotState.OPEN else status
        for slot_id, status in slot_states(progress).items()
    }


def given_up(progress: Progress) -> dict[str, SlotStatus]:
    """Slots of a plan that ends now: nobody keeps those that are not filled."""
    return {
        slot_id: status if status.state is SlotState.FILLED else SlotStatus(SlotState.VOID)
        for slot_id, status in slot_states(progress).items()
    }


def may_land(progress: Progress, step: Step) -> bool:
    """Whether the pod of a step, or its replacement, may go to its slot now."""
    if step.swap:
        return not progress.still_stands(step) and _leaves_room_for_others(progress, step)
    return progress.offered(step)


def _leaves_room_for_others(progress: Progress, swap: Step) -> bool:
    """Whether the replacement of a swap may land without taking what other arrivals on its node count on.

    A swap has no `after` for its landing. Each other arrival counts on the room that is free now, on what the
    departures of its own `after` will free, and on those before it in the plan coming first.
    """
    slot = progress.slot_of(swap)
    if slot is None:
        return False
    room = Counter(room_now(slot.node, progress.facts, ()) or {})
    room.subtract(requests_of(progress.facts, slot.slot_class))
    if not _holds(room, requests_of(progress.facts, slot.slot_class)):
        return False
    for arrival in _arrivals(progress, slot.node):
        wanted = _wanted_by(progress, arrival)
        room.subtract(wanted)
        freed = Counter(room)
        for other in arrival.after:
            freed.update(_freed_by(progress, progress.steps_by_id[other], slot.node))
        if not _holds(freed, wanted):
            return False
    return True


def _arrivals(progress: Progress, node: str) -> Iterable[Step]:
    """Steps whose pods have not come to a node yet, in the plan's order; swaps fend for themselves."""
    for step in progress.unsettled:
        slot = progress.slot_of(step)
        if slot is not None and slot.node == node and not step.swap:
            yield step


def _wanted_by(progress: Progress, step: Step) -> Resources:
    pod = progress.facts.by_uid.get(step.pod.uid)
    if pod is not None:
        return pod.requests
    slot = progress.slot_of(step)
    return requests_of(progress.facts, slot.slot_class) if slot is not None else {}


def _freed_by(progress: Progress, step: Step, node: str) -> Resources:
    """What the end of a step will free on a node: nothing any more when its pod is gone."""
    pod = progress.facts.by_uid.get(step.pod.uid)
    leaves = step.action is Action.EVICT and pod is not None and pod.node == node and not pod.finished
    return pod.requests if leaves and pod is not None else {}


def _holds(room: Counter[str], wanted: Resources) -> bool:
    return all(room[resource] >= 0 for resource, amount in wanted.items() if amount)


def _waiting_slots(progress: Progress) -> frozenset[str]:
    may_come: Counter[tuple[SlotClass, str]] = Counter()
    groups: dict[tuple[SlotClass, str], list[str]] = defaultdict(list)
    for step in progress.plan.steps:
        slot: Slot | None = progress.slot_of(step)
        void = progress.steps[step.id].state is StepState.VOID
        if slot is not None and not void and may_land(progress, step):
            may_come[slot.slot_class, slot.node] += 1
    for slot in progress.plan.slots:
        if slot.id not in progress.balance.void:
            groups[slot.slot_class, slot.node].append(slot.id)
    waiting: list[str] = []
    for place, ids in groups.items():
        still_open = sorted(set(ids) & progress.balance.open)
        taken = len(ids) - len(still_open)
        waiting += still_open[max(0, may_come[place] - taken) :]
    return frozenset(waiting)
