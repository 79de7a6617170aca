from __future__ import annotations

import json
from typing import Any

import pytest

from stowage_scheduler.cluster import Node, Pod, Rejected, Workload
from stowage_scheduler.kube import dump as dump_module
from stowage_scheduler.kube.dump import Dump, DumpError, read_dump
from stowage_scheduler.kube.redact import redact
from stowage_scheduler.kube.snapshot import assemble

VERSIONS = {"Deployment": "apps/v1", "ReplicaSet": "apps/v1", "PriorityClass": "scheduling.k8s.io/v1"}


def item(kind: str, name: str | None, **fields: Any) -> dict[str, Any]:
    return {"apiVersion": VERSIONS.get(kind, "v1"), "kind": kind, "metadata": {"name": name}, **fields}


def node(name: str = "n1") -> dict[str, Any]:
    return item("Node", name, status={"allocatable": {"cpu": "4", "memory": "8Gi"}})


def pod(name: str, node_name: str | None = "n1", **fields: Any) -> dict[str, Any]:
    return item("Pod", name, spec={"nodeName": node_name, "containers": []}, **fields)


def read(*items: object, kind: str = "List") -> Dump:
    return read_dump(json.dumps({"apiVersion": "v1", "kind": kind, "items": items}).encode())


def rejections(dump: Dump) -> list[tuple[str, str, str]]:
    return [(rejected.kind, rejected.name, rejected.field) for rejected in dump.snapshot.rejected]


def test_reads_a_cluster() -> None:
    policy = {"apiVersion": "stowage.dev/v1alpha1", "kind": "PackingPolicy", "metadata": {"name": "p"}, "spec": {}}
    classes = item("PriorityClass", "high", value=10)
    waiting = item("Pod", "b", spec={"containers": [], "priorityClassName": "high"})
    found = read(waiting, pod("a"), policy, item("Service", "s"), item("Namespace", "default"), node(), classes)
    assert [p.key for p in found.snapshot.pods] == ["default/a", "default/b"]
    assert found.snapshot.pods[1].priority == 10
    assert [n.name for n in found.snapshot.nodes] == ["n1"]
    assert found.snapshot.namespace_labels == {"default": {"kubernetes.io/metadata.name": "default"}}
    assert found.policies == (policy,)
    assert found.snapshot.rejected == ()


def test_items_of_a_typed_list_need_no_kind() -> None:
    items = [{"metadata": {"name": "n1"}, "status": {}}]
    assert [n.name for n in read(*items, kind="NodeList").snapshot.nodes] == ["n1"]


def test_reads_yaml_with_its_times_as_times() -> None:
    text = b"""
kind: List
items:
- {apiVersion: v1, kind: Node, metadata: {name: n1, creationTimestamp: 2026-01-01T00:00:10Z}}
"""
    assert read_dump(text).snapshot == read_dump(text, now=1767225610.0).snapshot


def test_nodes_of_people_take_as_many_pods_as_a_kubelet() -> None:
    full = item("Node", "n2", status={"allocatable": {"pods": "0"}})
    allocatable = {n.name: n.allocatable["pods"] for n in read(node(), full).snapshot.nodes}
    assert allocatable == {"n1": 110, "n2": 0}


