"""On-line placement policies: one pod at a time, never a second thought.

Each scores the places where the pod fits; the highest score wins, then the first node. Scores of published policies
are whole numbers from 0 to 100, as those of kube-scheduler are: how they round decides many ties, so it is part of
the policy. Sources: the artefact of Weng et al., USENIX ATC'23, for all of the published ones; DotProd is Tetris'
(Grandl et al., SIGCOMM'14), GpuPacking that of MLaaS (Weng et al., NSDI'22).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from stowage.simulate.gpu_cluster import Choice, GpuCluster, devices_for
from stowage.simulate.openb import Trace
from stowage_scheduler.gpu.devices import DEVICE_MILLI, Demand
from stowage_scheduler.gpu.fragmentation import INFEASIBLE, Ints, Meter, Room, choices, stranded_milli
from stowage_scheduler.gpu.workload import typical

Floats = NDArray[np.float64]
MAX_CPU_MILLI = 128_000
MAX_GPU_MILLI = 8_000
"""What the largest node has; scores are shares of it."""
NO_PLACE = -np.inf
OURS = "LookAhead"
_TIGHTNESS = 0.01


class Scores(Struct, frozen=True):
    """For some nodes, the score of the best place there (`NO_PLACE`: none) and the device of a share."""

    value: Floats
    device: Ints


class Policy(Protocol):
    """Chooses a place for a pod."""

    name: str

    def choose(self, cluster: GpuCluster, pod: Demand, rng: np.random.Generator) -> Choice | None:
        """A node and devices with room, or None where the pod fits nowhere."""


Score = Callable[[Room, Demand], Scores]


class ByScore:
    """The place with the highest score; scores of unchanged nodes are remembered per kind of pod."""

    def __init__(self, name: str, score: Score) -> None:
        """`score` looks at each node on its own."""
        self.name = name
        self._score = score
        self._seen: dict[Demand, tuple[Floats, Ints, int]] = {}
        self._cluster: GpuCluster | None = None

    def choose(self, cluster: GpuCluster, pod: Demand, rng: np.random.Generator) -> Choice | None:  # noqa: ARG002
        """The best place; equal ones: the first node."""
        value, device = self.scores(cluster, pod)
        node = int(value.argmax())
        if value[node] == NO_PLACE:
            return None
        return Choice(node, devices_for(cluster.room.free_milli[node], pod, int(device[node])))

    def scores(self, cluster: GpuCluster, pod: Demand) -> tuple[Floats, Ints]:
        """Scores and devices for all nodes, up to date."""
        if cluster is not self._cluster:
            self._cluster, self._seen = cluster, {}
        known = self._seen.get(pod)
        if known is None:
            nodes = np.arange(len(cluster.nodes))
            value, device = np.empty(len(nodes)), np.empty(len(nodes), np.int64)
        else:
            value, device, upto = known
            nodes = np.unique(np.array(cluster.changes[upto:], np.int64))
        if len(nodes):
            scored = self._score(cluster.room.take(nodes), pod)
            value[nodes] = np.where(cluster.allows(pod)[nodes], scored.value, NO_PLACE)
            device[nodes] = scored.device
        self._seen[pod] = value, device, len(cluster.changes)
        return value, device


class Random:
    """Any place with room, each node alike, then each device alike."""

    name = "Random"

    def __init__(self) -> None:
        """Feasibility is all that is scored."""
        self._any = ByScore("any", feasible)

    def choose(self, cluster: GpuCluster, pod: Demand, rng: np.random.Generator) -> Choice | None:
        """A node drawn from those with room."""
        value, _ = self._any.scores(cluster, pod)
        nodes = np.flatnonzero(value != NO_PLACE)
        if not len(nodes):
            return None
        node = int(rng.choice(nodes))
        free = cluster.room.free_milli[node]
        device = int(rng.choice(np.flatnonzero(free >= pod.gpu_milli))) if pod.shared else -1
        return Choice(node, devices_for(free, pod, device))


def feasible(room: Room, pod: Demand) -> Scores:
    """Zero where the pod fits; the device is the fullest with room (best fit)."""
    rows, devices = choices(room, pod)
    value = np.full(len(room.cpu_milli), NO_PLACE)
    device = np.full(len(room.cpu_milli), -1, np.int64)
    value[rows] = 0
    if pod.shared:
        roomy = np.where(room.free_milli >= pod.gpu_milli, room.free_milli, DEVICE_MILLI + 1)
        device[rows] = roomy.argmin(axis=1)[rows]
    else:
        device[rows] = devices
    return Scores(value, device)


def best_fit(room: Room, pod: Demand) -> Scores:
    """Least CPU and GPU left over, as shares of the largest node's, weighted alike."""
    where = feasible(room, pod)
    cpu = (room.cpu_milli - pod.cpu_milli) / MAX_CPU_MILLI
    gpu = (room.free_milli.sum(axis=1) - pod.total_milli) / MAX_GPU_MILLI
    return Scores(where.value + np.trunc((1 - 0.5 * cpu - 0.5 * gpu) * 100), where.device)


