"""FGD's measure of fragmentation: how much free GPU the expected workload can not use.

Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent",
USENIX ATC'23. For a node with free devices `g` and a pod of kind `m`,

    F(m) = sum of all g            if m can not run on the node (CPU, memory, GPUs, model), or asks for no GPU
    F(m) = sum of the g < m's gpu  otherwise: devices too full for a pod that does run

and the node's fragmentation is the mean of F over the workload. Here it is kept as an int, the sum of `weight * F`,
in milli-GPU times the workload's total weight, so that differences are exact; `Meter.gpus` divides.

The sum is turned round: `total * free - sum of weight * usable`, where what is usable depends on the kind only by its
amount per device and number of devices. For each of these groups a table holds the weight of the kinds that CPU and
memory let run. One look-up per group and node is what measuring costs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from stowage_scheduler.gpu.devices import DEVICE_MILLI, Demand
from stowage_scheduler.gpu.workload import Workload

Ints = NDArray[np.int64]
INFEASIBLE = np.iinfo(np.int64).max
"""Stands for the gradient of a choice that is none."""


class Room(Struct, frozen=True):
    """What is free on some nodes, as arrays over them.

    `cpu_milli[n]` and `memory_mib[n]`; `model[n]` indexes the meter's models (-1: none of them); `devices[n]` is how
    many there are, and `free_milli[n, d]` what each has free: zero beyond the node's devices.
    """

    cpu_milli: Ints
    memory_mib: Ints
    model: Ints
    devices: Ints
    free_milli: Ints

    def take(self, nodes: Ints) -> Room:
        """The same of some of the nodes, as copies."""
        return Room(
            self.cpu_milli[nodes],
            self.memory_mib[nodes],
            self.model[nodes],
            self.devices[nodes],
            self.free_milli[nodes],
        )


def room_of(nodes: Sequence[tuple[int, int, str, Sequence[int]]], models: Sequence[str]) -> Room:
    """Room as arrays, from (free CPU, free memory, GPU model, free milli of each device) per node.

    `models` are the meter's; a node without GPUs, or with another model, is fine.
    """
    number = {model: index for index, model in enumerate(models)}
    widest = max((1, *(len(free) for _, _, _, free in nodes)))
    return Room(
        cpu_milli=np.array([cpu for cpu, _, _, _ in nodes], np.int64),
        memory_mib=np.array([memory for _, memory, _, _ in nodes], np.int64),
        model=np.array([number.get(model, -1) for _, _, model, _ in nodes], np.int64),
        devices=np.array([len(free) for _, _, _, free in nodes], np.int64),
        free_milli=np.array([[*free, *[0] * (widest - len(free))] for _, _, _, free in nodes], np.int64).reshape(
            len(nodes), widest
        ),
    )


class Meter:
    """Measures nodes against one workload.

    Its table has an entry for each model, size, amount of CPU and amount of memory that the workload asks for:
    megabytes for some hundred kinds of pods. For workloads with very many, take the `typical` part, or round amounts.
    """

    def __init__(self, workload: Workload, models: Sequence[str]) -> None:
        """`models` are the GPU models that nodes have; `Room.model` indexes them."""
        self.total = workload.total
        self.models = tuple(models)
        pairs = [(d, w) for d, w in zip(workload.demands, workload.weights, strict=True) if d.gpu_count]
        self._cpus = np.unique(np.array([d.cpu_milli for d, _ in pairs], dtype=np.int64))
        self._memories = np.unique(np.array([d.memory_mib for d, _ in pairs], dtype=np.int64))
        groups = sorted({(d.gpu_milli, d.gpu_count) for d, _ in pairs})
        self._milli = np.array([milli for milli, _ in groups], dtype=np.int64)
        self._count = np.array([count for _, count in groups], dtype=np.int64)
        number = {group: index for index, group in enumerate(groups)}
        table = np.zeros((len(self.models) + 1, len(groups), len(self._cpus) + 1, len(self._memories) + 1), np.int64)
        for demand, weight in pairs:
            cpu = int(np.searchsorted(self._cpus, demand.cpu_milli)) + 1
            memory = int(np.searchsorted(self._memories, demand.memory_mib)) + 1
            group = number[demand.gpu_milli, demand.gpu_count]
            for index, model in enumerate((*self.models, None)):  # the last row is of nodes with another model
                if not demand.models or model in demand.models:
                    table[index, group, cpu:, memory:] += weight
        self._runs = np.ascontiguousarray(table.transpose(0, 2, 3, 1))
        # per group, what of a device with so much free counts as usable
        levels = np.arange(DEVICE_MILLI + 1, dtype=np.int64)[:, None]
        self._usable = np.where(levels >= self._milli, levels, 0)

    def weighted(self, room: Room) -> Ints:
        """Fragmentation of each node, in milli-GPU times the workload's total weight; shape [nodes]."""
        usable = self._usable[room.free_milli]  # [nodes, devices, groups]
        roomy = (room.free_milli[:, :, None] >= self._milli).sum(axis=1) >= self._count
        cpu = np.searchsorted(self._cpus, room.cpu_milli, side="right")
        memory = np.searchsorted(self._memories, room.memory_mib, side="right")
        runs = self._runs[room.model, cpu, memory]  # a model of -1 is the last row
        used = (np.where(roomy, usable.sum(axis=1), 0) * runs).sum(axis=1)
        result: Ints = self.total * room.free_milli.sum(axis=1) - used
        return result

    def gpus(self, room: Room) -> NDArray[np.float64]:
        """Fragmentation of each node, in GPUs: expected amount that a pod of the workload leaves unusable."""
        shares: NDArray[np.float64] = self.weighted(room) / max(1, self.total) / DEVICE_MILLI
        return shares

    def gradient(self, room: Room, demand: Demand) -> tuple[Ints, Ints]:
        """How much fragmentation a pod would add, and the device to choose, for each node.

        Returns:
            (`weighted` after minus before with the best choice, or `INFEASIBLE`; index of the device of a share, the
            first of the best ones, or -1 for whole devices and none). Shape [nodes] each.
        """
        rows, devices = choices(room, demand)
        added = np.full(len(room.cpu_milli), INFEASIBLE, np.int64)
        chosen = np.full(len(room.cpu_milli), -1, np.int64)
        if not len(rows):
            return added, chosen
        change = self.weighted(after(room, demand, rows, devices)) - self.weighted(room)[rows]
        # the last write to a node wins: worst first, and of equal ones the last device first
        order = np.lexsort((-devices, -change))
        added[rows[order]] = change[order]
        chosen[rows[order]] = devices[order]
        return added, chosen


