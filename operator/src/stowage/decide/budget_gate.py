"""Whether an eviction may be asked for under its PodDisruptionBudget."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from stowage.api.packing_plan_status import StepState
from stowage.api.reasons import StepReason
from stowage.decide.plan_facts import StepStatus
from stowage.decide.slot_balance import PodFacts
from stowage.decide.step_progress import Progress
from stowage_scheduler.cluster import DisruptionBudget, Pod
from stowage_scheduler.kube.budgets import budgets_of
from stowage_scheduler.packing import Action, Step
from stowage_scheduler.slots import Slot, SlotClass


def unready_replacements(progress: Progress) -> list[Pod]:
    """Pods that came for those that the plan evicted and are not Ready.

    A replica that crashes for reasons of its own, or that only waited and got a place, is none of them: its budget
    counts it among the unhealthy ones, and the plan must not wait for it. All slots of a class stand for each other, so
    a replacement may be where a pod that waited was to go, and the other way round.
    """
    waited = {step.pod.uid for step in progress.plan.steps if step.action.arrives}
    gone: Counter[SlotClass] = Counter()
    for step in progress.plan.steps:
        slot = progress.slot_of(step)
        begun = progress.steps[step.id].state in {StepState.INTENDED, StepState.DONE}
        if step.action is Action.EVICT and slot is not None and begun and not progress.still_stands(step):
            gone[slot.slot_class] += 1
    came: dict[SlotClass, list[Pod]] = defaultdict(list)
    for slot_id, ref in sorted(progress.balance.pods.items()):
        pod = progress.facts.by_uid.get(ref.uid)
        if pod is not None and pod.uid not in waited and not pod.terminating:
            came[progress.slots_by_id[slot_id].slot_class].append(pod)
    missed = (of_class for of_class, pods in came.items() if sum(pod.ready for pod in pods) < gone[of_class])
    return [pod for of_class in missed for pod in came[of_class] if not pod.ready]


class BudgetGate:
    """Lets one eviction at a time pass under each budget.

    The next one passes when the replacements of all earlier ones are Ready, the budget's status describes
    its newest spec, and it allows a disruption. That is stricter than the API server, which only counts.

    Args:
        facts: the cluster now.
        steps: all steps of the plan.
        status: their states.
        slots: the plan's slots by id.
        unready: replacements that are not Ready.
    """

    def __init__(
        self,
        facts: PodFacts,
        steps: Sequence[Step],
        status: Mapping[str, StepStatus],
        slots: Mapping[str, Slot],
        unready: Iterable[Pod],
    ) -> None:
        self._facts = facts
        self._slots = slots
        self._in_flight = [
            step
            for step in steps
            if step.action is Action.EVICT
            and step.slot in slots
            and not step.swap
            and status[step.id].state is StepState.INTENDED
        ]
        self._unready = list(unready)
        self._passed: set[str] = set()  # UIDs of budgets

    def hold(self, step: Step, pod: Pod) -> StepReason | None:
        """Why the eviction of `pod` has to wait, or EVICTION_REFUSED when it never can be; None when it may go."""
        budgets = budgets_of(pod, self._facts.snapshot.budgets)
        if len(budgets) > 1:
            return StepReason.EVICTION_REFUSED
        for budget in budgets:
            if not budget.fresh or budget.disruptions_allowed < 1 or budget.uid in self._passed:
                return StepReason.DISRUPTION_BUDGET
            if any(budget in budgets_of(other, (budget,)) for other in self._unready):
                return StepReason.PEER_NOT_READY
            if any(other.id != step.id and self._under(other, budget) for other in self._in_flight):
                return StepReason.PEER_NOT_READY
        return None

    def passed(self, step: Step, pod: Pod) -> None:
        """Count an eviction that is asked for now."""
        self._passed.update(budget.uid for budget in budgets_of(pod, self._facts.snapshot.budgets))
        if step not in self._in_flight and step.slot in self._slots and not step.swap:
            self._in_flight.append(step)

    def _under(self, step: Step, budget: DisruptionBudget) -> bool:
        """Whether an eviction under way counts against a budget; its pod may be gone, its kin tell then."""
        if step.pod.namespace != budget.namespace:
            return False
        pod = self._facts.by_uid.get(step.pod.uid)
        if pod is not None:
            return bool(budgets_of(pod, (budget,)))
        kin = self._facts.by_owner.get(self._slots[step.slot or ""].slot_class.controller_uid, [])
        # without kin nobody knows its labels: waiting for its replacement is the safe side
        return not kin or any(budgets_of(other, (budget,)) for other in kin)