@pytest.mark.parametrize(
    ("objects", "now"),
    [
        pytest.param([node()], 0.0, id="no time anywhere"),
        pytest.param(
            [item("Node", "n", metadata={"name": "n", "creationTimestamp": "2026-01-01T00:00:10Z"})], 10, id="born"
        ),
        pytest.param(
            [
                pod(
                    "a",
                    None,
                    status={"conditions": [{"type": "A", "status": "B", "lastTransitionTime": "2026-01-01T00:00:20Z"}]},
                )
            ],
            20,
            id="a change of condition",
        ),
        pytest.param([pod("a", None, status={"startTime": "2026-01-01T00:00:30Z"})], 30, id="a start"),
        pytest.param(
            [
                item("Node", "n", metadata={"name": "n", "creationTimestamp": "2026-01-01T00:00:10Z"}),
                pod("a", None, status={"startTime": "2026-01-01T00:00:05Z"}),
            ],
            10,
            id="the newest of several",
        ),
        pytest.param(
            [item("Pod", "a", metadata={"name": "a", "deletionTimestamp": "2027-01-01T00:00:00Z"}, spec={})],
            0.0,
            id="the end of a grace period lies ahead",
        ),
    ],
)
def test_now_is_the_newest_time_of_the_file(objects: list[dict[str, Any]], now: float) -> None:
    assert read(*objects).snapshot.now == (now and 1767225600.0 + now)


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        pytest.param(
            [pod("a", "gone")], [("Pod", "default/a", "spec.nodeName")], id="a pod on a node that is not there"
        ),
        pytest.param([pod("a", "gone", status={"phase": "Succeeded"})], [], id="a finished one holds nothing"),
        pytest.param([node(), node()], [("Node", "n1", "metadata.name")], id="two nodes of one name"),
        pytest.param([node(), pod("a"), pod("a")], [("Pod", "default/a", "metadata.name")], id="two pods of one name"),
        pytest.param(
            [pod("a", None, metadata={"name": "a", "uid": "1"}), pod("b", None, metadata={"name": "b", "uid": "1"})],
            [("Pod", "default/b", "metadata.uid")],
            id="two pods of one UID",
        ),
        pytest.param([item("Pod", None, spec={})], [("Pod", "items[0]", "metadata.name")], id="a pod without a name"),
        pytest.param([{"apiVersion": "v1"}], [("?", "items[0]", "kind")], id="an item without a kind"),
        pytest.param([node(), 5], [("?", "items[1]", "kind")], id="an item that is no object"),
        pytest.param([item("Nodde", "n1")], [("Nodde", "default/n1", "kind")], id="a kind with a typing error"),
        pytest.param(
            [{"apiVersion": "batch.volcano.sh/v1alpha1", "kind": "Job", "metadata": {"name": "j"}}],
            [("Job", "default/j", "kind")],
            id="a kind of somebody else",
        ),
        pytest.param([item("Pod", "a")], [("Pod", "default/a", "object")], id="a pod without a spec"),
    ],
)
def test_what_does_not_hold_together_is_left_out_and_listed(
    objects: list[object], expected: list[tuple[str, str, str]]
) -> None:
    assert rejections(read(*objects)) == expected


def test_a_string_of_10_mb_costs_only_its_object() -> None:
    found = read(node(), item("Pod", "a" * 10_000_000, spec={}), pod("b"))
    assert [p.name for p in found.snapshot.pods] == ["b"]
    (rejected,) = found.snapshot.rejected
    assert len(rejected.name) <= 100
    assert "10000" in rejected.value


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "empty", id="nothing"),
        pytest.param(b'{"kind": "List", "items": [{"kind":', "complete JSON", id="a file that was cut off"),
        pytest.param(b"[]", "no Kubernetes List", id="a list of JSON"),
        pytest.param(b"hello", "no Kubernetes List", id="a word"),
        pytest.param(b'{"kind": "Pod", "metadata": {"name": "a"}}', "holds one Pod", id="a single object"),
        pytest.param(b'{"kind": "List"}', "has no items", id="a List without items"),
        pytest.param(b'{"kind": "List", "items": {}}', "no Kubernetes List", id="items that are no list"),
        pytest.param(b'{"kind": "List", "items": ' + b"[" * 10**5, "recursion", id="brackets without end"),
        pytest.param(b"\xfa\xfb", "neither JSON nor YAML", id="bytes of no encoding"),
        pytest.param(b"a: &a [x]\nb: [*a, *a]", "aliases", id="anchors in YAML"),
        pytest.param(b"[" * 1000, "no Kubernetes List", id="brackets of JSON"),
        pytest.param(b"- " * 1000, "nested deeper", id="dashes of YAML"),
        pytest.param(b"kind: List\nkind: [", "neither JSON nor YAML", id="broken YAML"),
    ],
)
def test_a_file_that_is_no_dump_is_told_in_one_line(data: bytes, message: str) -> None:
    with pytest.raises(DumpError, match=message) as caught:
        read_dump(data)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


