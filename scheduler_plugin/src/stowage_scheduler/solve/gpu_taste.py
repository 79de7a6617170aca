"""FGD's measure of fragmentation as a policy's tail: free GPU that the pods of the problem can not use.

The measure is that of `gpu.fragmentation` (Weng et al., USENIX ATC'23), with the classes of the problem as the
typical pods. Devices of nodes that pods share are taken one by one; newcomers, and shares whose device nobody tells,
are thought on the fullest device that has room.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stowage_scheduler.cluster import CPU, MEMORY
from stowage_scheduler.gpu.devices import DEVICE_MILLI, Demand
from stowage_scheduler.gpu.fragmentation import Ints, Meter, Room
from stowage_scheduler.gpu.workload import typical
from stowage_scheduler.kube.gpu_facts import WHOLE
from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import PodClass

_TYPICAL_PERCENT = 95  # of the pods, as in FGD's artefact
_MOST_KINDS = 200  # of pods; the meter's table grows with their amounts of CPU and memory
_LOOK = 1_000  # cells that devices of a node count, looked at one by one
_MOST_DEVICES = 64  # of a node; beyond it they are slices rather than devices


class GpuTaste:
    """The measure for a placement that changes; amounts are in the units of its problem."""

    def __init__(self, placement: Placement) -> None:
        """Look at all nodes once."""
        problem = placement.problem
        self.placement = placement
        self._whole = [r for r, name in enumerate(problem.resources) if name in WHOLE]
        self._cpu, self._memory = (_column(problem.resources, name) for name in (CPU, MEMORY))
        self._demands = [self._demand_of(pod_class) for pod_class in problem.classes]
        pods = zip(self._demands, problem.classes, strict=True)
        demands = [demand for demand, pod_class in pods for _ in range(pod_class.total)]
        self.meter = Meter(typical(demands, percent=_TYPICAL_PERCENT), ())
        self._free = np.zeros((len(problem.nodes), max(1, most_devices(placement))), dtype=np.int64)
        for node in range(len(problem.nodes)):
            self.moved(node)
        self.work = self._free.shape[1] * len({(d.gpu_milli, d.gpu_count) for d in self._demands})  # cells for a node
        self.work += 0 if problem.devices is None else _LOOK

    def moved(self, node: int) -> None:
        """Look at a node again that pods came to, or left."""
        free = self._free_milli(node, self.placement.on_node[node])
        self._free[node] = 0
        self._free[node, : len(free)] = free

    def change(self, nodes: Ints, room: Ints, pod_class: PodClass) -> Ints:
        """How much one more pod adds on each of some nodes; `room[i, r]` is what `nodes[i]` has left without it."""
        demand, before = self._demands[pod_class.index], self._room(nodes, room, self._free[nodes])
        if self.placement.problem.devices is None:
            added, _ = self.meter.gradient(before, demand)
            return added
        left = room - np.array(pod_class.requests, dtype=np.int64)
        change: Ints = self.meter.weighted(self._room(nodes, left, self._after(nodes, pod_class)))
        change -= self.meter.weighted(before)
        return change

    def _after(self, nodes: Ints, pod_class: PodClass) -> Ints:
        """What devices would have free with one more pod on each node."""
        free = self._free[nodes]
        if self._demands[pod_class.index].gpu_count:
            for row, node in enumerate(nodes.tolist()):
                held = self.placement.on_node[node]
                left = self._free_milli(node, {**held, pod_class.index: held.get(pod_class.index, 0) + 1})
                free[row] = 0
                free[row, : len(left)] = left
        return free

    def total(self) -> int:
        """The measure of the whole placement, in milli-GPU times the pods that are typical."""
        shape = len(self.placement.problem.nodes), len(self.placement.problem.resources)
        room = np.array(self.placement.room, dtype=np.int64).reshape(shape)
        return int(self.meter.weighted(self._room(np.arange(shape[0]), room, self._free)).sum())

    def _room(self, nodes: Ints, room: Ints, free_milli: Ints) -> Room:
        none = np.zeros(len(nodes), dtype=np.int64)
        return Room(
            cpu_milli=none if self._cpu is None else room[:, self._cpu],
            memory_mib=none if self._memory is None else room[:, self._memory],
            model=none - 1,
            devices=(free_milli > 0).sum(axis=1),
            free_milli=free_milli,
        )

    def _demand_of(self, pod_class: PodClass) -> Demand:
        cpu = 0 if self._cpu is None else pod_class.requests[self._cpu]
        memory = 0 if self._memory is None else pod_class.requests[self._memory]
        limits = self.placement.problem.devices
        need = None if limits is None else limits.needs.get(pod_class.index)
        if limits is not None and need is not None and need.share:
            return Demand(cpu, memory, limits.milli_of(need), 1)
        whole = sum(pod_class.requests[r] for r in self._whole) if need is None else need.whole
        return Demand(cpu, memory, DEVICE_MILLI if whole else 0, whole)

    def _free_milli(self, node: int, held: Mapping[int, int]) -> list[int]:
        """What each device has free, in thousandths, beside the pods that the node holds (class to pods)."""
        problem = self.placement.problem
        if problem.devices is not None and node not in problem.devices.sliced:
            return problem.devices.free_milli(node, held)
        classes = problem.classes
        taken = (classes[index].requests[r] * count for index, count in held.items() for r in self._whole)
        return [DEVICE_MILLI] * max(0, sum(problem.free[node][r] for r in self._whole) - sum(taken))


def most_devices(placement: Placement) -> int:
    """The most devices that a node of the problem has."""
    problem = placement.problem
    if problem.devices is not None:
        counts = [standing.devices for standing in problem.devices.nodes.values()]
        counts += [sum(_whole_of(problem.resources, problem.free[n])) for n in problem.devices.sliced]
    else:
        counts = [sum(_whole_of(problem.resources, free)) for free in problem.free]
    return max(counts, default=0)


def gpu_taste(placement: Placement) -> GpuTaste | None:
    """The measure, where pods ask for GPUs and it is not too large."""
    problem = placement.problem
    asked = any(amount for c in problem.classes for amount in _whole_of(problem.resources, c.requests))
    if not asked and problem.devices is None:
        return None
    if most_devices(placement) > _MOST_DEVICES or len(problem.classes) > _MOST_KINDS:
        return None
    return GpuTaste(placement)


def _whole_of(resources: tuple[str, ...], amounts: tuple[int, ...]) -> list[int]:
    return [amount for name, amount in zip(resources, amounts, strict=True) if name in WHOLE]


def _column(resources: tuple[str, ...], name: str) -> int | None:
    return resources.index(name) if name in resources else None
