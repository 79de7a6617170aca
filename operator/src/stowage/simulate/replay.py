"""Replays recorded jobs: they wait until there is room, hold it for as long as they ran, and go.

Who waits is tried again whenever somebody leaves, the longest waiting first; smaller ones pass larger ones that do not
fit (kube-scheduler does the same). A gang starts whole or not at all.
"""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from stowage.simulate.gpu_cluster import Choice, GpuCluster
from stowage.simulate.jobs import Job
from stowage.simulate.openb import TraceNode
from stowage.simulate.policies import Policy
from stowage_scheduler.gpu.devices import Demand

_MILLI_SECONDS_PER_GPU_HOUR = 3_600_000


class Replay(Struct, frozen=True):
    """What a policy made of recorded jobs until the last of them came.

    `gpu_hours` held; of the jobs, how many started and how many could never fit; `mean_wait_seconds` of a GPU asked
    for, those of jobs that still wait included.
    """

    policy: str
    gpu_hours: float
    started: int
    never_fit: int
    mean_wait_seconds: float


def replay(nodes: Sequence[TraceNode], jobs: Sequence[Job], policy: Policy, *, seed: int = 0) -> Replay:
    """Runs the jobs, in order of arrival, until the last arrival."""
    end = jobs[-1].arrival_seconds if jobs else 0
    line = _Line(GpuCluster(nodes), policy, np.random.default_rng(seed), end)
    for job in jobs:
        line.depart_until(job.arrival_seconds)
        line.arrive(job)
    line.depart_until(end)
    return line.result()


class _Line:
    """The cluster, who runs, and who waits: by what they ask for, for those who ask alike fare alike."""

    def __init__(self, cluster: GpuCluster, policy: Policy, rng: np.random.Generator, end: int) -> None:
        self._cluster = cluster
        self._policy = policy
        self._rng = rng
        self._end = end
        self._waiting: dict[tuple[Demand, int], deque[Job]] = defaultdict(deque)
        self._hopeless: set[tuple[Demand, int]] = set()  # since somebody last left
        self._running: list[tuple[int, int, Job, list[Choice]]] = []
        self._started = self._milli_seconds = self._waited = self._asked_milli = 0

    def arrive(self, job: Job) -> None:
        kind = job.demand, job.pods
        if kind in self._hopeless or not self._start(job, job.arrival_seconds):
            self._hopeless.add(kind)
            self._waiting[kind].append(job)

    def depart_until(self, now: int) -> None:
        """Lets all leave that end until then, and those start who fit in their place."""
        while self._running and self._running[0][0] <= now:
            when = self._running[0][0]
            while self._running and self._running[0][0] == when:
                _, _, job, choices = heapq.heappop(self._running)
                for choice in choices:
                    self._cluster.remove(job.demand, choice)
            self._hopeless.clear()
            self._start_waiting(when)

    def _start_waiting(self, now: int) -> None:
        heads = [(line[0].arrival_seconds, number, kind) for number, (kind, line) in enumerate(self._waiting.items())]
        heapq.heapify(heads)
        while heads:
            _, number, kind = heapq.heappop(heads)
            line = self._waiting[kind]
            if not self._start(line[0], now):
                self._hopeless.add(kind)
                continue
            line.popleft()
            if line:
                heapq.heappush(heads, (line[0].arrival_seconds, number, kind))
            else:
                del self._waiting[kind]

    def _start(self, job: Job, now: int) -> bool:
        choices: list[Choice] = []
        for _ in range(job.pods):
            choice = self._policy.choose(self._cluster, job.demand, self._rng)
            if choice is None:
                for taken in choices:
                    self._cluster.remove(job.demand, taken)
                return False
            self._cluster.place(job.demand, choice)
            choices.append(choice)
        self._started += 1
        heapq.heappush(self._running, (now + job.duration_seconds, self._started, job, choices))
        self._waited += job.gpu_milli * (now - job.arrival_seconds)
        self._asked_milli += job.gpu_milli
        self._milli_seconds += job.gpu_milli * max(0, min(self._end, now + job.duration_seconds) - now)
        return True

    def result(self) -> Replay:
        left = [job for line in self._waiting.values() for job in line]
        empty = GpuCluster(self._cluster.nodes)
        never = 0
        for kind, line in self._waiting.items():
            alone = _Line(empty, self._policy, self._rng, 0)
            never += 0 if alone.fits(*kind) else len(line)
        waited = self._waited + sum(job.gpu_milli * (self._end - job.arrival_seconds) for job in left)
        asked = self._asked_milli + sum(job.gpu_milli for job in left)
        return Replay(
            policy=self._policy.name,
            gpu_hours=self._milli_seconds / _MILLI_SECONDS_PER_GPU_HOUR,
            started=self._started,
            never_fit=never,
            mean_wait_seconds=waited / max(1, asked),
        )

    def fits(self, demand: Demand, pods: int) -> bool:
        """Whether a job of this kind runs here now; the cluster is left as it was."""
        if not self._start(Job(0, 1, demand, pods), 0):
            return False
        for choice in self._running.pop()[3]:
            self._cluster.remove(demand, choice)
        return True
