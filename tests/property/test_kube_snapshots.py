"""Whatever a file holds, reading it ends in a snapshot or in one line, and order carries no meaning."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from stowage_scheduler.cluster import Snapshot
from stowage_scheduler.kube.dump import DumpError, read_dump
from stowage_scheduler.kube.redact import redact

NAMES = st.sampled_from(["a", "b", "c"])
AMOUNTS = st.sampled_from(["0", "1", "500m", "1.5Gi", 2, 0.5, "-1", "x", "1e99"])
RESOURCES = st.dictionaries(st.sampled_from(["cpu", "memory", "a.b/gpu", "odd"]), AMOUNTS, max_size=2)
NODES = st.builds(
    lambda name, amounts, label: {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"zone": label}},
        "status": {"allocatable": amounts},
    },
    NAMES,
    RESOURCES,
    NAMES,
)
PODS = st.builds(
    lambda name, uid, node, amounts, phase, priority: {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **({"uid": uid} if uid else {})},
        "spec": {
            "nodeName": node,
            "priorityClassName": priority,
            "containers": [{"name": "c", "resources": {"requests": amounts}, "env": [{"name": "A", "value": "B"}]}],
        },
        "status": {"phase": phase},
    },
    NAMES,
    st.none() | NAMES,
    st.none() | NAMES,
    RESOURCES,
    st.sampled_from(["Pending", "Running", "Succeeded"]),
    st.none() | NAMES,
)
CLASSES = st.builds(
    lambda name, value, default: {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": name},
        "value": value,
        "globalDefault": default,
    },
    NAMES,
    st.integers(-5, 5),
    st.booleans(),
)
OTHERS = st.builds(
    lambda version, kind, name: {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": {}},
    st.sampled_from(["v1", "apps/v1", "foo/v1"]),
    st.sampled_from(["Service", "ReplicaSet", "Deployment", "Namespace", "Foo"]),
    NAMES,
)
ITEMS = st.lists(NODES | PODS | CLASSES | OTHERS, max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def encoded(items: list[dict[str, Any]]) -> bytes:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}).encode()


def snapshot(items: list[dict[str, Any]]) -> Snapshot:
    return read_dump(encoded(items)).snapshot


def survives(data: bytes) -> None:
    """Reads a file; anything but a snapshot of sound facts or a DumpError fails the test."""
    try:
        found = read_dump(data).snapshot
    except DumpError:
        return
    nodes = {node.name for node in found.nodes}
    assert all(pod.finished or pod.node is None or pod.node in nodes for pod in found.pods)
    assert len({pod.uid for pod in found.pods}) == len(found.pods)
    assert all(amount >= 0 for pod in found.pods for amount in pod.requests.values())
    assert all(len(text) <= 100 for rejected in found.rejected for text in msgspec.structs.astuple(rejected))


@given(ITEMS, st.randoms(use_true_random=False))
def test_the_order_of_objects_carries_no_meaning(items: list[dict[str, Any]], generator: random.Random) -> None:
    shuffled = generator.sample(items, len(items))
    assert snapshot(shuffled) == snapshot(items)


@given(ITEMS)
def test_nothing_is_lost_without_being_told(items: list[dict[str, Any]]) -> None:
    found = snapshot(items)
    facts = len(found.nodes) + len(found.pods) + len(found.workloads) + len(found.priority_classes)
    silent = sum(
        (item["kind"] == "Service" and item["apiVersion"] != "foo/v1")
        or item["kind"] == "Namespace"
        or (item["kind"] == "Pod" and item["status"]["phase"] == "Succeeded")
        for item in items
    )
    assert facts + len(found.rejected) <= len(items)
    assert facts + len(found.rejected) >= len(items) - silent


@given(ITEMS)
def test_redacting_changes_no_fact(items: list[dict[str, Any]]) -> None:
    document = redact({"apiVersion": "v1", "kind": "List", "items": items})
    before, after = snapshot(items), read_dump(json.dumps(document).encode()).snapshot
    assert msgspec.structs.replace(after, rejected=()) == msgspec.structs.replace(before, rejected=())
    assert b'"env"' not in json.dumps(document).encode()


@given(st.binary(max_size=200))
def test_reads_or_refuses_any_bytes(data: bytes) -> None:
    survives(data)


@given(JSON, st.sampled_from(["List", "PodList", "NodeList", "Pod"]))
def test_reads_or_refuses_any_json(value: object, kind: str) -> None:
    survives(json.dumps(value).encode())
    survives(json.dumps({"kind": kind, "items": value}).encode())
    survives(json.dumps({"kind": kind, "items": [value, {"kind": "Pod", "metadata": value, "spec": value}]}).encode())


@given(ITEMS, st.integers(min_value=0), st.binary(max_size=3), st.integers(0, 3))
def test_reads_or_refuses_a_damaged_file(items: list[dict[str, Any]], place: int, patch: bytes, cut: int) -> None:
    data = encoded(items)
    place %= len(data)
    survives(data[:place] + patch + data[place + cut :])


@given(ITEMS.filter(bool), st.data())
def test_a_broken_value_costs_at_most_its_own_object(items: list[dict[str, Any]], data: st.DataObject) -> None:
    part: Any = data.draw(st.sampled_from(items))
    while isinstance(part, dict) and part:
        key = data.draw(st.sampled_from(sorted(part)))
        if not isinstance(part[key], dict) or data.draw(st.booleans()):
            part[key] = data.draw(JSON)
            break
        part = part[key]
    survives(encoded(items))
