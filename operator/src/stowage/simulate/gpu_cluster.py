"""A cluster of GPU nodes as arrays, and the pods on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from stowage.simulate.openb import TraceNode
from stowage_scheduler.gpu.devices import DEVICE_MILLI, Demand
from stowage_scheduler.gpu.fragmentation import Ints, room_of


class Choice(Struct, frozen=True):
    """A node and devices on it."""

    node: int
    devices: tuple[int, ...]


class GpuCluster:
    """What is free on each node; changes in place as pods come and move.

    `changes` logs the node of every change, so that scores kept from before are brought up to date cheaply.
    """

    def __init__(self, nodes: Sequence[TraceNode]) -> None:
        """Empty nodes, in the order in which ties go."""
        self.nodes = tuple(nodes)
        self.models = tuple(sorted({node.model for node in nodes}))
        self.capacity = room_of(
            [(node.cpu_milli, node.memory_mib, node.model, [DEVICE_MILLI] * node.gpus) for node in nodes], self.models
        )
        self.room = self.capacity.take(np.arange(len(nodes)))
        self.gpu_milli = DEVICE_MILLI * sum(node.gpus for node in nodes)
        self.held_milli = 0
        self.changes: list[int] = []

    def place(self, demand: Demand, choice: Choice) -> None:
        """Puts a pod there.

        Raises:
            ValueError: it does not fit.
        """
        self._apply(demand, choice, 1)

    def remove(self, demand: Demand, choice: Choice) -> None:
        """Takes a pod off.

        Raises:
            ValueError: more would be free than the node has.
        """
        self._apply(demand, choice, -1)

    def _apply(self, demand: Demand, choice: Choice, sign: int) -> None:
        node, devices, room, most = choice.node, list(choice.devices), self.room, self.capacity
        if len(set(devices)) != demand.gpu_count or len(devices) != demand.gpu_count:
            raise ValueError(f"{demand} asks for {demand.gpu_count} devices, not {devices}")
        cpu = room.cpu_milli[node] - sign * demand.cpu_milli
        memory = room.memory_mib[node] - sign * demand.memory_mib
        free = room.free_milli[node, devices] - sign * demand.gpu_milli
        within = 0 <= cpu <= most.cpu_milli[node] and 0 <= memory <= most.memory_mib[node]
        if not within or (free < 0).any() or (free > most.free_milli[node, devices]).any():
            raise ValueError(f"{demand} at {choice}: cpu {cpu}, memory {memory}, GPUs {free} would be free")
        room.cpu_milli[node] = cpu
        room.memory_mib[node] = memory
        room.free_milli[node, devices] = free
        self.held_milli += sign * demand.total_milli
        self.changes.append(node)

    def allows(self, demand: Demand) -> NDArray[np.bool_]:
        """Which nodes have a GPU model that the pod accepts; shape [nodes]."""
        if not demand.models or not demand.gpu_count:
            return np.ones(len(self.nodes), np.bool_)
        good = np.array([model in demand.models for model in self.models])
        result: NDArray[np.bool_] = good[self.room.model]
        return result


def devices_for(free_milli: Ints, demand: Demand, device: int) -> tuple[int, ...]:
    """The devices of a choice: the one given for a share, else the first empty ones."""
    if demand.shared:
        return (device,)
    return tuple(int(index) for index in np.flatnonzero(free_milli == DEVICE_MILLI)[: demand.gpu_count])
