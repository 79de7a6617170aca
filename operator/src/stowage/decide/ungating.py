"""Gangs behind a gate: all members are let go together, each pinned to its node, or none is.

The intents of a whole gang are written at once, so whoever goes on after a crash lets the rest go too. A gang that is
not bound whole within a minute gives its room back: the members that were let go are evicted, and their controllers
make them again, gated. Members that nothing would make again stay where they are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from stowage.api.packing_plan import PlanSteering
from stowage.api.packing_plan_status import StepState
from stowage.api.reasons import StepReason
from stowage.decide.landing import expected_on
from stowage.decide.plan_validity import room_now
from stowage.decide.situation import Situation, extender_ready
from stowage.decide.step_progress import Progress
from stowage_scheduler.cluster import Pod
from stowage_scheduler.gangs import gang_key, gangs
from stowage_scheduler.packing import Action, Step

WHOLE_WITHIN_SECONDS = 60.0

GangKey = tuple[str, str]
"""Namespace and name of a gang."""


def ungatings(progress: Progress, situation: Situation, *, paused: bool) -> tuple[Step, ...]:
    """The gates to take away in this pass; their steps are marked as intended."""
    chosen: list[Step] = []
    for steps in _gangs(progress).values():
        found = {progress.steps[step.id].state for step in steps}
        waiting = [step for step in steps if progress.steps[step.id].state is StepState.WAITING]
        if StepState.INTENDED not in found and StepState.VOID in found:
            for step in waiting:  # a member is gone: the gang is another one now, and nobody of it was let go
                progress.set(step, StepState.VOID, StepReason.GANG_INCOMPLETE)
            continue
        if StepState.INTENDED not in found:
            if paused or not waiting or not _may_start(progress, waiting, situation):
                continue
            for step in waiting:
                progress.set(step, StepState.INTENDED)
        chosen += [step for step in steps if _is_gated(progress, step) and _is_due(step, situation)]
    return tuple(chosen)


def give_up_half_gangs(progress: Progress, *, at_once: bool) -> None:
    """Mark the gangs as failed that were let go and did not become whole in time.

    Args:
        progress: the plan now.
        at_once: the plan can not go on: nobody waits for the rest.
    """
    for steps in _gangs(progress).values():
        since = [_since(progress, step) for step in steps if progress.steps[step.id].state is StepState.INTENDED]
        if since and (at_once or progress.now - min(since) >= WHOLE_WITHIN_SECONDS):
            for step in steps:
                if not progress.steps[step.id].state.settled:
                    progress.set(step, StepState.FAILED, StepReason.GANG_INCOMPLETE)


def restarts(progress: Progress, situation: Situation) -> tuple[tuple[Step, ...], bool]:
    """Members of failed gangs that have to go: all of them, or where enough of a gang run those that do not.

    Returns:
        The steps whose pods are to be evicted now, and whether any such pod still stands.
    """
    leaving: list[Step] = []
    for steps in _gangs(progress).values():
        if any(_failed(progress, step) for step in steps):
            pods = {step.id: progress.facts.standing(step.pod.uid) for step in steps}
            keep = _enough_run(progress, pods.values())
            leaving += [step for step in steps if _was_let_go(pods[step.id], keep=keep)]
    return tuple(step for step in leaving if _is_due(step, situation)), bool(leaving)


def _gangs(progress: Progress) -> Mapping[GangKey, list[Step]]:
    gangs: dict[GangKey, list[Step]] = defaultdict(list)
    for step in progress.plan.steps:
        if step.action is Action.UNGATE:
            gangs[step.pod.namespace, step.gang or step.pod.name].append(step)
    return gangs


def _may_start(progress: Progress, steps: list[Step], situation: Situation) -> bool:
    before = {other for step in steps for other in step.after}
    if not all(progress.released(progress.steps_by_id[other]) for other in before):
        _wait(progress, steps, StepReason.DEPENDENCY_PENDING)
        return False
    if progress.plan.steering is PlanSteering.EXTENDER and not extender_ready(progress.plan, situation):
        _wait(progress, steps, StepReason.AWAITING_EXTENDER)
        return False
    if not _has_room(progress, steps):
        _wait(progress, steps, StepReason.DEPENDENCY_PENDING)
        return False
    return True


def _wait(progress: Progress, steps: Iterable[Step], reason: StepReason) -> None:
    for step in steps:
        progress.set(step, StepState.WAITING, reason)


def _has_room(progress: Progress, steps: Iterable[Step]) -> bool:
    """Whether all members have room at once, beside those who are on their way already."""
    nodes = {slot.node for step in steps if (slot := progress.slot_of(step)) is not None}
    rooms = [room_now(node, progress.facts, expected_on(progress, node)) for node in nodes]
    return all(room is not None and min(room.values(), default=0) >= 0 for room in rooms)


def _failed(progress: Progress, step: Step) -> bool:
    status = progress.steps[step.id]
    return status.state is StepState.FAILED and status.reason is StepReason.GANG_INCOMPLETE


def _is_gated(progress: Progress, step: Step) -> bool:
    pod = progress.facts.standing(step.pod.uid)
    return pod is not None and pod.gated and not progress.steps[step.id].state.settled


def _was_let_go(pod: Pod | None, *, keep: bool) -> bool:
    """With `keep` those that are bound may stay."""
    return pod is not None and not pod.gated and pod.owner is not None and not (keep and pod.node is not None)


def _enough_run(progress: Progress, pods: Iterable[Pod | None]) -> bool:
    """Whether the gang of some pods can do without those that found no place."""
    one = next((pod for pod in pods if pod is not None and pod.gang is not None and pod.gang.elastic), None)
    if one is None:
        return False
    key = gang_key(one)
    found = gangs(pod for pod in progress.facts.snapshot.pods if gang_key(pod) == key)
    return any(1 <= state.size <= len(state.running) for state in found.values())


def _since(progress: Progress, step: Step) -> float:
    at = progress.steps[step.id].at
    return at if at is not None else progress.now


def _is_due(step: Step, situation: Situation) -> bool:
    attempt = situation.attempts.get(step.id)
    return attempt is None or situation.now >= attempt.at + attempt.retry_after_seconds
