"""How long a job was not suspended or paused."""

from __future__ import annotations

from stowage.api.training_job_status import TrainingJobStatus


def active_seconds(status: TrainingJobStatus, now: float) -> float:
    """Seconds up to `now`, seconds since 1970; a clock that goes back adds nothing."""
    since = status.active_since
    return status.active_seconds + (max(0.0, now - since.timestamp()) if since is not None else 0.0)
