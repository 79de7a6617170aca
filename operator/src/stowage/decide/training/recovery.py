"""What to do about evidence: one pure decision from a job, what was seen, what went before, and the cluster."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct, structs

from stowage.api.training_words import Action, Domain, Event, JobPhase
from stowage.decide.training.causes import Cause, causes_of
from stowage.decide.training.escalation import (
    LADDER,
    MAX_PER_DECISION,
    TRIES,
    costs_more,
    escalated,
    is_repeated_user_error,
    is_spent,
)
from stowage.decide.training.facts import Decision, Evidence, History, JobFacts, Recovery
from stowage.decide.training.failure_domain import is_consequence
from stowage.decide.training.freshness import doubted_until, fresh_evidence
from stowage.decide.training.recovery_reasons import RecoveryReason
from stowage.decide.training.recovery_words import sentence
from stowage.decide.training.spares import ready_spares
from stowage.decide.training.unhealthy_nodes import kept_away
from stowage_scheduler.cluster import Snapshot

SETTLE_SECONDS: Final = 2.0
"""So long a silent seat may be, after the coordinator gave it up, until the kubelet or the API server says why."""
SETTLE_MANY_SECONDS: Final = 30.0
"""The same when most seats fell silent at once: rather the network around the coordinator than their nodes."""
_MANY: Final = 3
PEERS_SECONDS: Final = 0.5
"""So long ranks that only lost their peers are waited for to be explained: a rank that ended is told in 0.2 s."""
VERDICT_SECONDS: Final = 8.0
"""The same while a member's supervisor is not connected: the coordinator gives it up after 2 to 5 s."""

_ENDS_BY_ITSELF: Final = frozenset({Event.OUT_OF_MEMORY, Event.CONTAINER_EXITED})
_WITHOUT_POD: Final = frozenset({Event.POD_DELETED, Event.DISRUPTION})
"""The pod is gone or goes: nothing can be started in it again, whatever a rule says."""
_IDLE_PHASES: Final = frozenset({JobPhase.SUSPENDED, JobPhase.PAUSED, JobPhase.SUCCEEDED, JobPhase.FAILED})


class _Answer(Struct, frozen=True):
    """A cause with what is done about it, and why so much."""

    cause: Cause
    action: Action
    reason: RecoveryReason
    size: int | None = None


def decide_recovery(
    job: JobFacts, evidence: Iterable[Evidence], history: History, snapshot: Snapshot, now: float
) -> Decision:
    """The one decision that all evidence together asks for.

    Deciding again about the same evidence once the decision is in the job's status gives `Ignore`: the epoch has
    risen, vacated seats have no pod, and conditions of nodes are in the history. `Ignore` with `vacate` gives up
    spares beside the epoch that runs on.

    Args:
        job: the job as its status and its pods have it.
        evidence: all that was seen, in any order; what is stale is passed over.
        history: this job's recoveries, and the records of nodes over all jobs.
        snapshot: the cluster; nodes that are not in it are gone.
        now: seconds since 1970.
    """
    if job.phase in _IDLE_PHASES:
        return _nothing(RecoveryReason.NOTHING_RUNS)
    told = [(one, doubted_until(job, one, snapshot)) for one in evidence]
    fresh = fresh_evidence(job, [one for one, until in told if until <= now], history, snapshot)
    again_at = min((until for _, until in told if until > now), default=None)
    if not fresh:
        return _nothing(RecoveryReason.NOTHING_NEW, again_at=again_at)
    causes = causes_of(job, fresh)
    if not causes:
        return _nothing(RecoveryReason.IGNORED_BY_RULE, fresh, again_at)
    until = _settled_at(job, causes)
    if now < until:
        return _nothing(RecoveryReason.WAITS_FOR_CAUSE, fresh, min(until, again_at or until))
    spares = {seat.seat for seat in job.seats if seat.spare}
    beside = [_of_spares(cause) for cause in causes if _is_of_spares(cause, spares) and _has_to_leave(cause)]
    answers = [_answer(cause, job, history, now) for cause in causes if not _is_of_spares(cause, spares)]
    if not answers:
        return _about_spares(job, beside, history, snapshot, fresh, now, again_at)
    first = _strongest(answers)
    costs = any(answer.action in TRIES and not answer.cause.blameless for answer in answers)
    if first.action in TRIES and costs and is_spent(history.recoveries, job.budget, now):
        worst = next(answer for answer in answers if not answer.cause.blameless)
        stop = Action.FAIL if worst.cause.domain is not Domain.INFRASTRUCTURE else Action.PAUSE
        first = _Answer(worst.cause, stop, RecoveryReason.BUDGET_EXHAUSTED)
        answers, beside = [first], []
    return _decision(job, [*answers, *beside], first, history, snapshot, fresh, now)