def test_a_file_that_is_too_large_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dump_module, "LARGEST_DUMP_BYTES", 10)
    with pytest.raises(DumpError, match="11 bytes; at most 10"):
        read_dump(b'{"kind": ""')


def test_replica_sets_learn_whether_they_are_the_newest() -> None:
    owner = [{"kind": "Deployment", "name": "web", "uid": "d", "controller": True}]

    def replica_set(name: str, revision: str) -> dict[str, Any]:
        annotations = {"deployment.kubernetes.io/revision": revision}
        return item("ReplicaSet", name, metadata={"name": name, "ownerReferences": owner, "annotations": annotations})

    deployment = item("Deployment", "web")
    deployment["metadata"] |= {"uid": "d", "annotations": {"deployment.kubernetes.io/revision": "10"}}
    sets = [replica_set("old", "9"), replica_set("new", "10")]
    with_deployment = {w.name: w.newest for w in read(*sets, deployment).snapshot.workloads}
    alone = {w.name: w.newest for w in read(*sets).snapshot.workloads}
    assert with_deployment == {"web": True, "old": False, "new": True}
    assert alone == {"old": True, "new": True}


def test_assembling_facts_keeps_what_was_rejected_before() -> None:
    before = Rejected("Pod", "a/b", "spec", "", "it must be readable")
    workload = Workload("ReplicaSet", "ns", "w", "u")
    snapshot = assemble(
        1.0, nodes=[Node("n1", {})], pods=[Pod("ns", "p", "v", {}, node="n1")], workloads=[workload], rejected=[before]
    )
    assert (snapshot.now, snapshot.workloads, snapshot.rejected) == (1.0, (workload,), (before,))


def test_a_redacted_dump_packs_the_same_and_keeps_no_secrets() -> None:
    secret = "s3cr3t"  # noqa: S105 - what must not be found again
    container = {
        "name": "c",
        "image": secret,
        "command": [secret],
        "args": [secret],
        "env": [{"name": "A", "value": secret}],
        "envFrom": [{"secretRef": {"name": secret}}],
        "resources": {"requests": {"cpu": "1"}},
    }
    running = item("Pod", "a")
    running["metadata"] |= {
        "managedFields": [{"manager": secret}],
        "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": secret,
            "stowage.dev/do-not-disrupt": "true",
            "kubernetes.io/config.mirror": "x",
        },
        "creationTimestamp": "2026-01-01T00:00:10Z",
    }
    running["spec"] = {
        "nodeName": "n1",
        "containers": [container],
        "imagePullSecrets": [{"name": secret}],
        "volumes": [{"name": "v", "secret": {"secretName": secret}}, {"name": "e", "emptyDir": {}}],
        "schedulingGates": [{"name": "g"}],
    }
    policy = {
        "apiVersion": "stowage.dev/v1alpha1",
        "kind": "PackingPolicy",
        "metadata": {"name": "p"},
        "spec": {"a": 1},
    }
    broken = item("Pod", "broken", spec={"containers": secret})
    secrets = item("Secret", "x", data={"password": secret})
    document = {"apiVersion": "v1", "kind": "List", "items": [running, node(), policy, broken, secrets]}
    redacted = redact(document)
    assert secret not in json.dumps(redacted)
    before, after = read_dump(json.dumps(document).encode()), read_dump(json.dumps(redacted).encode())
    assert after.snapshot.pods == before.snapshot.pods
    assert after.snapshot.pods[0].annotations == {"stowage.dev/do-not-disrupt": "true"}
    assert after.snapshot.nodes == before.snapshot.nodes
    assert after.policies[0]["spec"] == {"a": 1}
    assert [i["kind"] for i in redacted["items"]] == ["Pod", "Node", "PackingPolicy", "Pod"]


def test_redacting_a_single_object_keeps_its_name() -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "labels": {}}, "data": {"x": "y"}}
    assert redact(secret) == {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}
