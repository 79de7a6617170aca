"""kube-scheduler's default profile as an on-line policy: the most even node, and lots among equals.

NodeResourcesFit (LeastAllocated) and NodeResourcesBalancedAllocation by CPU and memory, both with weight 1
(Kubernetes 1.36, `pkg/scheduler/framework/plugins/noderesources`). GPUs have no weight by default.
"""

from __future__ import annotations

import numpy as np

from stowage.simulate.gpu_cluster import Choice, GpuCluster, devices_for
from stowage.simulate.policies import NO_PLACE, feasible
from stowage_scheduler.gpu.devices import Demand
from stowage_scheduler.gpu.fragmentation import Ints

_MOST = 100
"""Of one score."""


class KubeScheduler:
    """Spreads pods as a cluster does where nobody has chosen otherwise."""

    name = "Default"

    def choose(self, cluster: GpuCluster, pod: Demand, rng: np.random.Generator) -> Choice | None:
        """One of the nodes with the highest score."""
        found = feasible(cluster.room, pod)
        fits = np.flatnonzero((found.value != NO_PLACE) & cluster.allows(pod))
        if not len(fits):
            return None
        score = self._score(cluster, pod)[fits]
        node = int(rng.choice(fits[score == score.max()]))
        return Choice(node, devices_for(cluster.room.free_milli[node], pod, int(found.device[node])))

    def _score(self, cluster: GpuCluster, pod: Demand) -> Ints:
        room, capacity = cluster.room, cluster.capacity
        cpu_most, memory_most = np.maximum(1, capacity.cpu_milli), np.maximum(1, capacity.memory_mib)
        cpu_free, memory_free = room.cpu_milli - pod.cpu_milli, room.memory_mib - pod.memory_mib
        least = (cpu_free * _MOST // cpu_most + memory_free * _MOST // memory_most) // 2
        before = _alike(room.cpu_milli / cpu_most, room.memory_mib / memory_most)
        after = _alike(cpu_free / cpu_most, memory_free / memory_most)
        score: Ints = least + _MOST // 2 + (_MOST // 2 + after - before) // 2
        return score


def _alike(cpu: np.typing.NDArray[np.float64], memory: np.typing.NDArray[np.float64]) -> Ints:
    shares: Ints = ((1 - np.abs(cpu - memory) / 2) * _MOST).astype(np.int64)
    return shares
