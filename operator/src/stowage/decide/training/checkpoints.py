"""The interval between checkpoints that a job's programs are told, and which checkpoint is the newest."""

from __future__ import annotations

import math
from typing import Final

from stowage.api.durations import Duration, instant
from stowage.api.training_job import TrainingJob
from stowage.api.training_job_status import LastCheckpoint, TrainingJobStatus
from stowage.decide.training.active_time import active_seconds
from stowage.decide.training.escalation import TRIES
from stowage_worker import messages
from stowage_worker.intervals import checkpoint_interval

_MOST_URI: Final = 1024
_MOST_NUMBER: Final = 1e12


def interval_of(job: TrainingJob, status: TrainingJobStatus, now: float) -> Duration:
    """How long programs shall train between two checkpoints: what the spec says, else what fits costs and failures.

    Failures are starts that somebody caused: before evictions and other planned changes a checkpoint is made. The cost
    is that of the last checkpoint, as the program told it or as it was measured.

    Args:
        job: with its spec.
        status: as it is now; the interval in it is kept unless the new one differs by a fifth.
        now: seconds since 1970.
    """
    asked = job.spec.checkpoint.interval.seconds
    if asked is not None:
        return Duration(f"{asked:g}s")
    last = status.progress.last_checkpoint
    before = status.checkpoint_interval
    interval = checkpoint_interval(
        nodes=status.nodes.desired,
        failures=interruptions(status),
        trained_seconds=active_seconds(status, now),
        cost_seconds=float(last.seconds) if last is not None and last.seconds is not None else None,
        before_seconds=before.seconds if before is not None else None,
    )
    return Duration(f"{interval.seconds:g}s")


def interruptions(status: TrainingJobStatus) -> int:
    """Starts that a failure asked for; those for evictions and maintenance, as far as they are remembered, are none.

    A start may have had many causes, and spares that come and go ask for none.
    """
    starts = [one for one in status.recoveries if one.action in TRIES]
    failed = {one.epoch for one in starts if not one.blameless}
    return max(0, status.restart_count - len({one.epoch for one in starts} - failed))


def newest_checkpoint(old: LastCheckpoint | None, told: messages.Progress, now: float) -> LastCheckpoint | None:
    """The newest committed checkpoint, from what was known and what a coordinator tells.

    The coordinator's word counts also where it is an earlier step: another attempt may have gone on from there. One
    that says nothing was started again.
    """
    if told.checkpoint_step < 0:
        return old
    seconds = _decimal(told.checkpoint_seconds)
    if old is not None and told.checkpoint_step == old.step:
        return old.model_copy(update={"seconds": seconds}) if old.seconds is None and seconds is not None else old
    return LastCheckpoint(
        step=told.checkpoint_step,
        at=instant(min(now, told.checkpoint_at) if told.checkpoint_at is not None else now),
        uri=told.checkpoint_uri[:_MOST_URI] or None,
        seconds=seconds,
    )


def _decimal(value: float | None) -> str | None:
    return f"{value:.3f}" if value is not None and math.isfinite(value) and 0 <= value < _MOST_NUMBER else None
