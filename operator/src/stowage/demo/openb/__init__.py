"""The openb trace as a demo workload; SOURCE.md says where the rows come from and what is made of them."""

from __future__ import annotations

import csv
from collections import Counter
from importlib import resources

from stowage.demo.workload import NodeShape, ReplicaSetShape, Scenario

MEBIBYTE = 1024 * 1024
PRIORITIES = {"demo-best-effort": 100, "demo-burstable": 200, "demo-latency-sensitive": 300, "demo-guaranteed": 400}
_CLASS_OF_QOS = {
    "BE": "demo-best-effort",
    "Burstable": "demo-burstable",
    "LS": "demo-latency-sensitive",
    "Guaranteed": "demo-guaranteed",
}

Row = dict[str, str]


def openb_scenario() -> Scenario:
    """The 64-node cut that comes with the package."""
    nodes, pods = _rows("nodes.csv"), _rows("pods.csv")
    gpus = sum(int(row["gpu"]) for row in nodes)
    asked = sum(int(row["num_gpu"]) for row in pods)
    return Scenario(
        title=f"openb trace: {len(nodes)} nodes with {gpus} GPUs, {len(pods)} pods that ask for {asked} GPUs",
        nodes=tuple(node_shape(row) for row in nodes),
        replica_sets=replica_set_shapes(pods),
        priority_classes=PRIORITIES,
        shown_resource="nvidia.com/gpu",
    )


def node_shape(row: Row) -> NodeShape:
    """A node of the trace; its GPU model becomes the label that NVIDIA's device plugin sets."""
    return NodeShape(
        name=row["sn"],
        cpu_milli=int(row["cpu_milli"]),
        memory_bytes=int(row["memory_mib"]) * MEBIBYTE,
        gpus=int(row["gpu"]),
        gpu_product=row["model"],
    )


def replica_set_shapes(pods: list[Row]) -> tuple[ReplicaSetShape, ...]:
    """Pods that ask for the same become replicas of one ReplicaSet, in order of the first of them.

    A share of a GPU counts as a whole one.
    """
    demands = Counter(
        (row["cpu_milli"], row["memory_mib"], row["num_gpu"], row["gpu_spec"], row["qos"]) for row in pods
    )
    return tuple(
        ReplicaSetShape(
            name=f"openb-{index:03d}",
            replicas=replicas,
            priority_class=_CLASS_OF_QOS[qos],
            cpu_milli=int(cpu_milli),
            memory_bytes=int(memory_mib) * MEBIBYTE,
            gpus=int(gpus),
            gpu_products=tuple(product for product in gpu_spec.split("|") if product),
        )
        for index, ((cpu_milli, memory_mib, gpus, gpu_spec, qos), replicas) in enumerate(demands.items())
    )


def _rows(name: str) -> list[Row]:
    text = resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