def dot_product(room: Room, pod: Demand) -> Scores:
    """Least product of what is free and what is asked for: away from where much is free of what it wants."""
    where = feasible(room, pod)
    cpu = room.cpu_milli / MAX_CPU_MILLI * (pod.cpu_milli / MAX_CPU_MILLI)
    gpu = room.free_milli.sum(axis=1) / MAX_GPU_MILLI * (pod.total_milli / MAX_GPU_MILLI)
    return Scores(where.value + np.trunc((1 - (cpu + gpu) / 2) * 100), where.device)


def gpu_packing(room: Room, pod: Demand) -> Scores:
    """Shared devices first, then empty devices of nodes in use, then nodes with all devices empty."""
    where = feasible(room, pod)
    if not pod.gpu_count:
        return where
    ordered = np.sort(np.where(room.free_milli >= pod.gpu_milli, room.free_milli, DEVICE_MILLI + 1), axis=1)
    used = ordered[:, : pod.gpu_count]
    empty = (used == DEVICE_MILLI).sum(axis=1)
    number = (room.free_milli == DEVICE_MILLI).sum(axis=1)
    all_empty = number == room.devices
    on_shared = np.maximum(100 - (used * 100 // DEVICE_MILLI).sum(axis=1) // 10, 50)
    value = np.where(all_empty, np.maximum(33 - number, number), np.where(empty, np.maximum(50 - empty, 33), on_shared))
    return Scores(where.value + value, where.device)


def look_ahead(meter: Meter, cpu_per_gpu_milli: float) -> Score:
    """Ours: least growth of FGD's measure plus of the GPUs that CPU will not reach; then the tightest node.

    FGD's measure is blind until a node is nearly full: it may give a node's CPU to pods without GPUs and notice when
    the last GPUs have no CPU left. The second term compares what is left of both with what the workload takes of both.
    """

    def score(room: Room, pod: Demand) -> Scores:
        added, device = meter.gradient(room, pod)
        there = added != INFEASIBLE
        fragments = np.where(there, added, 0) / (meter.total * DEVICE_MILLI)
        gpu = room.free_milli.sum(axis=1)
        before = stranded_milli(room.cpu_milli, gpu, cpu_per_gpu_milli)
        later = stranded_milli(room.cpu_milli - pod.cpu_milli, gpu - pod.total_milli, cpu_per_gpu_milli)
        stranded = (later - before) / DEVICE_MILLI
        loose = room.cpu_milli / MAX_CPU_MILLI + gpu / MAX_GPU_MILLI
        return Scores(np.where(there, -fragments - stranded - _TIGHTNESS * loose, NO_PLACE), device)

    return score


def gradient_descent(meter: Meter) -> Score:
    """FGD: the place where fragmentation grows least, on the artefact's scale `int(100 * sigmoid(-growth in GPUs))`."""

    def score(room: Room, pod: Demand) -> Scores:
        added, device = meter.gradient(room, pod)
        growth = np.where(added == INFEASIBLE, 0, added) / (meter.total * DEVICE_MILLI)
        value = np.trunc(100 / (1 + np.exp(growth)))
        return Scores(np.where(added == INFEASIBLE, NO_PLACE, value), device)

    return score


def policies(trace: Trace) -> dict[str, Callable[[], Policy]]:
    """Every policy by its name, made anew for each run; the trace's pods are the workload expected."""
    models = sorted({node.model for node in trace.nodes})
    seen = typical(trace.pods, percent=95, memory=False)
    whole = typical(trace.pods)
    published, ours = Meter(seen, models), Meter(whole, models)
    return {
        "Random": Random,
        "DotProd": lambda: ByScore("DotProd", dot_product),
        "GpuPacking": lambda: ByScore("GpuPacking", gpu_packing),
        "BestFit": lambda: ByScore("BestFit", best_fit),
        "FGD": lambda: ByScore("FGD", gradient_descent(published)),
        OURS: lambda: ByScore(OURS, look_ahead(ours, whole.cpu_per_gpu_milli)),
    }
