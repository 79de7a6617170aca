"""How far training is, as the status keeps it, and what of a status may be told late."""

from __future__ import annotations

import math

from stowage.api.durations import instant
from stowage.api.training_job_status import Progress, TrainingJobStatus
from stowage.decide.training.checkpoints import newest_checkpoint
from stowage.decide.training.time_accounts import seen_of
from stowage_worker import messages

_SHOWN = ("progress", "goodput", "stragglers", "seat_summary")
"""Fields of the status that move all the time, and that nothing waits for."""


def progress_of(old: Progress, told: messages.Progress, now: float) -> Progress:
    """The progress that a coordinator told of, over what was known; what it does not tell stays as it was."""
    step = told.step if told.step >= 0 else old.step
    moved = step != old.step
    return Progress(
        step=step,
        tokens=told.tokens or old.tokens,
        step_seconds=_decimal(told.step_seconds) or old.step_seconds,
        tokens_per_second=old.tokens_per_second,
        loss=f"{told.loss:.6g}" if told.loss is not None else old.loss,
        phase=told.phase[:256] or old.phase,
        at=instant(now) if moved else old.at,
        last_checkpoint=newest_checkpoint(old.last_checkpoint, told, now),
    )


def with_checkpoint(old: Progress, told: messages.Progress, now: float) -> Progress:
    """Progress with nothing but the checkpoint that a coordinator told of, which is still in an earlier epoch."""
    return old.model_copy(update={"last_checkpoint": newest_checkpoint(old.last_checkpoint, told, now)})


def _decimal(value: float | None) -> str | None:
    """Text of a number that is finite, to the millisecond."""
    return f"{value:.3f}" if value is not None and math.isfinite(value) and abs(value) < 1e12 else None


def only_shows(old: TrainingJobStatus, new: TrainingJobStatus) -> bool:
    """Whether a status differs only in numbers that move all the time: a write for each of them would be one a second.

    The first step of an epoch and a new checkpoint are more than that: time is counted, and decided, by them.
    """
    if seen_of(old).stepping != seen_of(new).stepping or old.progress.last_checkpoint != new.progress.last_checkpoint:
        return False
    return new.model_copy(update={name: getattr(old, name) for name in _SHOWN}) == old
