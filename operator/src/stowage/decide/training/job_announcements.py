"""What to tell on a TrainingJob: the events of one write of its status, and none where nothing happened."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

from msgspec import Struct

from stowage.api.training_job import TrainingJob
from stowage.api.training_job_status import RecoveryRecord, TrainingJobStatus
from stowage.api.training_reasons import JobCondition, JobReason
from stowage.api.training_words import Action, JobPhase
from stowage.decide.training.repair_times import STAGES
from stowage.decide.training.time_words import span, stage_words, stages
from stowage_scheduler.counted import counted

MOST_NOTE: Final = 1000
_START: Final = STAGES.index("start")


class JobEventReason(StrEnum):
    """Reasons of the Kubernetes Events that Stowage writes on TrainingJobs."""

    CREATED = "Created"
    """The operator has taken the job up."""
    STARTED = "Started"
    """Every rank runs for the first time, or again after the job was suspended, paused or resized."""
    FAILURE_SEEN = "FailureSeen"
    """Something failed; the note says what was seen and what is done about it."""
    RECOVERED = "Recovered"
    """Every rank runs again after a failure; the note says how long each stage took."""
    CAUGHT_UP = "CaughtUp"
    """Training is as far as it was before the last failure."""
    RESIZING = "Resizing"
    """The number of nodes changes."""
    SUSPENDED = "Suspended"
    """`spec.suspend` took its pods away."""
    PAUSED = "Paused"
    """A rule, or too many failures of the cluster, stopped it until somebody looks."""
    CHILD_REFUSED = "ChildRefused"
    """The API server refuses a pod, Service or Secret of the job; the note has its words."""
    FAILED = "Failed"
    """It has ended without success; the note has the program's or the rule's own message."""
    SUCCEEDED = "Succeeded"
    """Every rank of the last epoch ended with code 0."""


_WARNINGS: Final = frozenset(
    {JobEventReason.FAILURE_SEEN, JobEventReason.PAUSED, JobEventReason.CHILD_REFUSED, JobEventReason.FAILED}
)


class JobAnnouncement(Struct, frozen=True):
    """One event on one job; `key` tells it from others of the same reason."""

    reason: JobEventReason
    note: str
    key: str = ""

    @property
    def warning(self) -> bool:
        """Whether its type is Warning."""
        return self.reason in _WARNINGS


def job_announcements(before: TrainingJob, after: TrainingJob) -> tuple[JobAnnouncement, ...]:
    """The events of one write.

    Args:
        before: the job as it was read.
        after: as it was written.
    """
    if before.status == after.status:
        return ()
    return tuple(
        JobAnnouncement(reason, one_line(note), f"{after.status.epoch}/{key}")
        for reason, note, key in _told(before, after)
    )


def one_line(text: str, most: int = MOST_NOTE) -> str:
    """Text of others on one line, without control characters, at most `most` characters."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text[: 4 * most]).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _told(before: TrainingJob, after: TrainingJob) -> Iterator[tuple[JobEventReason, str, str]]:
    old, new = before.status, after.status
    if old.phase is None:
        nodes = counted(new.nodes.desired or after.spec.nodes.sizes[0], "node")
        yield JobEventReason.CREATED, f"to run on {nodes}, {after.spec.processes_per_node} a node", ""
    yield from _failures(old, new)
    refused = _refused(new)
    if refused and refused != _refused(old):
        yield JobEventReason.CHILD_REFUSED, refused, refused
    if old.phase is not new.phase:
        yield from _of_phase(old, new)
    if _caught_up(new) and not _caught_up(old):
        yield JobEventReason.CAUGHT_UP, _catching_up(new), ""


