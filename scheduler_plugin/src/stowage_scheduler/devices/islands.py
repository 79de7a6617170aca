"""Pods whose GPUs have to be of one island of their node: GPUs that NVLink or a NUMA node joins.

The islands of a node are its devices here, and GPUs what is shared of them: a pod that keeps to one island has a share
of so many GPUs. A pod that does not has as many shares of one GPU, wherever they are, and goes wherever GPUs are free.
A GPU share counts as one GPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from stowage_scheduler.cluster import Node, Pod
from stowage_scheduler.devices.fit import Standing
from stowage_scheduler.devices.limits import DeviceLimits, Need, Running
from stowage_scheduler.kube.gpu_facts import island_size, keeps_to_island, node_devices, whole_devices


def island_limits(
    nodes: Sequence[Node], fixed: Iterable[tuple[Pod, int]], classes: Sequence[tuple[Pod, Running]]
) -> DeviceLimits | None:
    """The limits; None where no class asks for islands, or no node tells any. Arguments as those of `device_limits`."""
    sizes = {number: size for number, node in enumerate(nodes) if (size := island_size(node))}
    if not sizes or not any(keeps_to_island(pod) for pod, _ in classes):
        return None
    standing: dict[int, list[tuple[int, ...]]] = {number: [] for number in sizes}
    for pod, number in fixed:
        need = _need(pod)
        if need is not None and number in sizes:
            standing[number] += [need.share] * need.times
    needs = {index: need for index, (pod, _) in enumerate(classes) if (need := _need(pod)) is not None}
    return DeviceLimits(
        {number: _islands(nodes[number], size, standing[number]) for number, size in sizes.items()},
        needs,
        {index: classes[index][1] for index in needs},
        elsewhere=True,
    )


def _need(pod: Pod) -> Need | None:
    gpus = 1 if pod.gpu_share is not None else whole_devices(None, pod.requests)
    if keeps_to_island(pod):
        return Need(share=(gpus,))
    return Need(share=(1,), times=gpus, strict=False) if gpus else None


def _islands(node: Node, size: int, unknown: Sequence[tuple[int, ...]]) -> Standing:
    """The islands of a node; GPUs that are left over make none."""
    count = node_devices(node).count // size
    return Standing(count, (size,), ((0,),) * count, tuple(sorted(unknown)))
