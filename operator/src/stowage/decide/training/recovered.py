"""A decision about a failure, written into the status of its job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from stowage.api.durations import instant, lasting
from stowage.api.fields import MAX_MESSAGE
from stowage.api.training_job import TrainingJob
from stowage.api.training_job_status import (
    MAX_EVIDENCE,
    LastFailure,
    RecoveryTimes,
    RestartCount,
    Seat,
    TrainingJobStatus,
)
from stowage.api.training_reasons import JobReason
from stowage.api.training_words import Action, JobPhase, Scope
from stowage.decide.training.active_time import active_seconds
from stowage.decide.training.avoided_nodes import avoided
from stowage.decide.training.facts import Decision
from stowage.decide.training.job_facts import evidence_record, with_recoveries
from stowage.decide.training.recovery_reasons import RecoveryReason
from stowage.decide.training.seats import fresh_attempt, members_of, number, without_seats
from stowage.decide.training.spares import claimed, vacated
from stowage_scheduler.cluster import Node, Pod

_FAILED_BECAUSE: Final = {
    RecoveryReason.USER_ERROR: JobReason.USER_ERROR,
    RecoveryReason.BUDGET_EXHAUSTED: JobReason.BUDGET_EXHAUSTED,
    RecoveryReason.NO_SMALLER_SIZE: JobReason.NO_SMALLER_SIZE,
}
_SCOPES: Final = {
    Action.RESTART_PROCESSES: Scope.PROCESS,
    Action.RESTART_CONTAINER: Scope.CONTAINER,
    Action.REPLACE_NODE: Scope.NODE,
    Action.SHRINK: Scope.NODE,
}


def recovered(
    job: TrainingJob, decision: Decision, now: float, *, nodes: Mapping[str, Node], pods: Iterable[Pod]
) -> TrainingJobStatus:
    """The job's status with a decision in it; `Ignore` without vacated seats changes nothing.

    Whatever starts processes again begins a new epoch and attempt. Seats keep their pods but for those that are
    vacated: they get the new attempt, and so a pod of another name. Spares that are claimed become members at once,
    and the seats that they stand in for are the next spares.

    Args:
        job: as it is stored.
        decision: about its failure.
        now: seconds since 1970.
        nodes: of the cluster, by name.
        pods: of the job, whatever their attempt.
    """
    status = job.status
    if decision.action is Action.IGNORE and not decision.vacate and not decision.recoveries:
        return status
    update: dict[str, Any] = {
        "recoveries": with_recoveries(status.recoveries, decision.recoveries),
        "avoided_nodes": avoided(status.avoided_nodes, decision, nodes, now),
    }
    pods = tuple(pods)
    attempt = fresh_attempt(status, pods)
    seats = _seats(status, decision, attempt)
    if decision.action is Action.IGNORE:
        return status.model_copy(update={**update, "seats": seats})
    words = decision.message[:MAX_MESSAGE]
    update |= {"message": words, "last_failure": _failure(status, decision, now), "phase_since": instant(now)}
    if decision.action is Action.FAIL:
        reason = _FAILED_BECAUSE.get(RecoveryReason(decision.reason), JobReason.FAILED_BY_RULE)
        update |= {"phase": JobPhase.FAILED, "reason": reason.value, "finished_at": instant(now)}
        return status.model_copy(update={**update, "active_seconds": round(active_seconds(status, now))})
    if decision.action is Action.PAUSE:
        update |= {"phase": JobPhase.PAUSED, "reason": JobReason.PAUSED_BY_RULE.value}
        return without_seats(status, pods, now).model_copy(update=update)
    if decision.size is not None:
        seats = _smaller(seats, decision.size)
        update["nodes"] = status.nodes.model_copy(update={"desired": decision.size})
    members = {seat.seat for seat in members_of(seats)}
    whole = set(status.members) == members and not members & set(decision.vacate)
    update |= {
        "phase": JobPhase.RECOVERING,
        "reason": JobReason.RECOVERING.value,
        "epoch": status.epoch + 1,
        "epoch_at": instant(now),
        "attempt": attempt,
        "seats": seats,
        "members": status.members if whole else (),
        "restarts": _restarts(status, decision.action),
    }
    return status.model_copy(update=update)


def _seats(status: TrainingJobStatus, decision: Decision, attempt: int) -> tuple[Seat, ...]:
    gone = set(decision.vacate)
    left = (vacated(seat, attempt) if seat.seat in gone else seat for seat in status.seats)
    return claimed(left, decision.claimed_spares, attempt)


def _smaller(seats: tuple[Seat, ...], size: int) -> tuple[Seat, ...]:
    """So many members, those that have a node first, and the spares."""
    by_use = sorted(members_of(seats), key=lambda seat: (seat.node is None, number(seat.seat)))
    kept = {seat.seat for seat in by_use[:size]}
    return tuple(seat for seat in seats if seat.spare or seat.seat in kept)


def _restarts(status: TrainingJobStatus, action: Action) -> tuple[RestartCount, ...]:
    counts = Counter({one.scope: one.count for one in status.restarts})
    counts[_SCOPES[action]] += 1
    return tuple(RestartCount(scope=scope, count=counts[scope]) for scope in Scope if counts[scope])


def _failure(status: TrainingJobStatus, decision: Decision, now: float) -> LastFailure | None:
    if not decision.evidence or not decision.recoveries:
        return status.last_failure
    # the one that asked for what is done, of which the message speaks too
    line = next((one for one in decision.recoveries if one.action is decision.action), decision.recoveries[0])
    first = min(decision.evidence, key=lambda one: (one.event is not line.event or one.seat != line.seat, one.at))
    at = min(first.at, now) if first.at > 0 else now
    return LastFailure(
        at=instant(at),
        domain=decision.domain,
        event=line.event,
        seat=line.seat,
        node=line.node,
        rank=first.rank,
        code=first.code,
        signal=first.signal,
        evidence=tuple(
            evidence_record(one) for one in sorted(decision.evidence, key=lambda one: one.at)[:MAX_EVIDENCE]
        ),
        action=decision.action,
        reason=decision.reason,
        message=decision.message[:MAX_MESSAGE],
        from_step=status.progress.step,
        recovery=RecoveryTimes(detect=lasting(now - at), decide=lasting(0.0)),
    )
