"""FGD's fill-up protocol: pods arrive until their GPUs add up to a multiple of the cluster's, and none departs.

Weng et al., USENIX ATC'23, artefact `hkust-adsl/kubernetes-scheduler-simulator`: the trace's pods are shuffled by the
seed, then drawn anew with replacement until 130 percent of the cluster's GPUs have been asked for. They are bound one
by one; a pod that fits nowhere is dropped. Ties go to the first node in an order that the seed shuffles too.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from stowage.simulate.gpu_cluster import GpuCluster
from stowage.simulate.openb import Trace, TraceNode
from stowage.simulate.policies import ByScore, Policy
from stowage.simulate.repacking import Moved, Repacker
from stowage.simulate.residents import Residents
from stowage_scheduler.gpu.devices import Demand

REPORTED_SEEDS = tuple(range(42, 52))
"""Seeds of the published figures."""
LOAD = 1.3
STEP_PERCENT = 5


class Arrivals(Struct, frozen=True):
    """Who arrives, in order, and the nodes in the order in which ties go."""

    nodes: tuple[TraceNode, ...]
    pods: tuple[Demand, ...]
    seed: int
    load: float


class Point(Struct, frozen=True):
    """GPUs held when so much has arrived, both in percent of the cluster's GPUs."""

    arrived_percent: int
    allocated_percent: float


class Outcome(Struct, frozen=True):
    """What a policy made of the arrivals.

    `placed` pods have a place at the end, `dropped` have none; `curve` has a point for each step of arrivals.
    `kept` says of each arrival whether it has a place, and `moved` how often room was made for one.
    """

    policy: str
    seed: int
    allocated_percent: float
    placed: int
    dropped: int
    curve: tuple[Point, ...]
    kept: tuple[bool, ...]
    moved: Moved = Moved()


def arrivals(trace: Trace, *, load: float, seed: int) -> Arrivals:
    """The pods of a run; the same for every policy."""
    rng = np.random.default_rng(seed)
    pods = [trace.pods[index] for index in rng.permutation(len(trace.pods))]
    asked, target = 0, load * trace.gpu_milli
    for position, pod in enumerate(pods):
        if asked + pod.total_milli > target:
            del pods[position:]
            break
        asked += pod.total_milli
    else:
        while asked + (pod := trace.pods[rng.integers(len(trace.pods))]).total_milli <= target:
            pods.append(pod)
            asked += pod.total_milli
    nodes = tuple(trace.nodes[index] for index in rng.permutation(len(trace.nodes)))
    return Arrivals(nodes, tuple(pods), seed, load)


def fill_up(run: Arrivals, policy: Policy, *, most_moves_percent: float = 0) -> Outcome:
    """Binds one pod after the other.

    Args:
        run: who arrives.
        policy: chooses the places; it has to score places (`ByScore`) where pods may move.
        most_moves_percent: moves of running pods allowed, in percent of the pods placed so far.
    """
    cluster = GpuCluster(run.nodes)
    residents = Residents(cluster, len(run.pods))
    rng = np.random.default_rng((run.seed, 1))
    repacker = None
    if most_moves_percent and isinstance(policy, ByScore):
        repacker = Repacker(policy, residents, most_percent=most_moves_percent)
    recorder = Recorder(cluster)
    for number, pod in enumerate(run.pods):
        choice = policy.choose(cluster, pod, rng)
        if choice is None and repacker is not None:
            choice = repacker.make_room(pod, rng)
        if choice is not None:
            residents.arrive(number, pod, choice)
        recorder.arrived(pod)
    recorder.finish(round(100 * run.load))
    kept = tuple(choice is not None for choice in residents.choices)
    return Outcome(
        policy=policy.name + (f"+{most_moves_percent:g}%" if repacker else ""),
        seed=run.seed,
        allocated_percent=recorder.allocated_percent,
        placed=residents.count,
        dropped=len(run.pods) - residents.count,
        curve=recorder.curve,
        kept=kept,
        moved=repacker.moved if repacker else Moved(),
    )


class Recorder:
    """Notes how much is allocated at each step of arrivals."""

    def __init__(self, cluster: GpuCluster) -> None:
        """Watch a cluster."""
        self._cluster = cluster
        self._arrived_milli = 0
        self._points: list[Point] = []
        self._next = STEP_PERCENT

    def arrived(self, pod: Demand) -> None:
        """Notes that a pod was placed or dropped."""
        self._arrived_milli += pod.total_milli
        while 100 * self._arrived_milli >= self._next * self._cluster.gpu_milli:
            self._points.append(Point(self._next, self.allocated_percent))
            self._next += STEP_PERCENT

    def finish(self, arrived_percent: int) -> None:
        """Notes the end: the last pods lack less than one pod to the full load."""
        if self._next <= arrived_percent:
            self._points.append(Point(arrived_percent, self.allocated_percent))

    @property
    def allocated_percent(self) -> float:
        """GPUs held, in percent of those there are."""
        return 100 * self._cluster.held_milli / max(1, self._cluster.gpu_milli)

    @property
    def curve(self) -> tuple[Point, ...]:
        """Points so far."""
        return tuple(self._points)
