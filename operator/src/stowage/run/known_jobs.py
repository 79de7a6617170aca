"""TrainingJobs as they were read or written last: what nobody has changed since need not be read again.

A pass mostly follows one that wrote the status a moment ago, and the API server's answer to that was the whole job.
Whatever somebody else writes, the watch tells; should it be late, the next status is refused, for it is based on
exactly the version that is known here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from stowage.api.training_job import TrainingJob

KEPT_SECONDS: Final = 60.0
"""A job that was neither read nor written for so long is read again, whatever the watch has told."""


class KnownJobs:
    """Jobs by key.

    Args:
        clock: seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._jobs: dict[str, tuple[TrainingJob, float]] = {}
        self._changes: dict[str, int] = {}  # of jobs that somebody asks for

    def get(self, key: str) -> TrainingJob | None:
        """The job, if it is known as it is now, as far as anybody has told."""
        job, at = self._jobs.get(key, (None, 0.0))
        return job if 0.0 <= self._clock() - at < KEPT_SECONDS else None

    def changes(self, key: str) -> int:
        """How often somebody else has changed a job so far; to be asked before it is read."""
        return self._changes.setdefault(key, 0)

    def keep(self, job: TrainingJob, changes: int) -> None:
        """Know a job that was read or written just now, unless somebody changed it meanwhile.

        Args:
            job: as the API server has it.
            changes: what `changes` said before it was read.
        """
        if self._changes.get(job.key) == changes:
            self._jobs[job.key] = (job, self._clock())

    def changed(self, key: str) -> None:
        """Somebody else changed a job, or may have."""
        if key in self._changes:
            self._changes[key] += 1
        self._jobs.pop(key, None)

    def forget(self, key: str) -> None:
        """A job is gone."""
        self._jobs.pop(key, None)
        self._changes.pop(key, None)

    def clear(self) -> None:
        """Know nothing: others write now."""
        self._jobs.clear()
        self._changes.clear()
