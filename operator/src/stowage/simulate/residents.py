"""The pods on a simulated cluster, numbered by arrival, as arrays that grow in place."""

from __future__ import annotations

import numpy as np

from stowage.simulate.gpu_cluster import Choice, GpuCluster
from stowage_scheduler.gpu.devices import Demand
from stowage_scheduler.gpu.exchange import Running
from stowage_scheduler.gpu.fragmentation import Ints

_GONE = -1


class Residents:
    """Who is where; every change goes to the cluster too."""

    def __init__(self, cluster: GpuCluster, most: int) -> None:
        """Room for `most` pods."""
        self.cluster = cluster
        self.demands: list[Demand] = [Demand()] * most
        self.choices: list[Choice | None] = [None] * most
        self.count = 0
        self._node = np.full(most, _GONE, np.int64)
        self._device = np.full(most, _GONE, np.int64)
        self._share_milli = np.zeros(most, np.int64)
        self._whole = np.zeros(most, np.int64)
        self._cpu_milli = np.zeros(most, np.int64)
        self._memory_mib = np.zeros(most, np.int64)
        self._accepts = np.ones((most, len(cluster.models)), np.bool_)

    def arrive(self, number: int, demand: Demand, choice: Choice) -> None:
        """A pod gets its place.

        Raises:
            ValueError: it does not fit there.
        """
        self.cluster.place(demand, choice)
        self.demands[number], self.choices[number] = demand, choice
        self._node[number] = choice.node
        self._device[number] = choice.devices[0] if demand.shared else _GONE
        self._share_milli[number] = demand.gpu_milli if demand.shared else 0
        self._whole[number] = 0 if demand.shared else demand.gpu_count
        self._cpu_milli[number], self._memory_mib[number] = demand.cpu_milli, demand.memory_mib
        if demand.models:
            self._accepts[number] = [model in demand.models for model in self.cluster.models]
        self.count += 1

    def leave(self, number: int) -> Choice:
        """A pod gives its place up, and this was it.

        Raises:
            ValueError: it has none.
        """
        choice = self.choices[number]
        if choice is None:
            raise ValueError(f"pod {number} has no place")
        self.cluster.remove(self.demands[number], choice)
        self.choices[number] = None
        self._node[number] = self._device[number] = _GONE
        self.count -= 1
        return choice

    def running(self) -> tuple[Ints, Running]:
        """Numbers of the pods that have a place, and what they hold."""
        here = np.flatnonzero(self._node != _GONE)
        return here, Running(
            node=self._node[here],
            device=self._device[here],
            share_milli=self._share_milli[here],
            whole=self._whole[here],
            cpu_milli=self._cpu_milli[here],
            memory_mib=self._memory_mib[here],
            accepts=self._accepts[here],
        )

    def on(self, node: int) -> list[int]:
        """Numbers of the pods of a node."""
        return [int(number) for number in np.flatnonzero(self._node == node)]
