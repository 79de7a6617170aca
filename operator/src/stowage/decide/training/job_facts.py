"""From a TrainingJob as users write it to what recovery is told, and from recoveries to its status and back."""

from __future__ import annotations

from typing import Final

from stowage.api.durations import instant
from stowage.api.training_job import TrainingJob
from stowage.api.training_job_recovery import Match, Recovery, Rule
from stowage.api.training_job_status import EvidenceRecord, RecoveryRecord
from stowage.api.training_words import Event, JobPhase
from stowage.decide.training import escalation, facts

_ENDS: Final = frozenset({Event.PROCESS_EXITED, Event.CONTAINER_EXITED, Event.OUT_OF_MEMORY})
"""Events that come with an exit code or a signal: who writes a code means it, whoever saw it first."""
_MOST_TEXT: Final = 256


def job_facts(
    job: TrainingJob, seats: tuple[facts.SeatFacts, ...], *, stateful_storage: bool = False
) -> facts.JobFacts:
    """What recovery is told of a job.

    Args:
        job: as it is stored; what has been decided of it stands in its status.
        seats: its seats as they are.
        stateful_storage: whether it has volumes that one node at a time may attach.
    """
    spec, status = job.spec, job.status
    checkpoint = status.progress.last_checkpoint
    return facts.JobFacts(
        key=job.key,
        epoch=status.epoch,
        attempt=status.attempt,
        size=sum(not seat.spare for seat in status.seats) or len(status.members) or status.nodes.desired,
        sizes=spec.nodes.sizes,
        rules=tuple(map(rule_facts, spec.recovery.rules)),
        budget=budget_facts(spec.recovery),
        seats=seats,
        spares=spec.recovery.spares,
        step=status.progress.step,
        checkpoint_step=checkpoint.step if checkpoint is not None else None,
        stateful_storage=stateful_storage,
        force_delete=spec.recovery.force_delete,
        phase=status.phase or JobPhase.PENDING,
        epoch_at=status.epoch_at.timestamp() if status.epoch_at is not None else 0.0,
    )


def budget_facts(recovery: Recovery) -> facts.Budget:
    """How often the job may start again, window in seconds."""
    return facts.Budget(recovery.budget.restarts, recovery.budget.window.seconds)


def rule_facts(rule: Rule) -> facts.RuleFacts:
    """One rule of the job."""
    events, names = _events_and_names(rule.when)
    return facts.RuleFacts(
        rule.do,
        events=events,
        codes=frozenset(rule.when.exit_codes or ()),
        signals=frozenset(one.number for one in rule.when.signals or ()),
        names=names,
        error_types=frozenset(rule.when.error_types or ()),
        message=rule.message,
    )


def _events_and_names(match: Match) -> tuple[frozenset[Event], frozenset[str]]:
    if match.event is not None:
        return frozenset({match.event}), frozenset()
    if match.node_conditions is not None:
        return frozenset({Event.NODE_CONDITION}), frozenset(match.node_conditions)
    if match.node_taints is not None:
        return frozenset({Event.NODE_TAINT}), frozenset(match.node_taints)
    if match.promql is not None:
        return frozenset({Event.PROMQL}), frozenset({match.promql.rule})
    if match.log is not None:
        return frozenset({Event.LOG}), frozenset({match.log.name})
    return _ENDS, frozenset()


def hang_seconds(recovery: Recovery) -> float | None:
    """How long a job may be without a step, as the first rule about hangs that has a time says; None: Auto."""
    given = (rule.when.after for rule in recovery.rules if rule.when.after is not None)
    first = next(given, None)
    return first.seconds if first is not None else None


def log_rules(recovery: Recovery) -> tuple[tuple[str, str], ...]:
    """(name, regular expression) of what output is searched for; of one name the first counts."""
    found: dict[str, str] = {}
    for rule in recovery.rules:
        if rule.when.log is not None:
            found.setdefault(rule.when.log.name, rule.when.log.pattern)
    return tuple(found.items())


def promql_rules(recovery: Recovery) -> tuple[str, ...]:
    """Names of the rules of the operator's settings that the job listens to, each once."""
    return tuple(dict.fromkeys(rule.when.promql.rule for rule in recovery.rules if rule.when.promql is not None))


def recovery_record(recovery: facts.Recovery) -> RecoveryRecord:
    """One recovery, as the status keeps it."""
    return RecoveryRecord(
        at=instant(recovery.at),
        event=recovery.event,
        action=recovery.action,
        domain=recovery.domain,
        epoch=recovery.epoch,
        seat=recovery.seat,
        node=recovery.node,
        code=recovery.code,
        error_hash=recovery.error_hash,
        step=recovery.step,
        name=recovery.name[:_MOST_TEXT],
        blameless=recovery.blameless,
    )


def recovery_of(record: RecoveryRecord) -> facts.Recovery:
    """One recovery, as it was decided."""
    return facts.Recovery(
        at=record.at.timestamp(),
        event=record.event,
        action=record.action,
        domain=record.domain,
        epoch=record.epoch,
        seat=record.seat,
        node=record.node,
        code=record.code,
        error_hash=record.error_hash,
        step=record.step,
        name=record.name,
        blameless=record.blameless,
    )


def recoveries_of(job: TrainingJob) -> tuple[facts.Recovery, ...]:
    """The job's recoveries that its status remembers, oldest first."""
    return tuple(map(recovery_of, job.status.recoveries))


def with_recoveries(
    before: tuple[RecoveryRecord, ...], added: tuple[facts.Recovery, ...]
) -> tuple[RecoveryRecord, ...]:
    """What the status remembers once `added` have been decided, oldest first."""
    return tuple(map(recovery_record, escalation.remembered(map(recovery_of, before), added)))


def evidence_record(evidence: facts.Evidence) -> EvidenceRecord:
    """Evidence, as the status shows it; long texts are cut."""
    words = evidence.detail or evidence.error_message
    return EvidenceRecord(
        event=evidence.event,
        at=instant(evidence.at),
        source=evidence.source,
        seat=evidence.seat,
        node=evidence.node,
        rank=evidence.rank if evidence.rank is None or evidence.rank >= 0 else None,
        code=evidence.code,
        signal=evidence.signal,
        error_type=evidence.error_type[:_MOST_TEXT],
        step=evidence.step if evidence.step is None or evidence.step >= 0 else None,
        name=evidence.name[:_MOST_TEXT],
        detail=words,
    )