def choices(room: Room, demand: Demand) -> tuple[Ints, Ints]:
    """Where a pod fits: nodes, and the device of a share there (-1: whole devices, or none); rows in node order.

    A share has a row for each device with room, once per amount that is free on the node.
    """
    ok = (room.cpu_milli >= demand.cpu_milli) & (room.memory_mib >= demand.memory_mib)
    roomy = room.free_milli >= max(1, demand.gpu_milli)
    if not demand.shared:
        rows = np.flatnonzero(ok & (roomy.sum(axis=1) >= demand.gpu_count))
        return rows.astype(np.int64), np.full(len(rows), -1, np.int64)
    roomy &= ok[:, None]
    rows, devices = np.nonzero(roomy)
    earlier = room.free_milli[rows] == room.free_milli[rows, devices][:, None]
    first = earlier.argmax(axis=1) == devices
    return rows[first].astype(np.int64), devices[first].astype(np.int64)


def after(room: Room, demand: Demand, rows: Ints, devices: Ints) -> Room:
    """What would be free on the nodes of `choices`, one row each, with the pod there."""
    free = room.free_milli[rows]
    if demand.shared:
        free[np.arange(len(rows)), devices] -= demand.gpu_milli
    elif demand.gpu_count:
        empty = free == DEVICE_MILLI
        free[empty & (empty.cumsum(axis=1) <= demand.gpu_count)] = 0
    return Room(
        room.cpu_milli[rows] - demand.cpu_milli,
        room.memory_mib[rows] - demand.memory_mib,
        room.model[rows],
        room.devices[rows],
        free,
    )


def stranded_milli(cpu_milli: Ints, gpu_milli: Ints, cpu_per_gpu_milli: float) -> NDArray[np.float64]:
    """Free milli-GPU that free CPU will not reach for, if GPUs go on taking so much CPU each.

    FGD's measure sees that a node lacks CPU once a pod no longer fits; this sees it coming from the first pod on.
    """
    reached = cpu_milli * (DEVICE_MILLI / cpu_per_gpu_milli) if cpu_per_gpu_milli else gpu_milli
    result: NDArray[np.float64] = np.maximum(0.0, gpu_milli - reached)
    return result
