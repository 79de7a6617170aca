"""What a job's status tells of its time: goodput, and where the time of the last recovery went."""

from __future__ import annotations

from typing import Final

from stowage.api.training_job_status import LastFailure, TrainingJobStatus
from stowage.api.training_words import Domain, JobPhase
from stowage.decide.training.failure_times import is_cut_off, recovery_times, timed
from stowage.decide.training.goodput import Seen, opened, passed
from stowage.decide.training.goodput_record import account_of, goodput_record
from stowage.decide.training.heard import Heard
from stowage.decide.training.repair_times import STAGES, Repair, reached_at, went_on
from stowage_worker.messages import Report

_MENDED: Final = frozenset({JobPhase.STARTING, JobPhase.RUNNING, JobPhase.RECOVERING, JobPhase.RESIZING})


def accounted(
    before: TrainingJobStatus,
    after: TrainingJobStatus,
    report: Report | None,
    now: float,
    heard: tuple[Heard, ...] = (),
    rung_at: float | None = None,
) -> TrainingJobStatus:
    """The status with its time up to `now`.

    Only a status that is written anyway is brought up to date: time that passes is no reason to write. Seconds are
    whole, as the status has them, so that many small passes lose nothing to rounding.

    Args:
        before: as it was read.
        after: as it is about to be written.
        report: the coordinator's latest.
        now: seconds since 1970.
        heard: when the operator first heard of the report's evidence.
        rung_at: when the cluster first told something new since the last pass.
    """
    if after.last_failure is not None and after.last_failure != before.last_failure:
        failure = timed(after.last_failure, heard, rung_at, now)
        after = after.model_copy(update={"last_failure": failure})
    if after.last_failure is not None and after.phase in _MENDED:
        after = after.model_copy(update={"last_failure": _went_on(after.last_failure, after, report, now)})
    if after == before:
        return after
    whole = float(int(now))
    last = seen_of(before)
    account = opened(whole) if before.goodput is None else account_of(before.goodput, last, created_at=whole)
    return after.model_copy(update={"goodput": goodput_record(passed(account, seen_of(after), whole))})


def seen_of(status: TrainingJobStatus) -> Seen:
    """The job as its status has it, as far as its time is concerned."""
    progress, checkpoint = status.progress, status.progress.last_checkpoint
    running = status.phase is JobPhase.RUNNING
    moved = progress.at is not None and status.phase_since is not None and progress.at >= status.phase_since
    return Seen(
        phase=status.phase or JobPhase.PENDING,
        started=running,
        stepping=running and moved,
        step=progress.step,
        program=progress.phase or "",
        domain=status.last_failure.domain if status.last_failure is not None else Domain.UNKNOWN,
        checkpoint_step=checkpoint.step if checkpoint is not None else -1,
        checkpoint_seconds=float(checkpoint.seconds) if checkpoint is not None and checkpoint.seconds else None,
    )


def _went_on(failure: LastFailure, status: TrainingJobStatus, report: Report | None, now: float) -> LastFailure:
    """The last recovery, with the stages that are over."""
    known = [getattr(failure.recovery, stage) for stage in STAGES]
    spent = tuple(one.seconds for one in known if one is not None)
    repair = Repair(failure.at.timestamp(), failure.from_step, spent)
    if repair.over or len(spent) < STAGES.index("schedule") or is_cut_off(failure, status):
        return failure
    ours = report if report is not None and report.epoch == status.epoch else None
    started = ours.started_at if ours is not None else None
    if started is None and status.phase is JobPhase.RUNNING:
        started = now
    step = ours.progress.step if ours is not None and ours.progress.step >= 0 else None
    after = went_on(
        repair,
        now=now,
        placed=bool(status.members),
        started_at=started,
        first_step_at=ours.first_step_at if ours is not None else None,
        step=step,
        caught_up_at=reached_at(ours.progress, failure.from_step, now) if ours is not None else None,
    )
    if after == repair:
        return failure
    return failure.model_copy(update={"recovery": recovery_times(after)})