def _nothing(reason: RecoveryReason, fresh: Sequence[Evidence] = (), again_at: float | None = None) -> Decision:
    message = sentence(reason, fresh[0] if fresh else None, again_at=again_at)
    return Decision(Action.IGNORE, Domain.UNKNOWN, reason, message, evidence=tuple(fresh), again_at=again_at)


def _settled_at(job: JobFacts, causes: Sequence[Cause]) -> float:
    """Until when silent seats are waited for; 0 without any, or where a rule of the job speaks for them."""
    silent = [one for one in causes if one.evidence.event is Event.SUPERVISOR_LOST and not one.by_user]
    if not silent:
        return _explained_at(job, causes)
    many = len(silent) >= _MANY and 2 * len(silent) > len(job.seats) and len(silent) == len(causes)
    return max(one.evidence.at for one in silent) + (SETTLE_MANY_SECONDS if many else SETTLE_SECONDS)


def _explained_at(job: JobFacts, causes: Sequence[Cause]) -> float:
    """Until when it is waited for what ranks lost their peers by, where nothing else is known; 0: they did not.

    When a node dies, ranks on other nodes end at once, and its supervisor counts as lost seconds later: an epoch that
    began in between would have a dead member.
    """
    if any(one.by_user or not is_consequence(one.evidence) for one in causes):
        return 0.0
    gone = any(seat.member and not seat.connected and not seat.finished for seat in job.seats)
    return min(one.evidence.at for one in causes) + (VERDICT_SECONDS if gone and job.heard else PEERS_SECONDS)


def _answer(cause: Cause, job: JobFacts, history: History, now: float) -> _Answer:
    if is_repeated_user_error(cause, history, now - job.budget.window_seconds, job.checkpoint_step):
        return _Answer(structs.replace(cause, domain=Domain.WORKLOAD), Action.FAIL, RecoveryReason.USER_ERROR)
    action = escalated(cause, job, history, now)
    gone = cause.evidence.event in _WITHOUT_POD and action in TRIES and costs_more(Action.REPLACE_NODE, action)
    if gone or (action is Action.RESTART_CONTAINER and not _can_restart(cause, job)):
        action = Action.REPLACE_NODE
    reason = RecoveryReason.RULE_MATCHED if cause.by_user else RecoveryReason.FAILURE_RECOVERED
    if costs_more(action, cause.action):
        reason = RecoveryReason.ESCALATED
    if action is Action.SHRINK:
        lost = sum(seat.seat in cause.seats and not seat.spare for seat in job.seats)
        size = max((one for one in job.sizes if one <= job.size - max(1, lost)), default=None)
        if size is None:
            stop = Action.FAIL if cause.domain is Domain.WORKLOAD else Action.PAUSE
            return _Answer(cause, stop, RecoveryReason.NO_SMALLER_SIZE)
        return _Answer(cause, action, reason, size)
    return _Answer(cause, action, reason)


def _can_restart(cause: Cause, job: JobFacts) -> bool:
    """Whether the containers end by themselves or their supervisors can be told to; a program's fault costs no node."""
    if cause.evidence.event in _ENDS_BY_ITSELF or cause.domain is Domain.WORKLOAD:
        return True
    return all(seat.connected for seat in job.seats if seat.seat in cause.seats)


def _strongest(answers: Sequence[_Answer]) -> _Answer:
    """The answer that covers the others; among equals one with somebody to blame, then the first."""
    return max(answers, key=lambda answer: (LADDER.index(answer.action), not answer.cause.blameless))


def _is_of_spares(cause: Cause, spares: set[str]) -> bool:
    """Whether only seats that wait are hit, so that nobody has to stop for it."""
    return bool(cause.seats) and set(cause.seats) <= spares and cause.action in TRIES


def _has_to_leave(cause: Cause) -> bool:
    """Whether a spare is of no use where it is; a container that ended its kubelet starts again."""
    return cause.evidence.event in _WITHOUT_POD or not costs_more(Action.REPLACE_NODE, cause.action)


def _of_spares(cause: Cause) -> _Answer:
    return _Answer(cause, Action.REPLACE_NODE, RecoveryReason.SPARE_LOST)


def _about_spares(
    job: JobFacts,
    answers: Sequence[_Answer],
    history: History,
    snapshot: Snapshot,
    fresh: tuple[Evidence, ...],
    now: float,
    again_at: float | None,
) -> Decision:
    """Spares alone are hit: who has to leave goes, and nothing else stops. Containers the kubelet starts again."""
    if not answers:
        return _nothing(RecoveryReason.SPARE_LOST, fresh, again_at)
    first = answers[0]
    reason = RecoveryReason.SPARE_LOST
    avoid, cordon = kept_away([a.cause for a in answers if a.action is Action.REPLACE_NODE], history, snapshot, now)
    vacate = tuple(sorted({seat for answer in answers for seat in answer.cause.seats}))
    return Decision(
        Action.IGNORE,
        first.cause.domain,
        reason,
        sentence(reason, first.cause.evidence),
        evidence=fresh,
        vacate=vacate,
        force=_by_force(job, vacate, snapshot),
        avoid=avoid,
        cordon=cordon,
        recoveries=_lines(job, answers, now, Action.IGNORE),
        again_at=again_at,
    )


