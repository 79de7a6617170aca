"""The story of a job's last failure, from its status alone: what was seen, what was decided and why, what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from stowage.api.training_job import TrainingJob
from stowage.api.training_job_status import AvoidedNode, EvidenceRecord, LastFailure, RecoveryRecord
from stowage.api.training_words import Action, Domain, Event
from stowage.decide.training.escalation import TRIES, allowed_starts, starts_used
from stowage.decide.training.facts import Evidence
from stowage.decide.training.failure_times import is_cut_off
from stowage.decide.training.job_announcements import one_line
from stowage.decide.training.job_facts import budget_facts, recoveries_of, rule_facts
from stowage.decide.training.recovery_reasons import RecoveryReason
from stowage.decide.training.repair_times import STAGES
from stowage.decide.training.rules import matched
from stowage.decide.training.time_words import stages

MOST_WORDS: Final = 400

_DONE: Final[Mapping[Action, str]] = {
    Action.IGNORE: "nothing was done",
    Action.RESTART_PROCESSES: "all processes were started again, in the same pods",
    Action.RESTART_CONTAINER: "the container was started again",
    Action.REPLACE_NODE: "its seat got a pod on another node",
    Action.SHRINK: "the job went on with fewer nodes",
    Action.PAUSE: "the job was paused until somebody looks",
    Action.FAIL: "the job failed",
}
_BECAUSE: Final[Mapping[RecoveryReason, str]] = {
    RecoveryReason.FAILURE_RECOVERED: "the default rules say so",
    RecoveryReason.RULE_MATCHED: "a rule of the job says so",
    RecoveryReason.ESCALATED: "less was tried at this place before, within the window of the budget",
    RecoveryReason.USER_ERROR: "the same error came at the same step before: starting again would end there again",
    RecoveryReason.BUDGET_EXHAUSTED: "spec.recovery.budget has no start left",
    RecoveryReason.NO_SMALLER_SIZE: "only a smaller job would help, and no smaller number of nodes is allowed",
}


class Sighting(Struct, frozen=True):
    """One piece of evidence: when, by whom, what and where, in whose words."""

    at: float
    source: str
    event: str
    where: str
    how: str
    words: str = ""


class BudgetUse(Struct, frozen=True):
    """Starts within the window that ended with this decision, itself included."""

    used: int
    allowed: int
    window_seconds: float


class Tried(Struct, frozen=True):
    """What was done at the same seat or node before, within the window."""

    at: float
    event: str
    action: str


class FailureStory(Struct, frozen=True):
    """All that the status tells of the last failure; times in seconds since 1970, stages in seconds."""

    at: float
    event: Event
    where: str
    how: str
    domain: Domain
    seen: tuple[Sighting, ...]
    action: Action
    done: str
    reason: str
    because: str
    rule: str
    words: str
    tried: tuple[Tried, ...]
    budget: BudgetUse
    stages: Mapping[str, float]
    open_stage: str | None
    from_step: int | None
    avoided: Mapping[str, str]

    @property
    def total_seconds(self) -> float:
        """Of the stages that are over."""
        return sum(self.stages.values())


def failure_story(job: TrainingJob) -> FailureStory | None:
    """The story; None: nothing has failed that asked for something."""
    failure = job.status.last_failure
    if failure is None:
        return None
    decided = _decided_at(job.status.recoveries, failure)
    spent = stages(failure.recovery)
    ended = failure.action is Action.FAIL or len(spent) == len(STAGES) or is_cut_off(failure, job.status)
    return FailureStory(
        at=failure.at.timestamp(),
        event=failure.event,
        where=_where(failure.rank, failure.seat, failure.node),
        how=_how(failure.code, failure.signal, failure.from_step),
        domain=failure.domain,
        seen=tuple(map(_sighting, failure.evidence)),
        action=failure.action,
        done=_DONE[failure.action],
        reason=failure.reason or "",
        because=_because(failure),
        rule=_rule(job, failure),
        words=one_line(failure.message, MOST_WORDS),
        tried=_tried(job, failure, decided),
        budget=_budget(job, decided),
        stages=spent,
        open_stage=None if ended else STAGES[len(spent)],
        from_step=failure.from_step,
        avoided={one.node: _kept_from(one) for one in job.status.avoided_nodes if one.at.timestamp() >= decided},
    )


def _kept_from(one: AvoidedNode) -> str:
    cordon = ["nobody shall use it: taint stowage.dev/unhealthy"] if one.cordon else []
    return one_line("; ".join([*([one.reason] if one.reason else []), *cordon]), MOST_WORDS)


def _decided_at(recoveries: Sequence[RecoveryRecord], failure: LastFailure) -> float:
    """When the decision about this failure was made, as its line in the status says."""
    told = (failure.event, failure.seat, failure.action)
    alike = (one.at for one in reversed(recoveries) if (one.event, one.seat, one.action) == told)
    return next(alike, failure.at).timestamp()


def _because(failure: LastFailure) -> str:
    try:
        reason = RecoveryReason(failure.reason or "")
    except ValueError:  # of another version
        return ""
    return _BECAUSE.get(reason, "")


def _rule(job: TrainingJob, failure: LastFailure) -> str:
    """Which rule speaks for what was seen first; what it asks for may have escalated since."""
    record = next((one for one in failure.evidence if one.event is failure.event and one.seat == failure.seat), None)
    if record is None:
        return ""
    match = matched(_evidence(record), tuple(map(rule_facts, job.spec.recovery.rules)))
    if match.number is None:
        return f"no rule of the job speaks of it; by default: {match.rule.action}"
    says = f", {match.rule.message!r}" if match.rule.message else ""
    return f"spec.recovery.rules[{match.number}] says {match.rule.action}{says}"


def _evidence(record: EvidenceRecord) -> Evidence:
    return Evidence(
        event=record.event,
        at=record.at.timestamp(),
        source=record.source,
        code=record.code,
        signal=record.signal,
        error_type=record.error_type,
        name=record.name,
    )


def _tried(job: TrainingJob, failure: LastFailure, decided: float) -> tuple[Tried, ...]:
    since = decided - job.spec.recovery.budget.window.seconds
    found = []
    for one in job.status.recoveries:
        here = (one.seat is not None and one.seat == failure.seat) or (
            one.node is not None and one.node == failure.node
        )
        if here and not one.blameless and one.action in TRIES and since < one.at.timestamp() < decided:
            found.append(Tried(one.at.timestamp(), one.event.value, one.action.value))
    return tuple(found)


def _budget(job: TrainingJob, decided: float) -> BudgetUse:
    budget = budget_facts(job.spec.recovery)
    before = (one for one in recoveries_of(job) if one.at < decided or one.action in TRIES)
    used = starts_used(before, budget, decided)
    return BudgetUse(used, allowed_starts(budget), budget.window_seconds)


def _sighting(record: EvidenceRecord) -> Sighting:
    return Sighting(
        at=record.at.timestamp(),
        source=record.source,
        event=f"{record.event} {record.name}".rstrip(),
        where=_where(record.rank, record.seat, record.node),
        how=_how(record.code, record.signal, record.step),
        words=one_line(": ".join(part for part in (record.error_type, record.detail) if part), MOST_WORDS),
    )


def _where(rank: int | None, seat: str | None, node: str | None) -> str:
    parts = [f"rank {rank}" if rank is not None else "", f"seat {seat}" if seat else "", f"node {node}" if node else ""]
    return ", ".join(part for part in parts if part)


def _how(code: int | None, signal: int | None, step: int | None) -> str:
    told = (("code", code), ("signal", signal), ("step", step))
    return ", ".join(f"{name} {value}" for name, value in told if value is not None)
