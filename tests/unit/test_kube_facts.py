from __future__ import annotations

from typing import Any

import msgspec
import pytest

from stowage_scheduler.cluster import (
    DisruptionBudget,
    Effect,
    LabelSelector,
    Node,
    PriorityClass,
    Taint,
    Workload,
)
from stowage_scheduler.health import NodeCondition
from stowage_scheduler.kube.decode import decode_object
from stowage_scheduler.kube.facts import Fact, Namespace, fact_of
from stowage_scheduler.kube.malformed import MalformedObject


def read(kind: str, **document: Any) -> Fact:
    return fact_of(decode_object(kind, msgspec.json.encode({"metadata": {"name": "x"}, **document})))


def test_reads_a_node() -> None:
    node = read(
        "Node",
        metadata={"name": "n1", "uid": "u1", "labels": {"zone": "a"}, "creationTimestamp": "2026-01-01T00:00:10Z"},
        spec={"taints": [{"key": "gpu", "effect": "NoSchedule"}], "unschedulable": True},
        status={
            "capacity": {"cpu": "9"},
            "allocatable": {"cpu": "3920m", "memory": "1Gi", "pods": "110", "a.b/c": 2, "odd": "7"},
            "conditions": [{"type": "Ready", "status": "Unknown"}],
        },
    )
    assert node == Node(
        name="n1",
        allocatable={"cpu": 3920, "memory": 2**30, "pods": 110, "a.b/c": 2},
        labels={"zone": "a"},
        taints=(Taint("gpu", Effect.NO_SCHEDULE),),
        unschedulable=True,
        ready=False,
        uid="u1",
        created_at=1767225610.0,
        conditions=(NodeCondition("Ready", "Unknown"),),
    )


def test_a_node_offers_its_capacity_where_nothing_is_said_and_counts_as_ready() -> None:
    assert read("Node", status={"capacity": {"cpu": 4}}) == Node("x", {"cpu": 4000}, uid="x")


@pytest.mark.parametrize(
    ("document", "field"),
    [
        pytest.param({"status": {"allocatable": {"cpu": "-1"}}}, "status.allocatable[cpu]", id="negative"),
        pytest.param({"status": {"capacity": {"memory": "1Zi"}}}, "status.capacity[memory]", id="no quantity"),
        pytest.param({"spec": {"taints": [{"key": "a", "effect": "Nope"}]}}, "spec.taints[].effect", id="odd taint"),
    ],
)
def test_refuses_a_node(document: dict[str, Any], field: str) -> None:
    with pytest.raises(MalformedObject) as caught:
        read("Node", **document)
    assert caught.value.rejected.field == field


@pytest.mark.parametrize(
    ("document", "selector", "allowed", "fresh"),
    [
        pytest.param({"spec": {"selector": {}}}, LabelSelector(), 0, False, id="no status allows nothing"),
        pytest.param({"spec": {}}, None, 0, False, id="no selector"),
        pytest.param(
            {
                "metadata": {"name": "x", "generation": 2},
                "spec": {"selector": {"matchLabels": {"b": "2", "a": "1"}}},
                "status": {"disruptionsAllowed": 1, "observedGeneration": 2},
            },
            LabelSelector((("a", "1"), ("b", "2"))),
            1,
            True,
            id="a budget that is up to date",
        ),
        pytest.param(
            {"metadata": {"name": "x", "generation": 3}, "status": {"disruptionsAllowed": 1, "observedGeneration": 2}},
            None,
            1,
            False,
            id="a status of an older spec",
        ),
    ],
)
def test_reads_a_budget(document: dict[str, Any], selector: LabelSelector | None, allowed: int, fresh: bool) -> None:
    budget = read("PodDisruptionBudget", **document)
    assert budget == DisruptionBudget("default", "x", "default/x", selector, allowed, fresh)


def test_reads_priority_classes_and_namespaces() -> None:
    assert read("PriorityClass", value=10, globalDefault=True) == PriorityClass("x", 10, is_default=True)
    labels = {"a": "b", "kubernetes.io/metadata.name": "x"}
    assert read("Namespace", metadata={"name": "x", "labels": {"a": "b"}}) == Namespace("x", labels)


def settled(**status: Any) -> dict[str, Any]:
    return {"observedGeneration": 3, **status}


