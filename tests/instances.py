"""Packing instances in the form of "Priority Matters" (arXiv:2511.08373, test_runner.py), as snapshots.

Identical nodes; ReplicaSets of 1 to 4 replicas with uniform CPU (100-1000 m), memory (100-1000 MB) and
priority (1 to k); capacity is the total request divided by the target usage, shared by the nodes. Pods
arrive in order and are bound by a stand-in for kube-scheduler: the feasible node with the most room left
(LeastAllocated), ties by name. What does not fit stays pending.
"""

from __future__ import annotations

from math import ceil
from random import Random

from stowage_scheduler.cluster import CPU, MEMORY, PODS, Node, OwnerRef, Pod, Snapshot, Workload

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z
MEGABYTE = 1_000_000


def paper_snapshot(nodes: int, pods_per_node: int, priorities: int, usage_percent: int, seed: int) -> Snapshot:
    """One instance; the same arguments give the same snapshot."""
    random = Random(seed)
    wanted = nodes * pods_per_node
    pods: list[Pod] = []
    workloads: list[Workload] = []
    while len(pods) < wanted:
        replicas = min(random.randint(1, 4), wanted - len(pods))
        cpu, memory = random.randint(100, 1000), random.randint(100, 1000) * MEGABYTE
        priority = random.randint(1, priorities)
        name = f"rs-{len(workloads):03d}"
        owner = OwnerRef("ReplicaSet", name, f"uid-{name}")
        workloads.append(Workload("ReplicaSet", "paper", name, owner.uid, replicas=replicas))
        pods += [
            Pod(
                namespace="paper",
                name=f"{name}-{number}",
                uid=f"uid-{name}-{number}",
                requests={CPU: cpu, MEMORY: memory, PODS: 1},
                priority=priority,
                owner=owner,
                template_hash=name,
                labels={"app": name},
                created_at=NOW - 7200 + len(pods),
                unschedulable_since=NOW - 60,
            )
            for number in range(replicas)
        ]
    capacity = {
        resource: ceil(sum(pod.requests[resource] for pod in pods) * 100 / usage_percent / nodes)
        for resource in (CPU, MEMORY)
    }
    node_facts = tuple(Node(f"node-{number:03d}", {**capacity, PODS: 110}) for number in range(nodes))
    return Snapshot(NOW, node_facts, tuple(scheduled(node_facts, pods)), tuple(workloads))


def scheduled(nodes: tuple[Node, ...], pods: list[Pod]) -> list[Pod]:
    """The pods, bound one by one to the feasible node with the most room left."""
    from msgspec.structs import replace

    room = {node.name: dict(node.allocatable) for node in nodes}
    total = {node.name: node.allocatable for node in nodes}
    result = []
    for pod in pods:
        feasible = [
            name for name, left in room.items() if all(left.get(r, 0) >= amount for r, amount in pod.requests.items())
        ]
        if not feasible:
            result.append(pod)
            continue
        best = max(feasible, key=lambda n: (sum(room[n][r] / total[n][r] for r in (CPU, MEMORY)), n))
        for resource, amount in pod.requests.items():
            room[best][resource] -= amount
        result.append(
            replace(pod, node=best, phase="Running", ready=True, bound_at=pod.created_at, unschedulable_since=None)
        )
    return result
