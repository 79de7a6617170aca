"""The records of nodes over all jobs, made again only when a job has recovered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stowage.api.training_job import TrainingJob
from stowage.api.training_job_status import RecoveryRecord
from stowage.decide.training.facts import NodeRecord, Recovery
from stowage.decide.training.job_facts import recoveries_of
from stowage.decide.training.node_memory import records_of

FRESH_SECONDS: Final = 60.0
"""What was long ago is forgotten with this delay: the memory itself is of a day."""


class NodeRecords:
    """What all jobs that were looked at remember of nodes."""

    def __init__(self) -> None:
        self._remembered: dict[str, tuple[RecoveryRecord, ...]] = {}
        self._recoveries: dict[str, tuple[Recovery, ...]] = {}
        self._made: Mapping[str, NodeRecord] | None = None
        self._made_at = 0.0

    def learn(self, job: TrainingJob) -> None:
        """Take what the status of a job remembers."""
        if self._remembered.get(job.key, ()) == job.status.recoveries:
            return
        self._remembered[job.key] = job.status.recoveries
        self._recoveries[job.key] = recoveries_of(job)
        self._made = None

    def forget(self, job: str) -> None:
        """A job is gone."""
        if self._remembered.pop(job, None) is not None:
            del self._recoveries[job]
            self._made = None

    def at(self, now: float) -> Mapping[str, NodeRecord]:
        """The records, by node; `now` in seconds since 1970."""
        if self._made is None or now - self._made_at >= FRESH_SECONDS:
            self._made, self._made_at = records_of(self._recoveries, now), now
        return self._made
