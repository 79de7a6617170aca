"""Packing instances in the form of "Priority Matters" (arXiv:2511.08373, test_runner.py), as dumps.

Identical nodes; ReplicaSets of 1 to 4 replicas with uniform CPU (100-1000 m), memory (100-1000 MB) and
priority (1 to k). Capacity is the total request divided by the target usage, shared by the nodes, but
never less than what a packing of all pods, made by construction, needs: so `placeable` instances are
known to have room for every pod. Pods arrive in order and are bound by a stand-in for kube-scheduler: the
feasible node with the most room left (LeastAllocated), ties by name; what does not fit stays pending.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from math import ceil
from random import Random
from typing import Any

CREATED = "2026-01-01T00:00:00Z"
NOW = "2026-01-01T02:00:00Z"
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class PaperPod:
    """One pod of an instance; CPU in milli, memory in bytes."""

    replica_set: str
    name: str
    cpu_milli: int
    memory_bytes: int
    priority: int
    node: str | None = None


@dataclass(frozen=True)
class Instance:
    """An instance after the stand-in scheduler has done its best."""

    nodes: tuple[str, ...]
    cpu_milli: int
    memory_bytes: int
    pods: tuple[PaperPod, ...]
    placeable: bool

    @property
    def pending(self) -> int:
        """Pods without a node."""
        return sum(pod.node is None for pod in self.pods)


def paper_instance(
    nodes: int, pods_per_node: int, priorities: int, usage_percent: int, seed: int, *, placeable: bool = False
) -> Instance:
    """One instance; the same arguments give the same one."""
    random = Random(seed)
    wanted = nodes * pods_per_node
    pods: list[PaperPod] = []
    sets = 0
    while len(pods) < wanted:
        replicas = min(random.randint(1, 4), wanted - len(pods))
        cpu, memory = random.randint(100, 1000), random.randint(100, 1000) * MEGABYTE
        priority = random.randint(1, priorities)
        name = f"rs-{sets:03d}"
        sets += 1
        pods += [PaperPod(name, f"{name}-{number}", cpu, memory, priority) for number in range(replicas)]
    cpu_milli = ceil(sum(p.cpu_milli for p in pods) * 100 / usage_percent / nodes)
    memory_bytes = ceil(sum(p.memory_bytes for p in pods) * 100 / usage_percent / nodes)
    if placeable:
        cpu_milli, memory_bytes = _room_for_all(pods, nodes, cpu_milli, memory_bytes)
    names = tuple(f"node-{number:03d}" for number in range(nodes))
    return Instance(names, cpu_milli, memory_bytes, _scheduled(pods, names, cpu_milli, memory_bytes), placeable)


def _room_for_all(pods: list[PaperPod], nodes: int, cpu_milli: int, memory_bytes: int) -> tuple[int, int]:
    """The capacity, raised to the fullest node of a packing that takes large pods first."""
    load = [[0, 0] for _ in range(nodes)]
    for pod in sorted(pods, key=lambda p: -max(p.cpu_milli / cpu_milli, p.memory_bytes / memory_bytes)):
        lightest = min(
            load,
            key=lambda held: max((held[0] + pod.cpu_milli) / cpu_milli, (held[1] + pod.memory_bytes) / memory_bytes),
        )
        lightest[0] += pod.cpu_milli
        lightest[1] += pod.memory_bytes
    return max(cpu_milli, *(held[0] for held in load)), max(memory_bytes, *(held[1] for held in load))


def _scheduled(pods: list[PaperPod], nodes: tuple[str, ...], cpu_milli: int, memory_bytes: int) -> tuple[PaperPod, ...]:
    room = {name: [cpu_milli, memory_bytes] for name in nodes}
    result = []
    for pod in pods:
        feasible = [n for n in nodes if room[n][0] >= pod.cpu_milli and room[n][1] >= pod.memory_bytes]
        if not feasible:
            result.append(pod)
            continue
        best = max(feasible, key=lambda n: (room[n][0] / cpu_milli + room[n][1] / memory_bytes, n))
        room[best][0] -= pod.cpu_milli
        room[best][1] -= pod.memory_bytes
        result.append(replace(pod, node=best))
    return tuple(result)


def dump(instance: Instance) -> dict[str, Any]:
    """The instance as a Kubernetes List of nodes, ReplicaSets and pods."""
    sets = Counter(pod.replica_set for pod in instance.pods)
    items = [_node(name, instance) for name in instance.nodes]
    items += [
        {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {"name": name, "namespace": "paper", "uid": f"uid-{name}", "creationTimestamp": CREATED},
            "spec": {"replicas": replicas},
        }
        for name, replicas in sets.items()
    ]
    items += [_pod(pod) for pod in instance.pods]
    return {"apiVersion": "v1", "kind": "List", "items": items}


def with_gangs(document: dict[str, Any], every: int) -> dict[str, Any]:
    """A dump in which the pods of every so many-th ReplicaSet are a gang: gone from their nodes, behind its gate."""
    owners = [item for item in document["items"] if item["kind"] == "ReplicaSet"]
    sizes = {item["metadata"]["name"]: item["spec"]["replicas"] for item in owners[::every]}
    return {**document, "items": [_ganged(item, sizes) for item in document["items"]]}


def _ganged(item: dict[str, Any], sizes: dict[str, int]) -> dict[str, Any]:
    owner = item["metadata"].get("labels", {}).get("app")
    if item["kind"] != "Pod" or owner not in sizes:
        return item
    labels = {**item["metadata"]["labels"], "stowage.dev/gang": owner, "stowage.dev/gang-size": str(sizes[owner])}
    spec = {key: value for key, value in item["spec"].items() if key != "nodeName"}
    gated = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "lastTransitionTime": NOW}
    return {
        **item,
        "metadata": {**item["metadata"], "labels": labels},
        "spec": {**spec, "schedulingGates": [{"name": "stowage.dev/gang"}]},
        "status": {"phase": "Pending", "conditions": [gated]},
    }


def _node(name: str, instance: Instance) -> dict[str, Any]:
    resources = {"cpu": f"{instance.cpu_milli}m", "memory": str(instance.memory_bytes), "pods": "110"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": {"kubernetes.io/hostname": name}},
        "status": {
            "allocatable": resources,
            "capacity": resources,
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": CREATED}],
        },
    }


def _pod(pod: PaperPod) -> dict[str, Any]:
    requests = {"cpu": f"{pod.cpu_milli}m", "memory": str(pod.memory_bytes)}
    scheduled: dict[str, Any] = {"type": "PodScheduled", "status": "True", "lastTransitionTime": CREATED}
    if pod.node is None:
        scheduled |= {"status": "False", "reason": "Unschedulable", "lastTransitionTime": NOW}
    document: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod.name,
            "namespace": "paper",
            "uid": f"uid-{pod.name}",
            "creationTimestamp": CREATED,
            "labels": {"app": pod.replica_set, "pod-template-hash": pod.replica_set},
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "ReplicaSet",
                    "name": pod.replica_set,
                    "uid": f"uid-{pod.replica_set}",
                    "controller": True,
                }
            ],
        },
        "spec": {
            "priority": pod.priority,
            "schedulerName": "stowage",
            "containers": [{"name": "main", "image": "pause", "resources": {"requests": requests}}],
        },
        "status": {"phase": "Pending" if pod.node is None else "Running", "conditions": [scheduled]},
    }
    if pod.node is not None:
        document["spec"]["nodeName"] = pod.node
        document["status"]["conditions"].append({"type": "Ready", "status": "True", "lastTransitionTime": CREATED})
    return document