@pytest.mark.parametrize(
    ("kind", "spec", "status", "rolling"),
    [
        pytest.param("Deployment", {}, None, False, id="no status at all counts as settled"),
        pytest.param("Deployment", {}, {}, True, id="a spec that the controller has not seen"),
        pytest.param("Deployment", {}, settled(replicas=3, updatedReplicas=2), True, id="old replicas are left"),
        pytest.param("Deployment", {"replicas": 9}, settled(replicas=3, updatedReplicas=3), False, id="scaling up"),
        pytest.param(
            "Deployment",
            {"replicas": 3},
            settled(replicas=3, updatedReplicas=3, availableReplicas=1),
            False,
            id="replicas that wait for a place are no roll-out",
        ),
        pytest.param("StatefulSet", {}, settled(currentRevision="a", updateRevision="a"), False, id="one revision"),
        pytest.param("StatefulSet", {}, settled(currentRevision="a", updateRevision="b"), True, id="two revisions"),
        pytest.param(
            "StatefulSet",
            {"replicas": 4, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 3}}},
            settled(currentRevision="a", updateRevision="b", updatedReplicas=1),
            False,
            id="a partitioned roll-out that is as far as it goes",
        ),
        pytest.param(
            "StatefulSet",
            {"updateStrategy": {"type": "OnDelete"}},
            settled(currentRevision="a", updateRevision="b", updatedReplicas=1),
            True,
            id="an eviction would update the pod",
        ),
        pytest.param("ReplicaSet", {}, {}, False, id="a ReplicaSet knows one template"),
    ],
)
def test_roll_outs(kind: str, spec: dict[str, Any], status: dict[str, Any] | None, rolling: bool) -> None:
    workload = read(kind, metadata={"name": "x", "generation": 3}, spec=spec, status=status)
    assert isinstance(workload, Workload)
    assert (workload.kind, workload.rolling_out) == (kind, rolling)


@pytest.mark.parametrize(
    ("kind", "spec", "replicas"),
    [
        pytest.param("ReplicaSet", {"replicas": 0}, 0, id="none wanted"),
        pytest.param("Deployment", {}, 1, id="one by default"),
        pytest.param("Job", {"parallelism": 3}, 3, id="side by side in a Job"),
        pytest.param("DaemonSet", {}, None, id="one on each node"),
    ],
)
def test_desired_replicas(kind: str, spec: dict[str, Any], replicas: int | None) -> None:
    workload = read(kind, spec=spec)
    assert isinstance(workload, Workload)
    assert (workload.replicas, workload.uid) == (replicas, f"{kind}/default/x")


def test_refuses_negative_replicas() -> None:
    with pytest.raises(MalformedObject, match=r"ReplicaSet default/x: spec\.replicas is '-1'"):
        read("ReplicaSet", spec={"replicas": -1})


DISRUPTED = {"onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}


def codes(action: str, operator: str, *values: int) -> dict[str, Any]:
    return {"action": action, "onExitCodes": {"operator": operator, "values": list(values)}}


@pytest.mark.parametrize(
    ("rules", "ignores"),
    [
        pytest.param([], False, id="no policy"),
        pytest.param([{"action": "Ignore", **DISRUPTED}], True, id="disruption is ignored"),
        pytest.param(
            [{"action": "Count", **DISRUPTED}, {"action": "Ignore", **DISRUPTED}], False, id="first rule wins"
        ),
        pytest.param([codes("FailJob", "In", 42), {"action": "Ignore", **DISRUPTED}], True, id="a code of the program"),
        pytest.param([codes("FailJob", "In", 143), {"action": "Ignore", **DISRUPTED}], False, id="the code of a kill"),
        pytest.param([codes("Count", "NotIn", 1), {"action": "Ignore", **DISRUPTED}], False, id="nearly every code"),
        pytest.param([{"action": "Ignore", "onPodConditions": [{"type": "Other"}]}], False, id="another condition"),
    ],
)
def test_jobs_that_do_not_count_evictions(rules: list[dict[str, Any]], ignores: bool) -> None:
    job = read("Job", spec={"podFailurePolicy": {"rules": rules}})
    assert isinstance(job, Workload)
    assert job.ignores_disruption is ignores
