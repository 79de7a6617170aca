"""The first move of a plan, alone: nobody else is evicted until its replacement is bound and Ready.

A move that depends on no other eviction shows at little cost whether replacements come back where the plan says. A swap
shows nothing of that, for its replacement waits for the moves after it.
"""

from __future__ import annotations

from collections.abc import Sequence

from stowage.api.packing_plan_status import StepState
from stowage.decide.step_progress import Progress
from stowage_scheduler.cluster import Pod
from stowage_scheduler.packing import Action, Step


def canary_of(steps: Sequence[Step]) -> Step | None:
    """The first step that moves a pod and comes after no other eviction; None when there is none such."""
    by_id = {step.id: step for step in steps}
    return next((step for step in steps if _shows_something(step) and not _evicts_before(step, by_id)), None)


def awaits_canary(progress: Progress, step: Step) -> bool:
    """Whether the eviction of `step` has to wait for the first move.

    Once another eviction was begun the first move has done its work, whatever becomes of its replacement. A first move
    that became void, or whose replacement went away again, has shown nothing: then the next one goes first.
    """
    steps = [one for one in progress.plan.steps if not _showed_nothing(progress, one)]
    first = canary_of(steps)
    if first is None or first.id == step.id:
        return False
    others = (one for one in steps if one.action is Action.EVICT and one.id != first.id)
    if any(progress.steps[one.id].state in {StepState.INTENDED, StepState.DONE} for one in others):
        return False
    return not _has_landed(progress, first)


def _has_landed(progress: Progress, first: Step) -> bool:
    pod = _replacement(progress, first)
    return progress.steps[first.id].state is StepState.DONE and pod is not None and pod.ready


def _showed_nothing(progress: Progress, step: Step) -> bool:
    state = progress.steps[step.id].state
    went_again = _shows_something(step) and state is StepState.DONE and _replacement(progress, step) is None
    return state is StepState.VOID or went_again


def _replacement(progress: Progress, step: Step) -> Pod | None:
    """The pod in the slot of a step; slots of one class and node stand for each other, whichever was filled."""
    slot = progress.slot_of(step)
    if slot is None:
        return None
    pods = progress.balance.pods
    alike = (one.id for one in progress.plan.slots if (one.slot_class, one.node) == (slot.slot_class, slot.node))
    filled = slot.id if slot.id in pods else next((slot_id for slot_id in alike if slot_id in pods), None)
    return progress.facts.by_uid.get(pods[filled].uid) if filled is not None else None


def _shows_something(step: Step) -> bool:
    return step.action is Action.EVICT and step.slot is not None and not step.swap


def _evicts_before(step: Step, by_id: dict[str, Step]) -> bool:
    todo, seen = [*step.after], set[str]()
    while todo:
        before = todo.pop()
        if before in seen or before not in by_id:
            continue
        if by_id[before].action is Action.EVICT:
            return True
        seen.add(before)
        todo += by_id[before].after
    return False
