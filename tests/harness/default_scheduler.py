"""Where kube-scheduler's default profile puts the pods of an instance, without a cluster.

The scores of Kubernetes 1.36 (`pkg/scheduler/framework/plugins`) as far as these pods and nodes differ in them:
NodeResourcesFit (LeastAllocated) and NodeResourcesBalancedAllocation by CPU and memory, both with weight 1, and
PodTopologySpread with the constraints that every pod of a ReplicaSet has by default, weight 2. Pods come one by one in
their order; nothing is preempted. kube-scheduler draws lots among nodes of equal score: here the first by name wins.
`tests/bench/packing/test_start_states.py` holds this against the real one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import floor, log

from harness.instances import Instance, PaperPod

MOST = 100  # of one score
SKEW = 3  # maxSkew of the default constraint on host names
SPREAD_WEIGHT = 2


@dataclass
class _Node:
    """A node while pods arrive: what is asked of it, and pods by ReplicaSet."""

    name: str
    cpu_milli: int = 0
    memory_bytes: int = 0
    held: Counter[str] = field(default_factory=Counter)


def scheduled(instance: Instance) -> Instance:
    """The instance with each pod where the scheduler puts it; what fits nowhere stays pending."""
    nodes = [_Node(name) for name in sorted(instance.nodes)]
    return replace(instance, pods=tuple(replace(pod, node=_place(pod, nodes, instance)) for pod in instance.pods))


def _place(pod: PaperPod, nodes: Sequence[_Node], instance: Instance) -> str | None:
    feasible = [
        node
        for node in nodes
        if node.cpu_milli + pod.cpu_milli <= instance.cpu_milli
        and node.memory_bytes + pod.memory_bytes <= instance.memory_bytes
    ]
    if not feasible:
        return None
    spread = _spread([node.held[pod.replica_set] for node in feasible])
    scores = [
        least_allocated(node, pod, instance) + balanced(node, pod, instance) + SPREAD_WEIGHT * even
        for node, even in zip(feasible, spread, strict=True)
    ]
    best = feasible[scores.index(max(scores))]
    best.cpu_milli += pod.cpu_milli
    best.memory_bytes += pod.memory_bytes
    best.held[pod.replica_set] += 1
    return best.name


def least_allocated(node: _Node, pod: PaperPod, instance: Instance) -> int:
    """Free shares beside the pod: the mean over resources, each rounded down (least_allocated.go)."""
    cpu = (instance.cpu_milli - node.cpu_milli - pod.cpu_milli) * MOST // instance.cpu_milli
    memory = (instance.memory_bytes - node.memory_bytes - pod.memory_bytes) * MOST // instance.memory_bytes
    return (cpu + memory) // 2


def balanced(node: _Node, pod: PaperPod, instance: Instance) -> int:
    """How much more alike the shares of CPU and memory get by the pod (balanced_allocation.go)."""
    before = _alike(node.cpu_milli, node.memory_bytes, instance)
    after = _alike(node.cpu_milli + pod.cpu_milli, node.memory_bytes + pod.memory_bytes, instance)
    return MOST // 2 + (MOST // 2 + after - before) // 2


def _alike(cpu_milli: int, memory_bytes: int, instance: Instance) -> int:
    deviation = abs((cpu_milli / instance.cpu_milli - memory_bytes / instance.memory_bytes) / 2)
    return int((1 - deviation) * MOST)


def _spread(counts: Sequence[int]) -> list[int]:
    """By node the score for so many pods of the same ReplicaSet on it (podtopologyspread/scoring.go)."""
    weight = log(len(counts) + 2)
    raw = [floor(count * weight + SKEW - 1 + 0.5) for count in counts]
    most, least = max(raw), min(raw)
    return [MOST * (most + least - score) // most for score in raw]
