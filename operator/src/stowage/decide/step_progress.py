"""How far each step of a plan is, seen from the cluster: what is done, void or still to do."""

from __future__ import annotations

from collections import Counter, defaultdict

from msgspec import structs

from stowage.api.packing_plan_status import StepState
from stowage.api.reasons import StepReason
from stowage.decide.detours import detours_of, temporary_slots, with_names_on_record
from stowage.decide.plan_facts import PlanFacts, StepStatus
from stowage.decide.slot_balance import PodFacts, SlotBalance, balance
from stowage_scheduler.cluster import Pod
from stowage_scheduler.packing import Action, Step
from stowage_scheduler.slots import Slot, SlotClass

Place = tuple[SlotClass, str]
"""A class of pods and a node that some of them go to."""


def changed(before: StepStatus, state: StepState, reason: StepReason | None, now: float) -> StepStatus:
    """The next status of a step; its time moves only when state or reason do."""
    if before.state is state and before.reason is reason:
        return before
    return StepStatus(state, reason, now)


class Progress:
    """The states of the steps of a plan at one instant; `steps` holds the newest ones.

    Args:
        plan: spec and recorded status.
        facts: the cluster now.
        now: seconds since the epoch.
    """

    def __init__(self, plan: PlanFacts, facts: PodFacts, now: float) -> None:
        self.plan = plan = with_names_on_record(plan, facts.by_uid)
        self.facts = facts
        self.now = now
        self.steps: dict[str, StepStatus] = {step.id: plan.status_of(step) for step in plan.steps}
        self.steps_by_id = {step.id: step for step in plan.steps}
        self.slots_by_id: dict[str, Slot] = {slot.id: slot for slot in plan.slots}
        self._settle_lost_pods()
        self._spent: frozenset[str] = frozenset()  # temporary slots that are over
        self.balance: SlotBalance = self._balance()
        self.temporary = temporary_slots(plan.steps)
        # a settled step may let another one take its turn, or free its slot
        while self._settle_places() or self._settle_strayed() or self._settle_detours():
            self.balance = self._balance()

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
        """Record a state; one that is as the plan's status has it keeps its time, whatever it was meanwhile."""
        self.steps[step.id] = changed(self.plan.status_of(step), state, reason, self.now)

    def gone(self, step: Step) -> bool:
        """Whether the pod of a step holds no room any more."""
        pod = self.facts.by_uid.get(step.pod.uid)
        return (pod is None or pod.finished) and not self.is_to_come(step)

    def still_stands(self, step: Step) -> bool:
        """Whether the pod of an eviction is there, or is still to come, and nobody has begun to end it."""
        return self.is_to_come(step) or self.facts.standing(step.pod.uid) is not None

    def is_to_come(self, step: Step) -> bool:
        """Whether a step evicts from a temporary place where nobody has been yet."""
        return not step.pod.uid

    def slot_of(self, step: Step) -> Slot | None:
        """The slot that the pod of a step, or its replacement, fills."""
        return self.slots_by_id.get(step.slot or "")

    def replacements(self) -> list[tuple[str, Pod]]:
        """Pods that came for evicted ones, each with the slot that it fills; one that only waited is none of them.

        Slots of one class and node stand for each other, so a pod that waited may fill the one of an eviction.
        """
        waited = {step.pod.uid for step in self.plan.steps if step.action.arrives}
        moved = [self.slot_of(step) for step in self.plan.steps if step.action is Action.EVICT]
        places = {(slot.slot_class, slot.node) for slot in moved if slot is not None}
        found = []
        for slot_id, ref in sorted(self.balance.pods.items()):
            slot, pod = self.slots_by_id[slot_id], self.facts.by_uid.get(ref.uid)
            if pod is not None and pod.uid not in waited and (slot.slot_class, slot.node) in places:
                found.append((slot_id, pod))
        return found

    def released(self, step: Step) -> bool:
        """Whether steps after this one may start.

        The replacement of a swap has no room until a later step makes it, so a swap only has to be out of
        the way.
        """
        state = self.steps[step.id].state
        if state in {StepState.DONE, StepState.VOID}:
            return True
        return step.swap and self.gone(step)

    def _settle_lost_pods(self) -> None:
        """Evictions without a replacement are done when the pod is gone."""
        for step in self.unsettled:
            if step.action is Action.EVICT and self.slot_of(step) is None and self.gone(step):
                self.set(step, StepState.DONE, self._how_it_went(step, StepReason.EVICTED))

    def _balance(self) -> SlotBalance:
        settled = frozenset(step_id for step_id, status in self.steps.items() if status.state.settled)
        detours = detours_of(self.plan.steps, self.steps)
        self._spent = detours.spent
        return balance(self.plan.slots, self.plan.steps, self.facts, settled, detours)

    def _settle_places(self) -> bool:
        settling = False
        for place, steps in self._by_place().items():
            settling |= self._settle_place(place, steps)
        return settling

    def _settle_strayed(self) -> bool:
        """Take the replacement of an eviction as come that took the slot of a later one of its class.

        While the extender is away, a replacement goes anywhere. The later eviction, which may have to wait for the
        earlier one, sends its own pod to the slot that is left over.

        Returns:
            Whether a step was settled.
        """
        uncounted = self._uncounted()
        early = {self.slots_by_id[slot_id].slot_class for slot_id in self._taken_before_their_turn()}
        settling = False
        for step in self.unsettled:
            slot = self.slot_of(step)
            if slot is None or slot.id not in self.balance.open or slot.slot_class not in early:
                continue
            if step.action is Action.EVICT and self.gone(step) and uncounted[slot.slot_class] > 0:
                uncounted[slot.slot_class] -= 1
                self.set(step, StepState.DONE, StepReason.LANDED_ELSEWHERE)
                settling = True
        return settling

    def _counted_for_another(self, of_class: SlotClass) -> bool:
        """Whether a pod of a class strayed, and all that came to its slots were taken as come for some step."""
        words = (StepState.DONE, StepReason.LANDED_ELSEWHERE)
        strayed = [step for step in self.plan.steps if (self.steps[step.id].state, self.steps[step.id].reason) == words]
        classes = {slot.slot_class for slot in map(self.slot_of, strayed) if slot is not None}
        return of_class in classes and self._uncounted()[of_class] <= 0

    def _taken_before_their_turn(self) -> frozenset[str]:
        """Slots of evictions that have not begun and are filled already."""
        waiting = [step for step in self.unsettled if self.steps[step.id].state is StepState.WAITING]
        standing = {step.slot or "" for step in waiting if step.action is Action.EVICT and self.still_stands(step)}
        return self.balance.filled & standing

    def _uncounted(self) -> Counter[SlotClass]:
        """By class, how many pods came to its slots beyond those that steps were done for."""
        came = Counter(self.slots_by_id[slot_id].slot_class for slot_id in self.balance.filled)
        over = (step for step in self.plan.steps if self.steps[step.id].state is StepState.DONE)
        came.subtract(slot.slot_class for slot in map(self.slot_of, over) if slot and slot.id not in self._spent)
        return came

    def _settle_detours(self) -> bool:
        """Learn who has come to temporary places, and give up the ways on from those where nobody will come.

        Returns:
            Whether a step got its pod, or was settled.
        """
        changing = False
        for step_id, slot_id in self.temporary.items():
            step = self.steps_by_id[step_id]
            first = self.steps[step.replacement_of]
            if not self.is_to_come(step) or self.steps[step_id].state.settled:
                continue
            ref = self.balance.pods.get(slot_id)
            if first.state is StepState.VOID or (first.state.settled and slot_id in self.balance.void):
                lost = first.state is not StepState.VOID
                why = self._why_void(step, self.slots_by_id[slot_id].slot_class) if lost else first.reason
                self.set(step, StepState.VOID, why)
                changing = True
            elif ref is not None and self.facts.standing(ref.uid) is not None:
                self._name(structs.replace(step, pod=ref))
                changing = True
        return changing

    def _name(self, named: Step) -> None:
        steps = tuple(named if step.id == named.id else step for step in self.plan.steps)
        self.plan = structs.replace(self.plan, steps=steps)
        self.steps_by_id[named.id] = named

    def _by_place(self) -> dict[Place, list[Step]]:
        places: dict[Place, list[Step]] = defaultdict(list)
        for step in self.plan.steps:
            slot = self.slot_of(step)
            if slot is not None:
                places[slot.slot_class, slot.node].append(step)
        return places

    def _settle_place(self, place: Place, steps: list[Step]) -> bool:
        """Give the filled and void slots of one class and node to the steps that lead there.

        A filled slot settles a step to its node, whoever took it: settled by the pod's name, another step's slot
        would count as taken, and be open before the moves that make room for it. A step whose slot was open
        comes first, and keeps what was filled until its own pod has gone. A temporary slot that is over, and the
        step that led there, say nothing of the next one over the same place.

        Returns:
            Whether a step was settled.
        """
        spent = self._spent
        steps = [step for step in steps if step.slot not in spent or not self.steps[step.id].state.settled]
        ids = {slot.id for slot in self.plan.slots if (slot.slot_class, slot.node) == place} - spent
        filled, void = len(ids & self.balance.filled), len(ids & self.balance.void)
        states = [self.steps[step.id].state for step in steps]
        filled_left = max(0, filled - states.count(StepState.DONE))
        left = filled_left + max(0, void - states.count(StepState.VOID))
        unsettled = [step for step in steps if not self.steps[step.id].state.settled]
        settling = False
        for step in sorted(unsettled, key=self._turn)[:left]:
            filled_left -= 1
            if step.action is Action.EVICT and not self.gone(step):
                continue
            if filled_left >= 0 and self._counted_for_another(place[0]):
                continue
            settling = True
            if filled_left >= 0:
                self.set(step, StepState.DONE, self._how_it_went(step, StepReason.BOUND))
            else:
                self.set(step, StepState.VOID, self._why_void(step, place[0]))
        return settling

    def offered(self, step: Step) -> bool:
        """Whether the slot of a step has been opened: its pod has to come, and its room is there.

        That a step is settled says nothing: it may be the slot of another step that was filled.
        """
        slot = self.slot_of(step)
        if slot is not None and not all(self.gone(self.steps_by_id[other]) for other in slot.after):
            return False
        if self.steps[step.id].state is StepState.INTENDED:
            return True
        if step.action is Action.EVICT and self.still_stands(step):
            return False
        return all(self.released(self.steps_by_id[other]) for other in step.after)

    def _turn(self, step: Step) -> tuple[bool, str]:
        """Which step of a place takes a filled slot first: one whose slot was open, then in the plan's order."""
        return (not self.offered(step), step.id)

    def _how_it_went(self, step: Step, reason: StepReason) -> StepReason:
        if step.action is Action.EVICT and self.steps[step.id].state is StepState.WAITING:
            return StepReason.ALREADY_GONE
        return reason

    def _why_void(self, step: Step, of_class: SlotClass) -> StepReason:
        pod = self.facts.by_uid.get(step.pod.uid)
        if step.action.arrives and pod is not None and pod.node is not None:
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


def ended(progress: Progress) -> dict[str, StepStatus]:
    """States of the steps of a plan that ends now: what was not begun is void, what was asked for stays told."""
    result = {}
    for step in progress.plan.steps:
        status = progress.steps[step.id]
        asked = step.action is Action.EVICT and status.state is StepState.INTENDED
        begun = asked and not progress.still_stands(step)
        if begun:
            status = changed(status, StepState.DONE, StepReason.EVICTED, progress.now)
        elif not status.state.settled:
            status = changed(status, StepState.VOID, StepReason.PLAN_ENDED, progress.now)
        result[step.id] = status
    return result