def _of_phase(old: TrainingJobStatus, new: TrainingJobStatus) -> Iterator[tuple[JobEventReason, str, str]]:
    match new.phase:
        case JobPhase.RUNNING if old.phase is JobPhase.RECOVERING:
            yield JobEventReason.RECOVERED, _recovered(new), ""
        case JobPhase.RUNNING:
            yield JobEventReason.STARTED, f"every rank runs on {_where(new)}, {_times(new)}", ""
        case JobPhase.RESIZING if new.reason != JobReason.SUSPENDED:
            yield JobEventReason.RESIZING, new.message, ""
        case JobPhase.SUSPENDED:
            yield JobEventReason.SUSPENDED, "it has no pods; spec.suspend: false lets it go on", ""
        case JobPhase.PAUSED:
            resume = "Set spec.suspend to true and to false again to go on"
            yield JobEventReason.PAUSED, f"{one_line(new.message, 800)} {resume}.", ""
        case JobPhase.FAILED:
            yield JobEventReason.FAILED, f"{new.reason}: {new.message}", ""
        case JobPhase.SUCCEEDED:
            restarts = counted(new.restart_count, "restart")
            ratio = f", goodput {new.goodput.ratio}" if new.goodput is not None else ""
            yield JobEventReason.SUCCEEDED, f"{new.message}; {restarts}{ratio}", ""


def _failures(old: TrainingJobStatus, new: TrainingJobStatus) -> Iterator[tuple[JobEventReason, str, str]]:
    """One event for each decision: its lines are of one instant, and the message speaks of all of them."""
    known = frozenset(map(_line, old.recoveries))
    fresh = [one for one in new.recoveries if _line(one) not in known]
    if not fresh:
        return
    first, failure = fresh[0], new.last_failure
    if failure is not None and failure != old.last_failure:
        words = failure.message
    elif all(one.action is Action.IGNORE for one in fresh):
        words = "; ".join(f"{_what(one)}: training goes on" for one in fresh[:5])
    else:
        words = "; ".join(f"{_what(one)}: {one.action}" for one in fresh[:5])
    yield JobEventReason.FAILURE_SEEN, words, f"{first.at.timestamp():.3f}"


def _line(one: RecoveryRecord) -> tuple[object, ...]:
    return (one.at, one.event, one.seat, one.node, one.epoch, one.name)


def _what(one: RecoveryRecord) -> str:
    where = ", ".join(part for part in (one.seat and f"seat {one.seat}", one.node and f"node {one.node}") if part)
    name = f" {one.name}" if one.name else ""
    return f"{one.event}{name}" + (f" on {where}" if where else "")


def _refused(status: TrainingJobStatus) -> str:
    found = (one for one in status.conditions if one.type == JobCondition.ACCEPTED)
    accepted = next(found, None)
    refused = accepted is not None and accepted.reason == JobReason.CHILD_REFUSED
    return (accepted.message or "no words") if accepted is not None and refused else ""


def _recovered(new: TrainingJobStatus) -> str:
    failure = new.last_failure
    if failure is None:
        return f"every rank runs again, {_times(new)}"
    spent = list(stages(failure.recovery).values())[: _START + 1]
    return (
        f"every rank runs again on {_where(new)}, {span(sum(spent))} after the failure"
        f" ({stage_words(failure.recovery)}); {_times(new)}"
    )


def _caught_up(status: TrainingJobStatus) -> bool:
    return status.last_failure is not None and status.last_failure.recovery.recompute is not None


def _catching_up(new: TrainingJobStatus) -> str:
    failure = new.last_failure
    if failure is None:
        return ""
    spent = stages(failure.recovery)
    step = f"step {failure.from_step}" if failure.from_step is not None else "where it was"
    late = f"restore {span(spent['restore'])}, recompute {span(spent['recompute'])}"
    return f"training is at {step} again, {span(sum(spent.values()))} after the failure ({late})"


def _where(status: TrainingJobStatus) -> str:
    return counted(len(status.members) or status.nodes.desired, "node")


def _times(status: TrainingJobStatus) -> str:
    return f"epoch {status.epoch}, attempt {status.attempt}"
