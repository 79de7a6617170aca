"""The conditions of a TrainingJob, from its status."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from stowage.api.conditions import ConditionStatus, with_condition
from stowage.api.fields import MAX_MESSAGE
from stowage.api.training_job import TrainingJob
from stowage.api.training_job_status import TrainingJobStatus
from stowage.api.training_reasons import JobCondition, JobReason
from stowage.api.training_words import JobPhase
from stowage.decide.training.job_facts import promql_rules
from stowage.decide.training.promql_rules import Queried
from stowage.decide.training.seats import members_of
from stowage.decide.training.waiting import WAITS

_NO_POLICY_WORDS: Final = "no PackingPolicy covers the pods: they are not gated, and are placed one by one"
_NOT_RUNNING: Final = {
    JobPhase.PENDING: JobReason.AWAITING_NODES,
    JobPhase.STARTING: JobReason.AWAITING_RANKS,
    JobPhase.RECOVERING: JobReason.RECOVERING,
    JobPhase.RESIZING: JobReason.RESIZING,
    JobPhase.SUSPENDED: JobReason.SUSPENDED,
    JobPhase.PAUSED: JobReason.PAUSED_BY_RULE,
}


def with_conditions(
    job: TrainingJob,
    status: TrainingJobStatus,
    *,
    gated: bool,
    heard: bool,
    refused: str,
    now: datetime,
    queued: bool = False,
) -> TrainingJobStatus:
    """The status with all conditions set.

    Args:
        job: whose.
        status: as it is about to be written, but for its conditions.
        gated: whether a PackingPolicy covers the pods.
        heard: whether the coordinator is connected.
        refused: the API server's words about a child that it did not take; empty: it took all.
        now: time of transitions.
        queued: whether Kueue holds pods of the job.
    """
    phase = status.phase or JobPhase.PENDING
    asked = job.spec.not_supported()
    accepted = (JobReason.NOT_SUPPORTED, f"not acted on: {', '.join(asked)}") if asked else (JobReason.ACCEPTED, "")
    if refused:
        accepted = (JobReason.CHILD_REFUSED, refused[:MAX_MESSAGE])
    members = members_of(status.seats)
    placed = bool(members) and all(seat.node for seat in members)
    where = JobReason.PLACED if placed else JobReason.AWAITING_NODES
    if not gated and not phase.ended:
        where = JobReason.NO_POLICY
    if queued and not placed:
        where = JobReason.AWAITING_QUOTA
    words_of_place = _NO_POLICY_WORDS if where is JobReason.NO_POLICY else ""
    if where is JobReason.AWAITING_QUOTA:
        words_of_place = f"Kueue holds the pods until queue {job.spec.queue_name} has quota for all of them"
    running, why = _running(status, phase, heard=heard)
    still = phase in {JobPhase.SUSPENDED, JobPhase.PAUSED}
    paused = JobReason.PAUSED_BY_RULE if phase is JobPhase.PAUSED else JobReason.SUSPENDED
    rows: list[tuple[JobCondition, ConditionStatus | bool, JobReason, str]] = [
        (JobCondition.ACCEPTED, not asked and not refused, *accepted),
        (JobCondition.PLACED, placed, where, words_of_place),
        (JobCondition.RUNNING, running, why, status.message if phase in WAITS else ""),
        (JobCondition.SUSPENDED, still, paused if still else JobReason.NOT_SUSPENDED, ""),
    ]
    if phase is JobPhase.SUCCEEDED:
        rows.append((JobCondition.COMPLETE, True, JobReason.ALL_RANKS_SUCCEEDED, status.message))
    if phase is JobPhase.FAILED:
        rows.append((JobCondition.FAILED, True, JobReason(status.reason or JobReason.FAILED_BY_RULE), status.message))
    conditions = status.conditions
    for kind, holds, reason, words in rows:
        conditions = with_condition(
            conditions, kind, holds, reason, words, now=now, observed_generation=status.observed_generation
        )
    return status.model_copy(update={"conditions": conditions})


def with_observed(job: TrainingJob, status: TrainingJobStatus, queried: Queried, now: datetime) -> TrainingJobStatus:
    """The status with a condition about the PromQL rules that the job names; without any there is no such condition.

    Args:
        job: whose.
        status: as it is about to be written.
        queried: what the rules say.
        now: time of transitions.
    """
    others = tuple(one for one in status.conditions if one.type != JobCondition.OBSERVED.value)
    if not promql_rules(job.spec.recovery):
        return status if others == status.conditions else status.model_copy(update={"conditions": others})
    holds: ConditionStatus | bool = True
    reason, words = JobReason.QUERIES_ANSWERED, ""
    if queried.silent:
        holds, reason = ConditionStatus.UNKNOWN, JobReason.QUERIES_UNANSWERED
        words = f"Prometheus does not answer for {', '.join(queried.silent)}"
    if queried.unknown:
        holds, reason = False, JobReason.UNKNOWN_RULE
        words = f"no PromQL rule of the operator's settings is for this namespace: {', '.join(queried.unknown)}"
    conditions = with_condition(
        status.conditions,
        JobCondition.OBSERVED,
        holds,
        reason,
        words,
        now=now,
        observed_generation=status.observed_generation,
    )
    return status.model_copy(update={"conditions": conditions})


def _running(status: TrainingJobStatus, phase: JobPhase, *, heard: bool) -> tuple[ConditionStatus | bool, JobReason]:
    if phase is JobPhase.RUNNING:
        return (
            (True, JobReason.ALL_RANKS_RUNNING)
            if heard
            else (
                ConditionStatus.UNKNOWN,
                JobReason.COORDINATOR_UNREACHABLE,
            )
        )
    if phase.ended:
        return False, JobReason(status.reason or JobReason.ALL_RANKS_SUCCEEDED)
    return False, _NOT_RUNNING[phase]
