"""How far each step of a plan is, seen from the cluster: what is done, void or still to do."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection

from stowage.api.packing_plan_status import SlotState, StepState
from stowage.api.reasons import StepReason
from stowage.decide.plan_facts import PlanFacts, SlotStatus, StepStatus
from stowage.decide.slot_balance import PodFacts, SlotBalance, balance
from stowage_scheduler.packing import Action, Step
from stowage_scheduler.slots import Slot, SlotClass


def changed(before: StepStatus, state: StepState, reason: StepReason | None, now: float) -> StepStatus:
    """The next status of a step; its time moves only when state or reason do."""
    if before.state is state and before.reason is reason:
        return before
    return StepStatus(state, reason, now)


class Progress:
    """The states of steps and slots of a plan at one instant; `steps` and `slots` hold the newest ones.

    Args:
        plan: spec and recorded status.
        facts: the cluster now.
        now: seconds since the epoch.
    """

    def __init__(self, plan: PlanFacts, facts: PodFacts, now: float) -> None:
        self.plan = plan
        self.facts = facts
        self.now = now
        self.steps: dict[str, StepStatus] = {step.id: plan.status_of(step) for step in plan.steps}
        self._steps_by_id = {step.id: step for step in plan.steps}
        self.slots_by_id: dict[str, Slot] = {slot.id: slot for slot in plan.slots}
        settled = frozenset(step_id for step_id, status in self.steps.items() if status.state.settled)
        self.balance: SlotBalance = balance(plan.slots, plan.steps, facts, settled)
        self._settle_lost_pods()
        for of_class, steps in self._by_class().items():
            self._settle_class(of_class, steps)

    @property
    def slots(self) -> dict[str, SlotStatus]:
        """Status of each slot, in the plan's order.

        Slots of one class and node are interchangeable: as many wait as there are steps to them that may not
        start yet. Whoever took such a slot would take room that a move before it needs.
        """
        waiting = self._waiting_slots()
        return {slot.id: self._slot_status(slot.id, waiting) for slot in self.plan.slots}

    @property
    def open_slots(self) -> list[Slot]:
        """Slots that still wait for a pod."""
        return [slot for slot in self.plan.slots if slot.id in self.balance.open]

    @property
    def unsettled(self) -> list[Step]:
        """Steps that are neither done, void nor failed."""
        return [step for step in self.plan.steps if not self.steps[step.id].state.settled]

    @property
    def failed(self) -> list[Step]:
        """Steps that failed."""
        return [step for step in self.plan.steps if self.steps[step.id].state is StepState.FAILED]

    def set(self, step: Step, state: StepState, reason: StepReason | None = None) -> None:
        """Record a state."""
        self.steps[step.id] = changed(self.steps[step.id], state, reason, self.now)

    def gone(self, step: Step) -> bool:
        """Whether the pod of a step holds no room any more."""
        pod = self.facts.by_uid.get(step.pod.uid)
        return pod is None or pod.finished

    def still_stands(self, step: Step) -> bool:
        """Whether the pod of an eviction is there and nobody has begun to end it."""
        return self.facts.standing(step.pod.uid) is not None

    def slot_of(self, step: Step) -> Slot | None:
        """The slot that the pod of a step, or its replacement, fills."""
        return self.slots_by_id.get(step.slot or "")

    def released(self, step: Step) -> bool:
        """Whether steps after this one may start.

        The replacement of a swap has no room until a later step makes it, so a swap only has to be out of
        the way.
        """
        state = self.steps[step.id].state
        if state in {StepState.DONE, StepState.VOID}:
            return True
        return step.swap and self.gone(step)

    def started(self, step: Step) -> bool:
        """Whether the pod of a step, or its replacement, may go to its slot now."""
        state = self.steps[step.id].state
        if state is not StepState.WAITING:
            return True
        if step.action is Action.EVICT and self.still_stands(step):
            return False
        return all(self.released(self._steps_by_id[other]) for other in step.after)

    def _slot_status(self, slot_id: str, waiting: Collection[str]) -> SlotStatus:
        if slot_id in self.balance.filled:
            return SlotStatus(SlotState.FILLED, self.balance.pods[slot_id])
        if slot_id in self.balance.void:
            return SlotStatus(SlotState.VOID)
        return SlotStatus(SlotState.WAITING if slot_id in waiting else SlotState.OPEN)

    def _waiting_slots(self) -> frozenset[str]:
        started = Counter(
            (slot.slot_class, slot.node)
            for step in self.plan.steps
            if (slot := self.slot_of(step)) is not None and self.started(step)
        )
        groups: dict[tuple[SlotClass, str], list[str]] = defaultdict(list)
        for slot in self.plan.slots:
            groups[slot.slot_class, slot.node].append(slot.id)
        waiting: list[str] = []
        for place, ids in groups.items():
            still_open = sorted(set(ids) & self.balance.open)
            taken = len(ids) - len(still_open)
            waiting += still_open[max(0, started[place] - taken) :]
        return frozenset(waiting)

    def _settle_lost_pods(self) -> None:
        """Evictions without a replacement are done when the pod is gone."""
        for step in self.unsettled:
            if step.action is Action.EVICT and self.slot_of(step) is None and self.gone(step):
                self.set(step, StepState.DONE, self._how_it_went(step, StepReason.EVICTED))

    def _by_class(self) -> dict[SlotClass, list[Step]]:
        classes: dict[SlotClass, list[Step]] = defaultdict(list)
        for step in self.plan.steps:
            slot = self.slot_of(step)
            if slot is not None:
                classes[slot.slot_class].append(step)
        return classes

    def _settle_class(self, of_class: SlotClass, steps: list[Step]) -> None:
        """Give the filled and void slots of a class to its steps: its pods are interchangeable."""
        ids = {slot.id for slot in self.plan.slots if slot.slot_class == of_class}
        filled, void = len(ids & self.balance.filled), len(ids & self.balance.void)
        states = [self.steps[step.id].state for step in steps]
        filled_left = max(0, filled - states.count(StepState.DONE))
        left = max(0, filled + void - sum(state.settled for state in states))
        candidates = [step for step in steps if self._may_settle(step)]
        for step in sorted(candidates, key=self._turn)[:left]:
            if filled_left:
                filled_left -= 1
                self.set(step, StepState.DONE, self._how_it_went(step, StepReason.BOUND))
            else:
                self.set(step, StepState.VOID, self._why_void(step, of_class))

    def _may_settle(self, step: Step) -> bool:
        if self.steps[step.id].state.settled:
            return False
        return step.action is Action.PLACE or self.gone(step)

    def _turn(self, step: Step) -> tuple[int, float, str]:
        """Which step of a class takes a filled slot first: who stands there, then who was evicted first."""
        if step.action is Action.EVICT:
            return (1, self.steps[step.id].at or 0.0, step.id)
        pod = self.facts.by_uid.get(step.pod.uid)
        return (0 if pod is not None and pod.node is not None else 2, 0.0, step.id)

    def _how_it_went(self, step: Step, reason: StepReason) -> StepReason:
        if step.action is Action.EVICT and self.steps[step.id].state is StepState.WAITING:
            return StepReason.ALREADY_GONE
        return reason

    def _why_void(self, step: Step, of_class: SlotClass) -> StepReason:
        pod = self.facts.by_uid.get(step.pod.uid)
        if step.action is Action.PLACE and pod is not None and pod.node is not None:
            return StepReason.LANDED_ELSEWHERE
        workload = self.facts.workloads.get(of_class.controller_uid)
        if workload is None:
            has_owner = step.action is Action.EVICT or of_class.controller_uid != step.pod.uid
            return StepReason.OWNER_GONE if has_owner else StepReason.POD_GONE
        if workload.replicas is not None and len(self.facts.by_owner.get(workload.uid, ())) >= workload.replicas:
            # as many pods as it wants run: of this template on fewer places, or of another one
            others = [pod for pod in self.facts.by_owner[workload.uid] if pod.template_hash != of_class.revision]
            return StepReason.OWNER_CHANGED if others else StepReason.OWNER_SCALED_DOWN
        return StepReason.POD_GONE


def ended_slots(progress: Progress) -> dict[str, SlotStatus]:
    """States of the slots of a plan that ends now: nobody keeps those that are not filled."""
    return {
        slot_id: status if status.state is SlotState.FILLED else SlotStatus(SlotState.VOID)
        for slot_id, status in progress.slots.items()
    }


def ended(progress: Progress) -> dict[str, StepStatus]:
    """States of the steps of a plan that ends now: what was not begun is void, what was asked for stays told."""
    result = {}
    for step in progress.plan.steps:
        status = progress.steps[step.id]
        begun = status.state is StepState.INTENDED and not progress.still_stands(step)
        if begun:
            status = changed(status, StepState.DONE, StepReason.EVICTED, progress.now)
        elif not status.state.settled:
            status = changed(status, StepState.VOID, StepReason.PLAN_ENDED, progress.now)
        result[step.id] = status
    return result
