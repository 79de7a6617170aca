"""Whether one more pod of a controller may leave now: not too many of them are down at once, budget or not."""

from __future__ import annotations

from collections import Counter

from stowage.api.packing_plan_status import StepState
from stowage.api.reasons import StepReason
from stowage.decide.step_progress import Progress
from stowage_scheduler.packing import Action, Step
from stowage_scheduler.unavailable import MaxUnavailable

_BEGUN = frozenset({StepState.INTENDED, StepState.DONE, StepState.VOID, StepState.FAILED})


class OwnerGate:
    """Counts the pods of each controller that this plan has taken down and that are not Ready again.

    Pods that only waited are left out: a replica that never gets Ready for reasons of its own must not hold a plan up.

    Args:
        progress: the plan now.
        most: of a controller's pods; None: as many as the plan likes.
    """

    def __init__(self, progress: Progress, most: MaxUnavailable | None) -> None:
        self._progress = progress
        self._most = most
        self._down: Counter[str] = Counter()
        if most is None:
            return
        leaves = {step.slot: step for step in progress.plan.steps if step.action is Action.EVICT and step.slot}
        begun = {slot_id for slot_id, step in leaves.items() if progress.steps[step.id].state in _BEGUN}
        for slot_id, step in leaves.items():
            if progress.steps[step.id].state is StepState.INTENDED:
                self._down[progress.slots_by_id[slot_id].slot_class.controller_uid] += 1
        back: Counter[str] = Counter()
        for slot_id, pod in progress.replacements():
            owner = progress.slots_by_id[slot_id].slot_class.controller_uid
            if not pod.ready and not pod.terminating:
                self._down[owner] += 1
            if slot_id in leaves and slot_id not in begun:
                # nobody steered it: it took the place of a pod that has yet to leave, and it is back all the same
                back[owner] += 1
        for owner, count in back.items():
            self._down[owner] -= min(count, max(0, self._left(owner) - self._missing(owner)))

    def hold(self, step: Step) -> StepReason | None:
        """Why the eviction of a step has to wait; None when it may go, or was begun before."""
        slot = self._progress.slot_of(step)
        begun = self._progress.steps[step.id].state is StepState.INTENDED
        if self._most is None or slot is None or begun:
            return None
        owner = slot.slot_class.controller_uid
        return StepReason.OWNER_LIMIT if self._down[owner] >= self._most.of(self._replicas(owner)) else None

    def passed(self, step: Step) -> None:
        """Count an eviction that is asked for now for the first time."""
        slot = self._progress.slot_of(step)
        if slot is not None and self._progress.steps[step.id].state is not StepState.INTENDED:
            self._down[slot.slot_class.controller_uid] += 1

    def _left(self, owner: str) -> int:
        """Pods of a controller that leave or have left, by steps that still wait for a replacement."""
        steps = (step for step in self._progress.unsettled if step.action is Action.EVICT)
        slots = (self._progress.slot_of(step) for step in steps if not self._progress.still_stands(step))
        return sum(1 for slot in slots if slot is not None and slot.slot_class.controller_uid == owner)

    def _missing(self, owner: str) -> int:
        """Pods that a controller wants and that have no node: one that it wants in addition is nobody's replacement."""
        standing = (pod for pod in self._progress.facts.by_owner.get(owner, ()) if pod.node is not None)
        return self._replicas(owner) - sum(1 for _ in standing)

    def _replicas(self, owner: str) -> int:
        workload = self._progress.facts.workloads.get(owner)
        if workload is not None and workload.replicas is not None:
            return workload.replicas
        return len(self._progress.facts.by_owner.get(owner, ()))
