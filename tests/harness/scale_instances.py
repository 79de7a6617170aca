"""Large clusters for the packer: pods in the form of "Priority Matters" on many nodes, and one to repair.

The stand-in for kube-scheduler is that of `harness.instances` (the feasible node with the most room left), over all
nodes at once: one by one, 40,000 pods on 5,000 nodes would take minutes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import ceil
from random import Random
from typing import Any

import numpy as np

from harness.instances import CREATED, MEGABYTE, NOW, Instance, PaperPod

PODS_PER_NODE = 8
Document = dict[str, Any]

REPAIR_NODES = 5_000
GPU_NODES = 1_000
GPUS = 8
RUNNING = 40_000
GANG = "trainer"
OTHERS = 12  # pending pods beside the gang
APPS = [f"web-{number:04d}" for number in range(1_500)]
GPU_APPS = [f"gpu-{number:03d}" for number in range(300)]
NODE_CPU_MILLI, NODE_MEMORY = 64_000, 256 * 1024 * MEGABYTE


def instance(nodes: int, usage_percent: int, seed: int, *, running: bool) -> Instance:
    """Eight pods per node of one priority, all of them pending, or as a scheduler leaves them."""
    random = Random(seed)
    wanted = nodes * PODS_PER_NODE
    pods: list[PaperPod] = []
    while len(pods) < wanted:
        cpu, memory = random.randint(100, 1000), random.randint(100, 1000) * MEGABYTE
        name = f"rs-{len(pods):05d}"
        pods += [PaperPod(name, f"{name}-{number}", cpu, memory, 1) for number in range(random.randint(1, 4))]
    pods = pods[:wanted]
    cpu_milli = ceil(sum(pod.cpu_milli for pod in pods) * 100 / usage_percent / nodes)
    memory_bytes = ceil(sum(pod.memory_bytes for pod in pods) * 100 / usage_percent / nodes)
    names = tuple(f"node-{number:04d}" for number in range(nodes))
    made = Instance(names, cpu_milli, memory_bytes, tuple(pods), placeable=False)
    return _scheduled(made) if running else made


def _scheduled(made: Instance) -> Instance:
    room = np.array([[made.cpu_milli, made.memory_bytes]] * len(made.nodes), dtype=np.int64)
    shares = np.array([1 / made.cpu_milli, 1 / made.memory_bytes])
    placed = []
    for pod in made.pods:
        asked = np.array([pod.cpu_milli, pod.memory_bytes], dtype=np.int64)
        left = np.where((room >= asked).all(axis=1), room @ shares, -1.0)
        best = int(left.argmax())
        if left[best] >= 0:
            room[best] -= asked
        placed.append(replace(pod, node=made.nodes[best]) if left[best] >= 0 else pod)
    return replace(made, pods=tuple(placed))


def repair(seed: int) -> tuple[Document, int]:
    """A cluster with room for all, but none for a gang of eight pods that take a whole node's GPUs each.

    1,000 of the 5,000 nodes have eight GPUs and run three to seven pods with one GPU each. All other pods fit into free
    room.

    Returns:
        The dump, and the fewest moves: of the pods with GPUs on the eight nodes that run the fewest. Fewer can not
        do, for nothing else with a GPU may stand beside a pod of the gang.
    """
    random = Random(seed)
    items: list[Document] = []
    held = [random.randint(3, 7) if number < GPU_NODES else 0 for number in range(REPAIR_NODES)]
    asks = {app: _asks(random, gpus=app.startswith("gpu")) for app in (*GPU_APPS, *APPS)}
    replicas: Counter[str] = Counter()
    for number, gpu_pods in enumerate(held):
        node = f"node-{number:04d}"
        items.append(_node(node, gpus=GPUS if number < GPU_NODES else 0))
        for place in range(RUNNING // REPAIR_NODES):
            app = random.choice(GPU_APPS if place < gpu_pods else APPS)
            items.append(_pod(app, replicas[app], asks[app], node=node))
            replicas[app] += 1
    gang = {"stowage.dev/gang": GANG, "stowage.dev/gang-size": str(GPUS)}
    whole = {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": str(GPUS)}
    items += [_pod(GANG, number, whole, labels=gang) for number in range(GPUS)]
    for app in random.sample(APPS, OTHERS):
        items.append(_pod(app, replicas[app], asks[app]))
    owners = sorted({item["metadata"]["labels"]["app"] for item in items if item["kind"] == "Pod"})
    items += [_replica_set(name) for name in owners]
    return {"apiVersion": "v1", "kind": "List", "items": items}, sum(sorted(held[:GPU_NODES])[:GPUS])


def _asks(random: Random, *, gpus: bool) -> Document:
    asks = {"cpu": f"{random.randint(1000, 7000)}m", "memory": f"{random.randint(4, 26)}Gi"}
    return {**asks, "nvidia.com/gpu": "1"} if gpus else asks


def _node(name: str, *, gpus: int) -> Document:
    offers = {"cpu": f"{NODE_CPU_MILLI}m", "memory": str(NODE_MEMORY), "pods": "110"}
    offers |= {"nvidia.com/gpu": str(gpus)} if gpus else {}
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": CREATED}
    labels = {"kubernetes.io/hostname": name}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": labels},
        "status": {"allocatable": offers, "capacity": offers, "conditions": [ready]},
    }


def _replica_set(name: str) -> Document:
    metadata = {"name": name, "namespace": "large", "uid": f"uid-{name}", "creationTimestamp": CREATED}
    return {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata, "spec": {}}


def _pod(app: str, number: int, asks: Document, *, node: str | None = None, labels: Document | None = None) -> Document:
    name = f"{app}-{number}"
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": app, "uid": f"uid-{app}", "controller": True}
    spec: Document = {
        "containers": [{"name": "main", "image": "pause", "resources": {"requests": asks, "limits": asks}}]
    }
    condition = {"type": "PodScheduled", "status": "True", "lastTransitionTime": CREATED}
    conditions = [condition, {"type": "Ready", "status": "True", "lastTransitionTime": CREATED}]
    if node is None:
        reason = "SchedulingGated" if labels else "Unschedulable"
        conditions = [{**condition, "status": "False", "reason": reason, "lastTransitionTime": NOW}]
    if node is None and labels:
        spec["schedulingGates"] = [{"name": "stowage.dev/gang"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "large",
            "uid": f"uid-{name}",
            "creationTimestamp": CREATED,
            "labels": {"app": app, "pod-template-hash": app, **(labels or {})},
            "ownerReferences": [owner],
        },
        "spec": {**spec, **({"nodeName": node} if node else {})},
        "status": {"phase": "Running" if node else "Pending", "conditions": conditions},
    }
