"""Where jobs are: the pods that have a job's name, and the jobs whose seats stand on a node.

So that a pass over a job looks at its own pods alone, and a change of a node rings its own jobs alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from stowage.api.names import JOB_LABEL, SEAT_LABEL
from stowage_scheduler.cluster import Pod


class Places:
    """Pods by job, and jobs by node.

    Args:
        pods: of the store, by `namespace/name`; read when it is asked, never kept.
    """

    def __init__(self, pods: Mapping[str, Pod]) -> None:
        self._pods = pods
        self._pods_of: dict[str, set[str]] = {}
        self._job_of: dict[str, str] = {}  # by pod: known still when the pod is gone
        self._nodes_of: dict[str, frozenset[str]] = {}
        self._jobs_on: dict[str, set[str]] = {}

    def pod_changed(self, key: str) -> tuple[str, ...]:
        """A pod came, changed or is gone; the keys of the jobs that it may concern."""
        pod = self._pods.get(key)
        name = pod.labels.get(JOB_LABEL) if pod is not None else None
        now = f"{pod.namespace}/{name}" if pod is not None and name is not None else None
        before = self._job_of.get(key)
        if before is not None and before != now:
            _drop(self._pods_of, before, key)
            del self._job_of[key]
        if now is not None and before != now:
            self._job_of[key] = now
            self._pods_of.setdefault(now, set()).add(key)
        return tuple(sorted({job for job in (before, now) if job is not None}))

    def pods_of(self, job: str) -> tuple[Pod, ...]:
        """The pods with the labels of a job's seats, whoever owns them, by name."""
        found = (self._pods.get(key) for key in sorted(self._pods_of.get(job, ())))
        return tuple(pod for pod in found if pod is not None and SEAT_LABEL in pod.labels)

    def jobs(self) -> tuple[str, ...]:
        """The keys of all jobs that have a pod, whether they are there or not."""
        return tuple(sorted(self._pods_of))

    def stands_on(self, job: str, nodes: Iterable[str]) -> None:
        """The nodes of a job's seats, from its status."""
        now, before = frozenset(nodes), self._nodes_of.get(job, frozenset())
        if now == before:
            return
        for node in before - now:
            _drop(self._jobs_on, node, job)
        for node in now - before:
            self._jobs_on.setdefault(node, set()).add(job)
        if now:
            self._nodes_of[job] = now
        else:
            del self._nodes_of[job]

    def jobs_on(self, node: str) -> tuple[str, ...]:
        """The jobs that have a seat on a node."""
        return tuple(sorted(self._jobs_on.get(node, ())))


def _drop(table: dict[str, set[str]], key: str, one: str) -> None:
    table[key].discard(one)
    if not table[key]:
        del table[key]
