"""The demo's workloads: form, capacity, and that the cut of the trace is what its note says."""

from __future__ import annotations

import csv
import json
from collections import Counter
from importlib import resources

import pytest

from stowage.api.packing_policy import PackingPolicy
from stowage.demo.openb import openb_scenario, replica_set_shapes
from stowage.demo.workload import (
    GPU,
    ReplicaSetShape,
    node_document,
    policy_document,
    priority_class_documents,
    priority_matters,
    replica_set_document,
)
from stowage_scheduler.kube.dump import read_dump


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("usage", [90, 95, 105])
def test_the_random_workload_has_the_published_form(seed: int, usage: int) -> None:
    scenario = priority_matters(node_count=32, pods_per_node=8, usage_percent=usage, seed=seed)

    assert scenario.pod_count == 256
    assert len({(node.cpu_milli, node.memory_bytes) for node in scenario.nodes}) == 1, "nodes must be identical"
    assert all(1 <= one.replicas <= 4 for one in scenario.replica_sets)
    assert all(100 <= one.cpu_milli <= 1000 for one in scenario.replica_sets)
    assert {one.priority_class for one in scenario.replica_sets} == set(scenario.priority_classes)
    asked = sum(one.cpu_milli * one.replicas for one in scenario.replica_sets)
    offered = sum(node.cpu_milli for node in scenario.nodes)
    # capacity is rounded up by less than one milli-CPU per node
    assert 0 <= offered - asked * 100 / usage < len(scenario.nodes)


def test_the_seed_makes_the_workload() -> None:
    def made(seed: int) -> object:
        return priority_matters(node_count=4, pods_per_node=4, usage_percent=95, seed=seed)

    assert made(1) == made(1)
    assert made(1) != made(2)


def test_objects_of_both_scenarios_read_without_a_complaint() -> None:
    for scenario in (priority_matters(node_count=4, pods_per_node=4, usage_percent=95, seed=1), openb_scenario()):
        items = [
            *(node_document(shape) for shape in scenario.nodes),
            *priority_class_documents(scenario),
            *(replica_set_document(shape, scheduler_name="stowage") for shape in scenario.replica_sets),
        ]
        snapshot = read_dump(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}).encode()).snapshot
        assert snapshot.rejected == ()
        assert len(snapshot.nodes) == len(scenario.nodes)
        assert len(snapshot.workloads) == len(scenario.replica_sets)


def test_the_policy_is_valid_and_covers_demo_nodes_only() -> None:
    policy = PackingPolicy.parse(policy_document("demo", scheduler_name="stowage"))
    assert policy.spec.mode == "Enforce"
    assert policy.spec.not_supported() == ()
    labels = node_document(openb_scenario().nodes[0])["metadata"]["labels"]
    assert policy.spec.node_selector
    assert policy.spec.node_selector.items() <= labels.items()


def test_the_cut_is_small_and_asks_for_less_than_there_is() -> None:
    scenario = openb_scenario()
    offered = Counter({"cpu": sum(n.cpu_milli for n in scenario.nodes), GPU: sum(n.gpus for n in scenario.nodes)})
    asked = Counter(
        {
            "cpu": sum(one.cpu_milli * one.replicas for one in scenario.replica_sets),
            GPU: sum(one.gpus * one.replicas for one in scenario.replica_sets),
        }
    )
    assert len(scenario.nodes) == 64
    assert 0.9 < asked["cpu"] / offered["cpu"] <= 0.95
    assert 0.9 < asked[GPU] / offered[GPU] <= 0.97
    folder = resources.files("stowage.demo.openb")
    assert sum(len(folder.joinpath(name).read_bytes()) for name in ("nodes.csv", "pods.csv")) < 200_000
    assert "Apache License" in folder.joinpath("LICENSE").read_text()
    note = folder.joinpath("SOURCE.md").read_text()
    rows = len(list(csv.DictReader(folder.joinpath("pods.csv").read_text().splitlines())))
    assert f"({rows} of 8,152 pods)" in note
    assert rows == scenario.pod_count, "every row of the cut must become one pod"


def test_rows_become_replicas_whole_gpus_and_required_models() -> None:
    row = {"cpu_milli": "4000", "memory_mib": "1024", "num_gpu": "1", "gpu_milli": "460", "gpu_spec": "", "qos": "LS"}
    shapes = replica_set_shapes([row, {**row, "gpu_milli": "1000"}, {**row, "gpu_spec": "V100M16|V100M32"}])

    assert shapes == (
        ReplicaSetShape("openb-000", 2, "demo-latency-sensitive", 4000, 1024**3, 1),
        ReplicaSetShape("openb-001", 1, "demo-latency-sensitive", 4000, 1024**3, 1, ("V100M16", "V100M32")),
    )
    spec = replica_set_document(shapes[1], scheduler_name="stowage")["spec"]["template"]["spec"]
    (term,) = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [
        {"key": "nvidia.com/gpu.product", "operator": "In", "values": ["V100M16", "V100M32"]}
    ]
    assert spec["containers"][0]["resources"]["limits"] == {GPU: "1"}
