"""Phases of a TrainingJob: which may follow which, whatever happens to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stowage.api.training_words import JobPhase

_P = JobPhase

FOLLOWERS: Final[Mapping[JobPhase, frozenset[JobPhase]]] = {
    _P.PENDING: frozenset({_P.STARTING, _P.RUNNING, _P.RECOVERING, _P.RESIZING, _P.SUSPENDED, _P.PAUSED, _P.FAILED}),
    _P.STARTING: frozenset(
        {_P.PENDING, _P.RUNNING, _P.RECOVERING, _P.RESIZING, _P.SUSPENDED, _P.PAUSED, _P.SUCCEEDED, _P.FAILED}
    ),
    _P.RUNNING: frozenset({_P.RECOVERING, _P.RESIZING, _P.SUSPENDED, _P.PAUSED, _P.SUCCEEDED, _P.FAILED}),
    _P.RECOVERING: frozenset({_P.STARTING, _P.RUNNING, _P.RESIZING, _P.SUSPENDED, _P.PAUSED, _P.SUCCEEDED, _P.FAILED}),
    _P.RESIZING: frozenset(
        {_P.PENDING, _P.STARTING, _P.RUNNING, _P.RECOVERING, _P.SUSPENDED, _P.PAUSED, _P.SUCCEEDED, _P.FAILED}
    ),
    _P.SUSPENDED: frozenset({_P.PENDING, _P.PAUSED, _P.FAILED}),
    _P.PAUSED: frozenset({_P.PENDING, _P.SUSPENDED, _P.FAILED}),
    _P.SUCCEEDED: frozenset(),
    _P.FAILED: frozenset(),
}
"""What may follow each phase. A phase may be passed over where the operator was away while the coordinator went on.
Ranks yield for a suspension in `Resizing`; who resumes before they have is `Pending` again."""


def refusal(old: JobPhase, new: JobPhase) -> str | None:
    """Why `new` may not follow `old`, as a sentence; None: it may, or nothing changes."""
    if new is old or new in FOLLOWERS[old]:
        return None
    if old.ended:
        return f"a job that has ended as {old} stays so; make a new one"
    if old in {JobPhase.SUSPENDED, JobPhase.PAUSED}:
        return f"a job that is {old} has no pods: it has to be Pending before it is {new}"
    if new is JobPhase.SUCCEEDED:
        return f"nothing has been started in phase {old}, so nothing can have succeeded"
    if new is JobPhase.PENDING:
        return (
            f"from {old} a job is Recovering or Resizing while pods wait for nodes; Pending is before its first start"
        )
    if new is JobPhase.STARTING:
        return "ranks that run start again only in Recovering or Resizing"
    return f"{new} changes what runs, and in phase {old} nothing does"
