"""`stowage why`: the rules that cannot hold together, help, and what is looked at in small and in large clusters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stowage.cli import run

Document = dict[str, Any]
SSD = {"disk": "ssd"}


def node(name: str, cpu: str = "4", **labels: str) -> Document:
    status = {"allocatable": {"cpu": cpu, "pods": "110"}, "conditions": [{"type": "Ready", "status": "True"}]}
    metadata = {"name": name, "labels": {"kubernetes.io/hostname": name, **labels}}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": status}


def pod(name: str, cpu: str, on: str | None = None, priority: int = 0, **spec: Any) -> Document:
    app = name.rpartition("-")[0]
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": app, "uid": f"rs-{app}", "controller": True}
    metadata = {"name": name, "namespace": "a", "uid": f"uid-{name}", "labels": {"app": app}}
    containers = [{"name": "main", "resources": {"requests": {"cpu": cpu}}}]
    placed = {"nodeName": on} if on else {}
    waits = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**metadata, "ownerReferences": [owner], "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"containers": containers, "priority": priority, **placed, **spec},
        "status": {"phase": "Running"} if on else {"phase": "Pending", "conditions": [waits]},
    }


def budget(app: str, allowed: int) -> Document:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": app, "namespace": "a", "uid": f"pdb-{app}", "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": app}}, "minAvailable": 1},
        "status": {"disruptionsAllowed": allowed, "observedGeneration": 1},
    }


BUDGET = [
    node("n1"),
    node("n2", "2"),
    pod("web-1", "1", on="n1"),
    budget("web", allowed=0),
    pod("new-1", "4"),
]
# full of pods of one size: two halves free on two nodes, and nothing to make one whole of them with one move
FULL = [node(f"n{number}") for number in range(1, 4)]
FULL += [pod(f"x-{number}", "3", on=f"n{number}") for number in range(1, 4)]
FULL += [pod("new-1", "2")]


@pytest.fixture
def ask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Asks why of a pod of a dump; the exit code, the JSON answer, and the text."""

    def asked(items: list[Document], what: str, *arguments: str) -> tuple[int, Document, str]:
        file = tmp_path / "dump.json"
        file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
        code = run(["why", what, "-f", str(file), "-o", "json", *arguments])
        document = json.loads(capsys.readouterr().out)
        assert run(["why", what, "-f", str(file), *arguments]) == code
        return code, document, capsys.readouterr().out

    return asked


def test_a_budget_that_keeps_a_pod_is_named(ask: Any) -> None:
    code, document, text = ask(BUDGET, "pod/a/new-1")

    assert (code, document["state"], document["reason"]) == (1, "Pending", "InsufficientCpu")
    assert [(one["rule"], one["subject"]) for one in document["conflict"]] == [
        ("Resource", "cpu"),
        ("PodDisruptionBudget", "a/web"),
    ]
    wait = "wait until PodDisruptionBudget a/web allows a disruption: then a/web-1 moves from node n1 to n2"
    assert document["help"] == document["helps"][0]["text"] == wait
    assert document["helps"][0]["kind"] == "Wait"
    assert f"what would help: {wait}\n" in text
    assert "    - PodDisruptionBudget a/web allows none now: it keeps 1 pod, like a/web-1\n" in text


def test_a_namespace_may_stand_before_the_name_or_in_an_option(ask: Any) -> None:
    assert ask(BUDGET, "pod/a/new-1") == ask(BUDGET, "pod/new-1", "-n", "a")


def test_each_node_is_told_once_in_words(ask: Any) -> None:
    items = [node("n1", "2"), node("n2", **SSD), pod("x-1", "3", on="n2"), pod("new-1", "3", nodeSelector=SSD)]
    _, document, text = ask(items, "pod/new-1", "-n", "a")

    assert document["excludedNodes"] == {"InsufficientCpu": 1, "NoMatchingNode": 1}
    assert sum(document["excludedNodes"].values()) == document["nodes"] == 2
    assert "1 of 2 nodes: NoMatchingNode (not what its node selector or affinity asks for)\n" in text


def test_help_comes_in_the_order_of_its_cost(ask: Any) -> None:
    _, document, text = ask(FULL, "pod/new-1", "-n", "a")

    assert [one["kind"] for one in document["helps"]] == ["SmallerRequest", "MoreNodes", "HigherPriority"]
    assert "what would help: 1 cpu instead of 2 cpu: it fits on node n1\n" in text
    assert "               or: one more node like n1 (4 cpu)\n" in text
    assert "these rules cannot hold together:\n" in text


def test_in_a_large_cluster_a_plan_is_looked_for_among_few_nodes(ask: Any) -> None:
    more = [node(f"m{number:03}") for number in range(250)]
    more += [pod(f"y-{number:03}", "3", on=f"m{number:03}") for number in range(250)]
    code, document, text = ask([*FULL, *more], "pod/new-1", "-n", "a")

    assert (code, document["nodes"], document["excludedNodes"]) == (1, 253, {"InsufficientCpu": 253})
    assert document["note"] == "a plan was looked for among 64 of 253 nodes; with --budget among all"
    assert f"  note: {document['note']}\n" in text
    assert ask([*FULL, *more], "pod/new-1", "-n", "a", "--budget", "100ms")[1]["note"] == ""


def test_other_pods_that_wait_are_spoken_of(ask: Any) -> None:
    more = [node(f"m{number:03}") for number in range(250)]
    code, document, _ = ask([*more, pod("high-1", "2", priority=9), pod("new-1", "2")], "pod/new-1", "-n", "a")

    assert (code, document["state"], document["disruptions"]) == (0, "Placeable", 0)
    assert document["note"] == "1 pod of higher priority waits too, and goes first"
    _, document, _ = ask([*more, pod("other-1", "2"), pod("new-1", "2")], "pod/new-1", "-n", "a")
    assert document["note"] == "1 other pod waits too; the next plan may place it instead"


def test_more_nodes_for_a_gang(ask: Any) -> None:
    gang = [pod(f"ring-{number}", "3", schedulingGates=[{"name": "stowage.dev/gang"}]) for number in range(3)]
    for member in gang:
        member["metadata"]["labels"] |= {"stowage.dev/gang": "ring", "stowage.dev/gang-size": "3"}
    _, document, _ = ask([node("n1", **{"node.kubernetes.io/instance-type": "c4"}), *gang], "pod/ring-1", "-n", "a")

    assert document["helps"][0]["text"] == "2 more nodes of type c4 (4 cpu): then all of gang ring fits"
    assert {one["rule"] for one in document["conflict"]} == {"Resource", "Gang"}
