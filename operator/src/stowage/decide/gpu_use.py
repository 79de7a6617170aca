"""How usable the GPUs are that nodes have free, measured by the pods that the cluster has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from stowage_scheduler.cluster import CPU, MEMORY, Pod, Snapshot
from stowage_scheduler.devices.limits import DeviceLimits, device_limits
from stowage_scheduler.gpu.devices import DEVICE_MILLI, Demand
from stowage_scheduler.gpu.fragmentation import Meter, room_of
from stowage_scheduler.gpu.workload import typical

GPU = "nvidia.com/gpu"
WHOLE_GPUS = frozenset({GPU, "amd.com/gpu", "gpu.intel.com/i915", "gpu.intel.com/xe"})
"""Extended resources whose units are devices."""
_MEBIBYTE = 1 << 20
_TYPICAL_PERCENT = 95


def unusable_gpus(snapshot: Snapshot) -> Mapping[str, float]:
    """By node, how much of its free GPUs, in devices, a typical pod with GPUs could not use.

    Typical are the pods with GPUs that the cluster has, running or waiting: FGD's measure (Weng et al., USENIX ATC'23).
    A node whose free GPUs are all of use to all of them has 0.
    """
    pods = [pod for pod in snapshot.pods if not pod.finished]
    asking = [pod for pod in pods if pod.requests.get(GPU) or pod.gpu_share is not None]
    limits = _limits(snapshot, asking)
    demands = [_demand(pod, limits, number) for number, pod in enumerate(asking)]
    used: Mapping[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for pod in pods:
        if pod.node is not None:
            for resource in (CPU, MEMORY, GPU):
                used[pod.node][resource] += pod.requests.get(resource, 0)
    free = [
        {r: max(0, node.allocatable.get(r, 0) - used[node.name][r]) for r in (CPU, MEMORY, GPU)}
        for node in snapshot.nodes
    ]
    devices = [_devices(limits, number, one[GPU]) for number, one in enumerate(free)]
    rooms = zip(free, devices, strict=True)
    room = room_of([(one[CPU], one[MEMORY] // _MEBIBYTE, "", each) for one, each in rooms], ())
    amounts = Meter(typical(demands, percent=_TYPICAL_PERCENT), ()).gpus(room) if demands else [0.0] * len(free)
    return {node.name: round(float(amount), 3) for node, amount in zip(snapshot.nodes, amounts, strict=True)}


def free_gpus(snapshot: Snapshot) -> Mapping[str, int]:
    """By node that has GPUs, whole ones that nobody uses, whoever makes them; what shares stand on is in use.

    GPUs that pods have by resource claims are not counted: no allocatable amount tells of those.
    """
    total = {node.name: _gpus(node.allocatable) for node in snapshot.nodes}
    free = {name: count for name, count in total.items() if count}
    for pod in snapshot.pods:
        if pod.node in free and not pod.finished:
            free[pod.node] -= _gpus(pod.requests)
    empty = {name: count for name, (_, count) in shared_gpus(snapshot).items()}
    return {name: max(0, min(count, empty.get(name, count))) for name, count in free.items()}


def _gpus(amounts: Mapping[str, int]) -> int:
    """Of resources such as `nvidia.com/gpu` or `gpu.intel.com/i915`, without parts of devices."""
    return sum(amount for name, amount in amounts.items() if name in WHOLE_GPUS)


def shared_gpus(snapshot: Snapshot) -> Mapping[str, tuple[int, int]]:
    """By node with GPU shares: thousandths of devices that shares hold, and how many devices are empty.

    Shares whose device nobody tells are thought as close together as they fit.
    """
    limits = _limits(snapshot, ())
    if limits is None:
        return {}
    found = {}
    for number, node in enumerate(snapshot.nodes):
        standing = limits.nodes.get(number)
        if standing is not None and (standing.unknown or any(any(load) for load in standing.known)):
            free = limits.free_milli(number, {})
            held = sum(DEVICE_MILLI - left for left in free) - standing.whole * DEVICE_MILLI
            found[node.name] = held, free.count(DEVICE_MILLI)
    return found


def _limits(snapshot: Snapshot, asking: Sequence[Pod]) -> DeviceLimits | None:
    """Who stands on which device; `asking` are its classes."""
    index = {node.name: number for number, node in enumerate(snapshot.nodes)}
    standing = [(pod, index[pod.node]) for pod in snapshot.pods if pod.node in index and not pod.finished]
    return device_limits(snapshot.nodes, standing, [(pod, {}) for pod in asking])


def _devices(limits: DeviceLimits | None, number: int, whole: int) -> list[int]:
    if limits is None or number not in limits.nodes or number in limits.sliced:
        return [DEVICE_MILLI] * whole
    return limits.free_milli(number, {})


def _demand(pod: Pod, limits: DeviceLimits | None, number: int) -> Demand:
    cpu, memory_mib = pod.requests.get(CPU, 0), -(-pod.requests.get(MEMORY, 0) // _MEBIBYTE)
    if pod.gpu_share is not None and limits is not None:
        return Demand(cpu, memory_mib, limits.milli_of(limits.needs[number]), 1)
    return Demand(cpu, memory_mib, DEVICE_MILLI, pod.requests[GPU])
