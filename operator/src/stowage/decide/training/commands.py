"""What a job's coordinator is told, from the job's status alone: whoever leads next says the same."""

from __future__ import annotations

from itertools import takewhile
from typing import Any

from stowage.api.training_job import TrainingJob
from stowage.api.training_job_status import TrainingJobStatus
from stowage.api.training_reasons import JobReason
from stowage.api.training_words import Action, Event, JobPhase
from stowage.decide.training.children import MARGIN_SECONDS
from stowage.decide.training.job_facts import hang_seconds, log_rules
from stowage_worker.messages import Begin, End, HangRule

DEFAULT_START_SECONDS = 600.0
_LEAVES_TIME = frozenset({Event.DISRUPTION, Event.NODE_TAINT, Event.NODE_CONDITION})
"""Why a seat is filled anew although its ranks still run."""
_LONGER_EACH_TIME = 4
_MOST_TIMES = 4
_ENDED_BY_THEMSELVES = frozenset({Event.OUT_OF_MEMORY, Event.CONTAINER_EXITED})


def command_of(job: TrainingJob) -> Begin | End | None:
    """What the coordinator shall do now; None: nothing new, for the members are not known yet.

    The code of `End` is 0 also when the job failed: with another one the kubelet would start the supervisors again.
    """
    status = job.status
    if status.phase is None or status.phase in {JobPhase.SUSPENDED, JobPhase.PAUSED}:
        return None
    grace_seconds = grace_of(job)
    if status.phase.ended:
        return End(code=0, grace_seconds=grace_seconds)
    if is_suspending(job):
        return Begin(
            status.epoch,
            status.attempt,
            (),
            job.spec.processes_per_node,
            grace_seconds=grace_seconds,
            yield_first_seconds=grace_seconds,
        )
    uids = {seat.seat: seat.pod_uid or "" for seat in status.seats}
    if not status.members or not all(uids.get(member) for member in status.members):
        return None
    deadline = job.spec.start_deadline
    return Begin(
        epoch=status.epoch,
        attempt=status.attempt,
        seats=status.members,
        processes_per_node=job.spec.processes_per_node,
        grace_seconds=grace_seconds,
        yield_first_seconds=grace_seconds if _is_planned(status) else 0.0,
        start_seconds=deadline.seconds if deadline is not None else DEFAULT_START_SECONDS,
        world=_world(job),
        hang=_hang_rule(job),
        log_rules=log_rules(job.spec.recovery),
        pods=tuple(uids[member] or "" for member in status.members),
        restart_seats=_restarted(job),
        checkpoint_seconds=status.checkpoint_interval.seconds if status.checkpoint_interval is not None else 0.0,
    )


def _is_planned(status: TrainingJobStatus) -> bool:
    """Whether the ranks of the epoch before can make a checkpoint first: nothing of them has failed.

    An evicted pod, or one on a node that has to go, runs until its grace is over. The coordinator, which knows whether
    all ranks still run, stops them at once where one is gone.
    """
    if status.phase is JobPhase.RESIZING:
        return True
    failure = status.last_failure
    return status.phase is JobPhase.RECOVERING and failure is not None and failure.event in _LEAVES_TIME


def is_suspending(job: TrainingJob) -> bool:
    """Whether the ranks are still to yield before the job has no pods."""
    return job.status.phase is JobPhase.RESIZING and job.status.reason == JobReason.SUSPENDED


def grace_of(job: TrainingJob) -> float:
    """Seconds that the processes of a pod have to end, less than the kubelet gives the pod."""
    return float(max(1, job.spec.template.spec.grace_seconds - MARGIN_SECONDS))


def _hang_rule(job: TrainingJob) -> HangRule:
    """How long ranks may be without a step; with `Auto` longer after each hang at the step of the one before.

    Ranks that stand at the same step again may do something long there that the program does not tell, such as to
    gather and write what they found: they shall have the time before the budget is used up. Hangs at other steps, or
    with another failure in between, are found as soon as ever.
    """
    given = hang_seconds(job.spec.recovery)
    if given is not None:
        return HangRule(floor_seconds=given, factor=0.0)
    # what happens to spares is remembered too: no rank failed, and what an epoch was begun with shall not change
    before = [one for one in reversed(job.status.recoveries) if one.action is not Action.IGNORE]
    alike = takewhile(
        lambda one: one.event is Event.HANG and one.step is not None and one.step == before[0].step, before
    )
    times = len({one.epoch for one in alike})
    more = float(_LONGER_EACH_TIME ** min(max(times - 1, 0), _MOST_TIMES))
    return HangRule(floor_seconds=HangRule.floor_seconds * more, factor=HangRule.factor * more)


def _world(job: TrainingJob) -> dict[str, Any]:
    batch = job.spec.batch
    ranks = len(job.status.members) * job.spec.processes_per_node
    world: dict[str, Any] = {"layout": {"data": ranks, "tensor": 1, "pipeline": 1}}
    if batch is not None:
        world["batch"] = {"global": batch.global_, **({"micro": batch.micro} if batch.micro is not None else {})}
    return world


def _restarted(job: TrainingJob) -> tuple[str, ...]:
    """Seats whose container this epoch starts again: what the epoch before was ended for."""
    found = {
        one.seat
        for one in job.status.recoveries
        if one.epoch == job.status.epoch - 1
        and one.action is Action.RESTART_CONTAINER
        and one.event not in _ENDED_BY_THEMSELVES
    }
    return tuple(seat for seat in job.status.members if seat in found)
