"""Replays recorded jobs: they wait until there is room, hold it for as long as they ran, and go.

Who waits is tried again whenever somebody leaves, the longest waiting first; smaller ones pass larger ones that do not
fit (kube-scheduler does the same). A gang starts whole or not at all. With a packer, whoever finds no room although
enough is free in all may get some by moves: who is moved does nothing while it restarts.
"""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Sequence
from itertools import islice

import numpy as np
from msgspec import Struct

from stowage.simulate.gpu_cluster import Choice, GpuCluster, devices_for
from stowage.simulate.jobs import Job
from stowage.simulate.live_packer import MOST_PODS, RESTART_SECONDS, LivePacker
from stowage.simulate.openb import TraceNode
from stowage.simulate.policies import Policy
from stowage_scheduler.gpu.devices import Demand

_MILLI_SECONDS_PER_GPU_HOUR = 3_600_000


class Replay(Struct, frozen=True):
    """What a policy made of recorded jobs until the last of them came.

    `gpu_hours` held, those of restarts left out; of the jobs, how many started and how many could never fit;
    `mean_wait_seconds` of a GPU asked for, those of jobs that still wait included.
    """

    policy: str
    gpu_hours: float
    started: int
    never_fit: int
    mean_wait_seconds: float
    moves: int = 0


def replay(
    nodes: Sequence[TraceNode],
    jobs: Sequence[Job],
    policy: Policy,
    *,
    seed: int = 0,
    packer: LivePacker | None = None,
    name: str = "",
) -> Replay:
    """Runs the jobs, in order of arrival, until the last arrival.

    Args:
        nodes: the cluster.
        jobs: in order of arrival.
        policy: who places each pod first.
        seed: of lots among equals.
        packer: whom to ask where the policy finds no room.
        name: what to call the two; the policy's unless given.
    """
    end = jobs[-1].arrival_seconds if jobs else 0
    line = _Line(GpuCluster(nodes), policy, np.random.default_rng(seed), end, packer)
    for job in jobs:
        line.depart_until(job.arrival_seconds)
        line.arrive(job)
    line.depart_until(end)
    return line.result(name or policy.name)


class _Line:
    """The cluster, who runs, and who waits: by what they ask for, for those who ask alike fare alike."""

    def __init__(
        self,
        cluster: GpuCluster,
        policy: Policy,
        rng: np.random.Generator,
        end: int,
        packer: LivePacker | None = None,
    ) -> None:
        self._packer = packer
        self._cluster = cluster
        self._policy = policy
        self._rng = rng
        self._end = end
        self._waiting: dict[tuple[Demand, int], deque[Job]] = defaultdict(deque)
        self._hopeless: set[tuple[Demand, int]] = set()  # since somebody last left
        self._running: dict[int, tuple[Job, list[Choice]]] = {}  # by number of start
        self._ends: list[tuple[int, int]] = []  # when, and the number; of one that moved the last entry counts
        self._ends_at: dict[int, int] = {}
        self._started = self._milli_seconds = self._waited = self._asked_milli = self._moves = 0

    def arrive(self, job: Job) -> None:
        kind = job.demand, job.pods
        if kind in self._hopeless or not self._start(job, job.arrival_seconds):
            self._waiting[kind].append(job)
            if kind not in self._hopeless:
                self._hopeless.add(kind)
                self._make_room(job.arrival_seconds)

    def depart_until(self, now: int) -> None:
        """Lets all leave that end until then, and those start who fit in their place."""
        while self._ends and self._ends[0][0] <= now:
            when = self._ends[0][0]
            while self._ends and self._ends[0][0] == when:
                _, number = heapq.heappop(self._ends)
                if self._ends_at.get(number) == when:
                    self._leave(number)
            self._hopeless.clear()
            self._start_waiting(when)
            self._make_room(when)

    def _leave(self, number: int) -> None:
        job, choices = self._running.pop(number)
        del self._ends_at[number]
        for choice in choices:
            self._cluster.remove(job.demand, choice)

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
        self._run(job, choices, now)
        return True

    def _run(self, job: Job, choices: list[Choice], now: int) -> None:
        self._started += 1
        self._running[self._started] = job, choices
        self._end_at(self._started, now + job.duration_seconds)
        self._waited += job.gpu_milli * (now - job.arrival_seconds)
        self._asked_milli += job.gpu_milli
        self._milli_seconds += job.gpu_milli * max(0, min(self._end, now + job.duration_seconds) - now)

    def _end_at(self, number: int, when: int) -> None:
        self._ends_at[number] = when
        heapq.heappush(self._ends, (when, number))

    def _make_room(self, now: int) -> None:
        """Ask the packer where enough is free in all for somebody who waits."""
        free = self._cluster.gpu_milli - self._cluster.held_milli
        if self._packer is None or not any(demand.total_milli * pods <= free for demand, pods in self._waiting):
            return
        lines = (line for (demand, pods), line in self._waiting.items() if demand.total_milli * pods <= free)
        fitting = list(islice(heapq.merge(*lines, key=lambda job: job.arrival_seconds), MOST_PODS))
        room = self._packer.room(self._cluster, self._running, fitting, now)
        if room is None:
            return
        self._hopeless.clear()  # moves may have opened more than one place
        self._move(room.moves, now)
        for index, nodes in room.starts:
            job = fitting[index]
            line = self._waiting[job.demand, job.pods]
            line.remove(job)
            if not line:
                del self._waiting[job.demand, job.pods]
            self._run(job, [self._put(job.demand, node) for node in nodes], now)

    def _move(self, moves: Sequence[tuple[int, int]], now: int) -> None:
        """All who move leave before any comes, for swaps; what they do not do while they restart is lost."""
        for number, _ in moves:
            job, [choice] = self._running[number]
            self._cluster.remove(job.demand, choice)
        for number, node in moves:
            job, _ = self._running[number]
            self._running[number] = job, [self._put(job.demand, node)]
            before = self._ends_at[number]
            self._end_at(number, before + RESTART_SECONDS)
            useful = max(0, min(self._end, before + RESTART_SECONDS) - now - RESTART_SECONDS)
            self._milli_seconds -= job.gpu_milli * (min(self._end, before) - now - useful)
        self._moves += len(moves)

    def _put(self, demand: Demand, node: int) -> Choice:
        choice = Choice(node, devices_for(self._cluster.room.free_milli[node], demand, -1))
        self._cluster.place(demand, choice)
        return choice

    def result(self, name: str) -> Replay:
        left = [job for line in self._waiting.values() for job in line]
        empty = GpuCluster(self._cluster.nodes)
        never = 0
        for kind, line in self._waiting.items():
            alone = _Line(empty, self._policy, self._rng, 0)
            never += 0 if alone.fits(*kind) else len(line)
        waited = self._waited + sum(job.gpu_milli * (self._end - job.arrival_seconds) for job in left)
        asked = self._asked_milli + sum(job.gpu_milli for job in left)
        return Replay(
            policy=name,
            gpu_hours=self._milli_seconds / _MILLI_SECONDS_PER_GPU_HOUR,
            started=self._started,
            never_fit=never,
            mean_wait_seconds=waited / max(1, asked),
            moves=self._moves,
        )

    def fits(self, demand: Demand, pods: int) -> bool:
        """Whether a job of this kind runs here now; the cluster is left as it was."""
        if not self._start(Job(0, 1, demand, pods), 0):
            return False
        self._leave(self._started)
        return True
