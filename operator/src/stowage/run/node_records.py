"""The records of nodes over all jobs, made again only for nodes of jobs that have recovered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from stowage.api.training_job import TrainingJob
from stowage.api.training_job_status import RecoveryRecord
from stowage.decide.training.facts import NodeRecord, Recovery
from stowage.decide.training.job_facts import recoveries_of
from stowage.decide.training.node_memory import records_of

FRESH_SECONDS: Final = 60.0
"""What was long ago is forgotten with this delay: the memory itself is of a day."""


class NodeRecords:
    """What all jobs that were looked at remember of nodes.

    A failure touches a few nodes of many: only their records are made again, for failures of many jobs come together.
    """

    def __init__(self) -> None:
        self._remembered: dict[str, tuple[RecoveryRecord, ...]] = {}
        self._of_node: dict[str, dict[str, list[Recovery]]] = {}  # by node and job
        self._nodes_of: dict[str, frozenset[str]] = {}  # by job
        self._changed: set[str] = set()
        self._made: Mapping[str, NodeRecord] = {}
        self._made_at: float | None = None

    def learn(self, job: TrainingJob) -> None:
        """Take what the status of a job remembers."""
        if self._remembered.get(job.key, ()) == job.status.recoveries:
            return
        self._remembered[job.key] = job.status.recoveries
        self._take(job.key, recoveries_of(job))

    def forget(self, job: str) -> None:
        """A job is gone."""
        if self._remembered.pop(job, None) is not None:
            self._take(job, ())

    def at(self, now: float) -> Mapping[str, NodeRecord]:
        """The records, by node; `now` in seconds since 1970. What was given out before stays as it was."""
        if self._made_at is None or now - self._made_at >= FRESH_SECONDS:
            self._made, self._made_at = self._records(self._of_node, now), now
        elif self._changed:
            others = {node: record for node, record in self._made.items() if node not in self._changed}
            self._made = others | self._records(self._changed, now)
        self._changed.clear()
        return self._made

    def _take(self, job: str, recoveries: tuple[Recovery, ...]) -> None:
        before = self._nodes_of.pop(job, frozenset())
        for node in before:
            jobs = self._of_node[node]
            del jobs[job]
            if not jobs:
                del self._of_node[node]
        for one in recoveries:
            if one.node is not None:
                self._of_node.setdefault(one.node, {}).setdefault(job, []).append(one)
        after = frozenset(one.node for one in recoveries if one.node is not None)
        if after:
            self._nodes_of[job] = after
        self._changed |= before | after

    def _records(self, nodes: Iterable[str], now: float) -> dict[str, NodeRecord]:
        histories: dict[str, list[Recovery]] = {}
        for node in nodes:
            for job, recoveries in self._of_node.get(node, {}).items():
                histories.setdefault(job, []).extend(recoveries)
        return dict(records_of(histories, now))
