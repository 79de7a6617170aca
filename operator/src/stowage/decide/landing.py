"""When a slot may be taken: not before the room is free that was meant for it.

The order of a plan's steps keeps room for every arrival, as long as each of them comes after its own `after`.
kube-scheduler knows nothing of that order: it takes whatever room there is. So a slot is kept closed until
the step that it belongs to has started; that of a swap, whose step starts before there is room, until the pods
that it names have left.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from stowage.api.packing_plan_status import SlotState, StepState
from stowage.decide.detours import detours_of
from stowage.decide.plan_facts import SlotStatus
from stowage.decide.step_progress import Progress
from stowage_scheduler.slots import Slot, SlotClass


def slot_states(progress: Progress) -> dict[str, SlotStatus]:
    """Status of each slot, in the plan's order.

    Slots of one class and node are interchangeable: as many wait as there are steps to them that may not start yet.
    """
    spent = detours_of(progress.plan.steps, progress.steps).spent  # also by the evictions of this very pass
    waiting = _waiting_slots(progress, spent)
    states: dict[str, SlotStatus] = {}
    for slot in progress.plan.slots:
        if slot.id in spent:
            states[slot.id] = SlotStatus(SlotState.VOID)
        elif slot.id in progress.balance.filled:
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


def expected_on(progress: Progress, node: str) -> list[SlotClass]:
    """Classes of the pods that are on their way to a node: evicted, or pending with nothing left to wait for."""
    on_their_way: list[SlotClass] = []
    for step in progress.unsettled:
        slot = progress.slot_of(step)
        if slot is None or slot.node != node or slot.id not in progress.balance.open:
            continue
        if step.swap and not progress.offered(step):
            continue  # its replacement waits: the room is for others
        free = all(progress.released(progress.steps_by_id[other]) for other in step.after)
        pending = step.action.arrives and free
        if pending or progress.steps[step.id].state is StepState.INTENDED:
            on_their_way.append(slot.slot_class)
    return on_their_way


def _waiting_slots(progress: Progress, spent: frozenset[str]) -> frozenset[str]:
    may_come: Counter[tuple[SlotClass, str]] = Counter()
    groups: dict[tuple[SlotClass, str], list[str]] = defaultdict(list)
    for step in progress.plan.steps:
        slot: Slot | None = progress.slot_of(step)
        void = progress.steps[step.id].state is StepState.VOID
        if slot is not None and slot.id not in spent and not void and progress.offered(step):
            may_come[slot.slot_class, slot.node] += 1
    for slot in progress.plan.slots:
        if slot.id not in progress.balance.void and slot.id not in spent:
            groups[slot.slot_class, slot.node].append(slot.id)
    waiting: list[str] = []
    for place, ids in groups.items():
        still_open = sorted(set(ids) & progress.balance.open)
        taken = len(ids) - len(still_open)
        waiting += still_open[max(0, may_come[place] - taken) :]
    return frozenset(waiting)
