"""What the demo asks a cluster to run: simulated nodes, and ReplicaSets that kube-scheduler cannot place in full.

The random workload has the form of the experiments of "Priority Matters" (Christensen et al., arXiv:2511.08373):
identical nodes, ReplicaSets of one to four replicas, CPU and memory uniform per ReplicaSet, priority uniform per
ReplicaSet, and node capacity such that all pods together use a given share of the cluster.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct, field

NAMESPACE = "stowage-demo"
DEMO_LABEL = "stowage.dev/demo"
GPU = "nvidia.com/gpu"
GPU_PRODUCT = "nvidia.com/gpu.product"
PAUSE_IMAGE = "registry.k8s.io/pause:3.10"
MEGABYTE = 1_000_000

Document = dict[str, Any]


class NodeShape(Struct, frozen=True):
    """A simulated node: CPU in milli-CPU, memory in bytes, GPUs as whole devices."""

    name: str
    cpu_milli: int
    memory_bytes: int
    gpus: int = 0
    gpu_product: str = ""
    pods: int = 110


class ReplicaSetShape(Struct, frozen=True):
    """A ReplicaSet to create: requests are those of one replica."""

    name: str
    replicas: int
    priority_class: str
    cpu_milli: int
    memory_bytes: int
    gpus: int = 0
    gpu_products: tuple[str, ...] = ()  # the GPU models it accepts; none: any


class Scenario(Struct, frozen=True):
    """A cluster and its workload, as the demo applies them."""

    title: str
    nodes: tuple[NodeShape, ...]
    replica_sets: tuple[ReplicaSetShape, ...]
    priority_classes: Mapping[str, int] = field(default_factory=dict)
    shown_resource: str = "cpu"  # what the heights in the pictures stand for

    @property
    def pod_count(self) -> int:
        """How many pods the ReplicaSets ask for."""
        return sum(shape.replicas for shape in self.replica_sets)


PRIORITIES = {"demo-low": 100, "demo-normal": 200, "demo-high": 300, "demo-critical": 400}


def priority_matters(*, node_count: int, pods_per_node: int, usage_percent: int, seed: int) -> Scenario:
    """A random workload of the form of arXiv:2511.08373, §"Experiments".

    Args:
        node_count: number of identical nodes.
        pods_per_node: average number of pods per node.
        usage_percent: share of the cluster's CPU and memory that all pods together ask for.
        seed: makes the workload; the same seed gives the same workload.
    """
    generator = random.Random(seed)  # noqa: S311 - a workload, not a secret
    classes = sorted(PRIORITIES, key=PRIORITIES.__getitem__)
    shapes: list[ReplicaSetShape] = []
    left = node_count * pods_per_node
    while left > 0:
        replicas = min(left, generator.randint(1, 4))
        left -= replicas
        shapes.append(
            ReplicaSetShape(
                name=f"web-{len(shapes):03d}",
                replicas=replicas,
                priority_class=generator.choice(classes),
                cpu_milli=generator.randint(100, 1000),
                memory_bytes=generator.randint(100, 1000) * MEGABYTE,
            )
        )
    cpu_milli = sum(shape.cpu_milli * shape.replicas for shape in shapes)
    megabytes = sum(shape.memory_bytes * shape.replicas for shape in shapes) // MEGABYTE
    nodes = tuple(
        NodeShape(
            name=f"demo-{index:02d}",
            cpu_milli=_ceil_share(cpu_milli, usage_percent, node_count),
            memory_bytes=_ceil_share(megabytes, usage_percent, node_count) * MEGABYTE,
        )
        for index in range(node_count)
    )
    title = f"{node_count} nodes, {node_count * pods_per_node} pods, {usage_percent} % of CPU and memory asked for"
    return Scenario(title=title, nodes=nodes, replica_sets=tuple(shapes), priority_classes=PRIORITIES)


def _ceil_share(total: int, usage_percent: int, node_count: int) -> int:
    """ceil(total / usage / nodes) in whole numbers."""
    return -(-total * 100 // (usage_percent * node_count))


def node_document(shape: NodeShape) -> Document:
    """The Node object of a simulated node; kwok keeps it Ready."""
    amounts = {
        "cpu": f"{shape.cpu_milli}m",
        "memory": str(shape.memory_bytes),
        "pods": str(shape.pods),
    }
    labels = {DEMO_LABEL: "true", "kubernetes.io/hostname": shape.name, "type": "kwok"}
    if shape.gpus:
        amounts[GPU] = str(shape.gpus)
        labels[GPU_PRODUCT] = shape.gpu_product
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": shape.name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "status": {"allocatable": amounts, "capacity": amounts},
    }


def replica_set_document(shape: ReplicaSetShape, *, scheduler_name: str, namespace: str = NAMESPACE) -> Document:
    """The ReplicaSet object; its pods run on demo nodes only."""
    requests = {"cpu": f"{shape.cpu_milli}m", "memory": str(shape.memory_bytes)}
    resources: Document = {"requests": requests}
    if shape.gpus:
        requests[GPU] = str(shape.gpus)
        resources["limits"] = {GPU: str(shape.gpus)}
    labels = {"app": shape.name}
    spec: Document = {
        "schedulerName": scheduler_name,
        "priorityClassName": shape.priority_class,
        "nodeSelector": {DEMO_LABEL: "true"},
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "containers": [{"name": "main", "image": PAUSE_IMAGE, "resources": resources}],
    }
    if shape.gpu_products:
        spec["affinity"] = {"nodeAffinity": _required_products(shape.gpu_products)}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": shape.name, "namespace": namespace, "labels": {DEMO_LABEL: "true"}},
        "spec": {
            "replicas": shape.replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def _required_products(products: tuple[str, ...]) -> Document:
    expression = {"key": GPU_PRODUCT, "operator": "In", "values": list(products)}
    return {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    }


def priority_class_documents(scenario: Scenario) -> Iterator[Document]:
    """The PriorityClass objects; none of them preempts, for who yields is the plan's decision."""
    for name, value in scenario.priority_classes.items():
        yield {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name, "labels": {DEMO_LABEL: "true"}},
            "value": value,
            "description": "Made by `stowage demo`.",
        }


def policy_document(name: str, *, scheduler_name: str) -> Document:
    """The policy of the demo: acts at once, on demo nodes only, without the caps that protect a live cluster."""
    return {
        "apiVersion": "stowage.dev/v1alpha1",
        "kind": "PackingPolicy",
        "metadata": {"name": name, "labels": {DEMO_LABEL: "true"}},
        "spec": {
            "mode": "Enforce",
            "schedulerNames": [scheduler_name],
            "nodeSelector": {DEMO_LABEL: "true"},
            "steering": "Extender",
            "disruption": {
                "maxMovesPerPlan": 256,
                "maxMovesPerHour": 10000,
                "minPodAge": "0s",
                "ownerSettled": "0s",
                "planTimeout": "5m",
            },
        },
    }