def _decision(
    job: JobFacts,
    answers: Sequence[_Answer],
    first: _Answer,
    history: History,
    snapshot: Snapshot,
    fresh: tuple[Evidence, ...],
    now: float,
) -> Decision:
    action = first.action
    leaving = [one for one in answers if one.action in {Action.REPLACE_NODE, Action.SHRINK} and action in TRIES]
    vacate = tuple(sorted({seat for answer in leaving for seat in answer.cause.seats}))
    avoid, cordon = kept_away([answer.cause for answer in leaving], history, snapshot, now)
    force = _by_force(job, vacate, snapshot)
    lost = [seat for seat in job.seats if seat.seat in vacate and not seat.spare]
    claimed = _claimed(job, vacate, avoid, snapshot, len(lost)) if action is Action.REPLACE_NODE else ()
    stuck = tuple(seat for seat in vacate if _is_on_dead_node(job, seat, snapshot) and seat not in force)
    return Decision(
        action,
        first.cause.domain,
        first.reason,
        sentence(
            first.reason,
            first.cause.evidence,
            action=action,
            rule=first.cause.message,
            budget=job.budget,
            size=first.size,
            spares=claimed,
            stuck=stuck,
        ),
        evidence=fresh,
        vacate=vacate,
        force=force,
        avoid=avoid,
        cordon=cordon,
        size=min((one.size for one in answers if one.size is not None), default=None) if action in TRIES else None,
        claimed_spares=claimed,
        restart=_to_restart(answers, vacate) if action in TRIES else (),
        recoveries=_lines(job, answers, now),
    )


def _to_restart(answers: Sequence[_Answer], vacated: Sequence[str]) -> tuple[str, ...]:
    """Seats whose container is ended by us; those that ended by themselves the kubelet starts again anyway."""
    asked = [one.cause for one in answers if one.action is Action.RESTART_CONTAINER]
    told = [cause for cause in asked if cause.evidence.event not in _ENDS_BY_ITSELF]
    return tuple(sorted({seat for cause in told for seat in cause.seats} - set(vacated)))


def _lines(job: JobFacts, answers: Sequence[_Answer], now: float, action: Action | None = None) -> tuple[Recovery, ...]:
    """What the status remembers: a line for each cause, the most costly first where there are too many."""
    nodes = {seat.seat: seat.node for seat in job.seats}
    ordered = sorted(answers, key=lambda one: (one.cause.blameless, -LADDER.index(one.action)))
    lines = []
    for answer in ordered[:MAX_PER_DECISION]:
        one = answer.cause.evidence
        seat = one.seat or next(iter(answer.cause.seats), None)
        lines.append(
            Recovery(
                at=now,
                event=one.event,
                action=action or answer.action,
                domain=answer.cause.domain,
                epoch=job.epoch,
                seat=seat,
                node=answer.cause.node or one.node or nodes.get(seat or ""),
                code=one.code,
                error_hash=one.error_hash,
                step=one.step,
                name=one.name,
                blameless=answer.cause.blameless,
            )
        )
    return tuple(lines)


def _by_force(job: JobFacts, vacated: Sequence[str], snapshot: Snapshot) -> tuple[str, ...]:
    """Vacated seats whose pods may be deleted without their kubelet: the node is dead, and no data can suffer.

    Checkpoints are fenced by the attempt. Volumes that one node at a time may attach are not: there it needs the
    user's word (`spec.recovery.forceDelete`).
    """
    if job.stateful_storage and not job.force_delete:
        return ()
    return tuple(seat for seat in vacated if _is_on_dead_node(job, seat, snapshot))


def _is_on_dead_node(job: JobFacts, seat: str, snapshot: Snapshot) -> bool:
    node = next((one.node for one in job.seats if one.seat == seat), None)
    if node is None:
        return False
    return not any(one.name == node and one.ready for one in snapshot.nodes)


def _claimed(
    job: JobFacts, vacated: Sequence[str], avoided: Iterable[str], snapshot: Snapshot, wanted: int
) -> tuple[str, ...]:
    """Spares that take the place of vacated seats: only those that could begin now."""
    ready = {node.name for node in snapshot.nodes if node.ready and not node.unschedulable}
    stay = (seat for seat in job.seats if seat.seat not in vacated)
    return ready_spares(stay, ready - set(avoided))[:wanted]
