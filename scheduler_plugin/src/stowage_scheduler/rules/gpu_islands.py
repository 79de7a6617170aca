"""Pods that keep their GPUs within one island of a node: GPUs that NVLink or a NUMA node joins.

kube-scheduler has no such rule: the kubelet's topology manager or the device plugin keeps to it on the node.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stowage_scheduler.cluster import Node, Pod
from stowage_scheduler.kube.gpu_facts import island_size, keeps_to_island, node_devices, whole_devices
from stowage_scheduler.packing import Reason
from stowage_scheduler.rules.gpu_shares import find_devices
from stowage_scheduler.rules.rule import Outcome, Rule, Violation

_GPUS = "gpus"  # the one measure of an island


class GpuIslands(Rule):
    """Whoever keeps to one island finds one with as many GPUs free, wherever the others have theirs.

    The rows of the model are those of `GpuShares`.
    """

    name = "GpuIslands"

    def refuses(self, pod: Pod, node: Node) -> Reason | None:
        """GpuFragmented on a node whose islands are too small."""
        size = island_size(node) if keeps_to_island(pod) else 0
        return Reason.GPU_FRAGMENTED if size and whole_devices(pod.gpu_share, pod.requests) > size else None

    def check(self, outcome: Outcome) -> Iterator[Violation]:
        """Nodes on which no island is left for those who keep to one."""
        targets = {node.name for pod, node in outcome.arrivals if node is not None and keeps_to_island(pod)}
        arriving = {pod.uid for pod, _ in outcome.arrivals} if targets else set()
        for name in sorted(targets):
            node, residents = outcome.nodes[name], outcome.residents[name]
            coming = [pod for pod in residents if pod.uid in arriving]
            if not _fit(node, [pod for pod in residents if pod.uid not in arriving], coming):
                yield Violation(self.name, name, f"no islands for {', '.join(sorted(pod.key for pod in coming))}")


def admits_on_islands(pod: Pod, node: Node, residents: Sequence[Pod]) -> bool:
    """Whether one more pod finds an island on a node, beside pods that stand there."""
    return not keeps_to_island(pod) or _fit(node, residents, [pod])


def _fit(node: Node, staying: Sequence[Pod], coming: Sequence[Pod]) -> bool:
    """Whether newcomers fit on islands.

    Of each group of GPUs that is held, nobody knows the island: it has one of its own, or is on all of them.
    """
    size = island_size(node)
    if not size:
        return True
    held = sorted(group for pod in staying for group in _groups(pod))
    wanted = sorted(group for pod in coming for group in _groups(pod))
    for alone in range(len(held) + 1):
        islands = node_devices(node).count // size - alone
        if islands < 0:
            return False
        everywhere = sum(held[: len(held) - alone])
        free = [{_GPUS: size - everywhere} for _ in range(islands)]
        if find_devices([{_GPUS: group} for group in wanted], free, set()):
            return True
    return False


def _groups(pod: Pod) -> list[int]:
    """GPUs that a pod holds, in groups of one island each."""
    gpus = 1 if pod.gpu_share is not None else whole_devices(None, pod.requests)
    return [gpus] if keeps_to_island(pod) else [1] * gpus
