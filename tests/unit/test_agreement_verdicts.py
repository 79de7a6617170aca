"""When two opinions about a pod agree, differ, or differ for a known reason."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest
from msgspec.json import encode
from msgspec.structs import replace

from harness.agreement.cases import state
from harness.agreement.comparison import Verdict, verdict
from harness.agreement.readings import (
    ATTACHED,
    NAMESPACE_SELECTOR,
    NOT_READY,
    ONE_NODE,
    World,
    as_kube_scheduler_reads,
    attached_already,
    world,
)
from stowage_scheduler.cluster import LabelSelector, PodAffinityTerm, Requirement
from stowage_scheduler.feasibility import feasible_nodes
from stowage_scheduler.kube.decode import decode_object
from stowage_scheduler.kube.facts import KubernetesObject
from stowage_scheduler.kube.volume_objects import PersistentVolumeClaim
from unit.builders import node, pod, snapshot

CASE = state(0).cases[0]
TERM = PodAffinityTerm("zone", LabelSelector((("app", "db"),)), ("team",))
WITHOUT_ENV = LabelSelector((), (Requirement("env", "DoesNotExist"),))


@pytest.mark.parametrize(
    ("selector", "read_as"),
    [
        (None, None),
        (LabelSelector((("env", "prod"),)), LabelSelector((("env", "prod"),))),
        (WITHOUT_ENV, LabelSelector()),
        (LabelSelector((), (Requirement("env", "NotIn", ("test",)),)), LabelSelector()),
    ],
    ids=["none", "wants a label", "wants no label", "wants no value"],
)
def test_selector_of_namespaces_is_misread_where_it_takes_a_namespace_without_labels(
    selector: LabelSelector | None, read_as: LabelSelector | None
) -> None:
    term = replace(TERM, namespace_selector=selector)
    read = as_kube_scheduler_reads(pod("p", affinity_terms=(term,), anti_affinity_terms=(term,)))
    expected = replace(TERM, namespace_selector=read_as)
    assert read.affinity_terms == read.anti_affinity_terms == (expected,)


NODES = (node("n1", labels={"zone": "a"}), node("n2", labels={"zone": "b"}), node("n3", ready=False))


def judged(passed: set[str], **fields: Any) -> Verdict:
    def look(readings: Collection[str]) -> World:
        seeker = pod("p", **fields)
        if NAMESPACE_SELECTOR in readings:
            seeker = as_kube_scheduler_reads(seeker)
        resident = pod("r", "n1", cpu=1, namespace="other", labels={"app": "db"})
        seen = snapshot(*NODES, resident, seeker)
        labels = {"other": {"env": "prod"}, "team": {"env": "test"}}
        return World(replace(seen, namespace_labels=labels), seeker, frozenset({"n1"} if ATTACHED in readings else ()))

    return verdict(CASE, look, frozenset(passed), whole=True)


def test_same_nodes_are_no_finding() -> None:
    assert judged({"n1", "n2"}) == Verdict(CASE, 2, 3)


def test_node_that_is_not_ready_is_explained() -> None:
    assert judged({"n1", "n2", "n3"}) == Verdict(CASE, 3, 3, explained=(NOT_READY,))


def test_node_too_many_and_node_missing_are_found() -> None:
    too_many = judged({"n2"}).findings
    assert [finding.partition(":")[0] for finding in too_many[:2]] == ["rules", "packer, node by node"]
    assert "too many ['n1'], missing []" in too_many[0]
    assert "too many [], missing ['n2']" in judged({"n1", "n2"}, node_selector={"zone": "a"}).findings[0]


def test_choice_where_there_is_none_is_found() -> None:
    assert any("whole packing chooses" in finding for finding in judged(set()).findings)


def test_misread_selector_is_explained_and_nothing_else_is() -> None:
    term = replace(TERM, topology_key="zone", namespaces=(), namespace_selector=WITHOUT_ENV)
    assert judged({"n2"}, anti_affinity_terms=(term,)).explained == (NAMESPACE_SELECTOR,)
    assert judged({"n1"}, anti_affinity_terms=(term,)).findings


def test_node_that_counts_an_attachment_again_is_explained_where_it_is_missing_alone() -> None:
    assert judged({"n1", "n2"}, cpu=10).explained == (ATTACHED,)
    assert judged({"n1"}, cpu=10).findings
    assert judged({"n1", "n2"}, cpu=11).findings


def obj(kind: str, name: str, namespace: str | None = "team", **fields: Any) -> KubernetesObject:
    metadata = {"name": name, "uid": f"{kind}-{name}", **({"namespace": namespace} if namespace else {})}
    return decode_object(kind, encode({"metadata": metadata, **fields}))


def pod_with_claim(name: str, node_name: str | None) -> KubernetesObject:
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "claim"}}]
    spec = {"containers": [{"name": "main"}], "volumes": volumes, **({"nodeName": node_name} if node_name else {})}
    return obj("Pod", name, spec=spec)


def storage(mode: str) -> list[KubernetesObject]:
    claim = obj("PersistentVolumeClaim", "claim", spec={"accessModes": [mode], "volumeName": "volume"})
    assert isinstance(claim, PersistentVolumeClaim)
    claim = replace(claim, metadata=replace(claim.metadata, annotations={"pv.kubernetes.io/bind-completed": "yes"}))
    csi = {"driver": "disk.example.com", "volumeHandle": "handle"}
    reference = {"namespace": "team", "name": "claim"}
    spec = {"accessModes": [mode], "csi": csi, "claimRef": reference, "capacity": {"storage": "1Gi"}}
    return [claim, obj("PersistentVolume", "volume", None, spec=spec, status={"phase": "Bound"})]


def machine(name: str) -> KubernetesObject:
    return obj("Node", name, None, status={"allocatable": {"cpu": "4", "pods": "10"}})


def test_world_has_one_pod_that_waits() -> None:
    raws = [machine("n1"), *(pod_with_claim(name, None) for name in "abc"), pod_with_claim("runs", "n1")]
    seen = world(raws, "b")
    assert [one.name for one in seen.snapshot.pods] == ["b", "runs"]
    assert seen.pod.name == "b"


@pytest.mark.parametrize(
    ("mode", "readings", "nodes"),
    [
        ("ReadWriteOnce", (), {"n1"}),
        ("ReadWriteOnce", (ONE_NODE,), {"n1", "n2"}),
        ("ReadWriteMany", (), {"n1", "n2"}),
        ("ReadWriteOncePod", (ONE_NODE,), set()),
    ],
    ids=["follows its volume", "read as kube-scheduler does", "may be anywhere", "is for one pod in any reading"],
)
def test_volume_of_one_node_is_read_as_one_of_many(mode: str, readings: tuple[str, ...], nodes: set[str]) -> None:
    raws = [machine("n1"), machine("n2"), *storage(mode), pod_with_claim("runs", "n1"), pod_with_claim("waits", None)]
    seen = world(raws, "waits", readings)
    assert feasible_nodes(seen.snapshot, seen.pod) == nodes


def test_nodes_with_the_volume_already() -> None:
    raws = [*storage("ReadWriteMany"), pod_with_claim("runs", "n1"), pod_with_claim("waits", None), machine("n2")]
    assert attached_already(raws) == {"n1"}
    assert attached_already(raws[:3]) == frozenset()
