"""Where jobs are: the pods that have a job's name, and the jobs whose seats stand on a node.

So that a pass over a job looks at its own pods alone, and a change of a node rings its own jobs alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from stowage.api.names import JOB_LABEL, SEAT_LABEL
from stowage.run.labelled_pods import LabelledPods, drop
from stowage_scheduler.cluster import Pod


class Places:
    """Pods by job, and jobs by node.

    Args:
        pods: of the store, by `namespace/name`; read when it is asked, never kept.
    """

    def __init__(self, pods: Mapping[str, Pod]) -> None:
        self._pods = LabelledPods(pods, JOB_LABEL)
        self._nodes_of: dict[str, frozenset[str]] = {}
        self._jobs_on: dict[str, set[str]] = {}

    def pod_changed(self, key: str) -> tuple[str, ...]:
        """A pod came, changed or is gone; the keys of the jobs that it may concern."""
        return self._pods.changed(key)

    def pods_of(self, job: str) -> tuple[Pod, ...]:
        """The pods with the labels of a job's seats, whoever owns them, by name."""
        return tuple(pod for pod in self._pods.of(job) if SEAT_LABEL in pod.labels)

    def jobs(self) -> tuple[str, ...]:
        """The keys of all jobs that have a pod, whether they are there or not."""
        return self._pods.names()

    def stands_on(self, job: str, nodes: Iterable[str]) -> None:
        """The nodes of a job's seats, from its status."""
        now, before = frozenset(nodes), self._nodes_of.get(job, frozenset())
        if now == before:
            return
        for node in before - now:
            drop(self._jobs_on, node, job)
        for node in now - before:
            self._jobs_on.setdefault(node, set()).add(job)
        if now:
            self._nodes_of[job] = now
        else:
            del self._nodes_of[job]

    def jobs_on(self, node: str) -> tuple[str, ...]:
        """The jobs that have a seat on a node."""
        return tuple(sorted(self._jobs_on.get(node, ())))
