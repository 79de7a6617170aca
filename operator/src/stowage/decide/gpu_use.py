"""How usable the GPUs are that nodes have free, measured by the pods that the cluster has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from stowage_scheduler.cluster import CPU, MEMORY, Pod, Snapshot
from stowage_scheduler.gpu.devices import DEVICE_MILLI, Demand
from stowage_scheduler.gpu.fragmentation import Meter, room_of
from stowage_scheduler.gpu.workload import typical

GPU = "nvidia.com/gpu"
_MEBIBYTE = 1 << 20
_TYPICAL_PERCENT = 95


def unusable_gpus(snapshot: Snapshot) -> Mapping[str, float]:
    """By node, how many of its free GPUs a typical pod with GPUs could not use.

    Typical are the pods with GPUs that the cluster has, running or waiting: FGD's measure (Weng et al., USENIX ATC'23),
    over whole GPUs. A node whose free GPUs are all of use to all of them has 0.
    """
    pods = [pod for pod in snapshot.pods if not pod.finished]
    demands = [_demand(pod) for pod in pods if pod.requests.get(GPU)]
    used: Mapping[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for pod in pods:
        if pod.node is not None:
            for resource in (CPU, MEMORY, GPU):
                used[pod.node][resource] += pod.requests.get(resource, 0)
    free = [
        {r: max(0, node.allocatable.get(r, 0) - used[node.name][r]) for r in (CPU, MEMORY, GPU)}
        for node in snapshot.nodes
    ]
    room = room_of([(one[CPU], one[MEMORY] // _MEBIBYTE, "", [DEVICE_MILLI] * one[GPU]) for one in free], ())
    amounts = Meter(typical(demands, percent=_TYPICAL_PERCENT), ()).gpus(room) if demands else [0.0] * len(free)
    return {node.name: round(float(amount), 3) for node, amount in zip(snapshot.nodes, amounts, strict=True)}


def _demand(pod: Pod) -> Demand:
    memory_mib = -(-pod.requests.get(MEMORY, 0) // _MEBIBYTE)
    return Demand(pod.requests.get(CPU, 0), memory_mib, DEVICE_MILLI, pod.requests[GPU])
