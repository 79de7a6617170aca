"""Phases of a TrainingJob: which may follow which, and which one the facts ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

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


class Situation(Struct, frozen=True):
    """What decides about the phase, each fact by itself.

    `held`: a decision of recovery paused the job, and nobody has released it yet. `changing_size`: the current epoch
    was begun for another size. `mending`: it was begun after a failure, and not every rank runs again. `placed`: every
    pod of the epoch has a node. `running`: every rank of it was started. `suspended`: by the spec, whether pods are
    left or not.
    """

    failed: bool = False
    succeeded: bool = False
    suspended: bool = False
    held: bool = False
    mending: bool = False
    changing_size: bool = False
    placed: bool = False
    running: bool = False


def wanted_phase(situation: Situation) -> JobPhase:
    """The phase that the facts ask for, the gravest first; who has failed has not succeeded any more."""
    ordered = (
        (situation.failed, JobPhase.FAILED),
        (situation.succeeded, JobPhase.SUCCEEDED),
        (situation.suspended, JobPhase.SUSPENDED),
        (situation.held, JobPhase.PAUSED),
        (situation.running, JobPhase.RUNNING),
        (situation.mending, JobPhase.RECOVERING),
        (situation.changing_size, JobPhase.RESIZING),
        (situation.placed, JobPhase.STARTING),
    )
    return next((phase for holds, phase in ordered if holds), JobPhase.PENDING)


def next_phase(old: JobPhase | None, situation: Situation) -> JobPhase:
    """The phase after `old` (None: a new job), one step nearer to what the facts ask for; never one that is refused.

    Who leaves `Suspended` or `Paused` passes `Pending`. What ran keeps its phase until a decision says that it is
    mended or resized: a coordinator that does not answer is no reason to call a job `Pending`.
    """
    begin = JobPhase.PENDING if old is None else old
    wanted = wanted_phase(situation)
    if refusal(begin, wanted) is None:
        return wanted
    return JobPhase.PENDING if begin in {JobPhase.SUSPENDED, JobPhase.PAUSED} else begin
