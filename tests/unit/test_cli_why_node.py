"""`stowage why node/NAME`: who runs there, what a policy says of them, who keeps it, and whether it can be emptied."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from stowage.cli import node_answer, run
from stowage.cli.facts import load
from stowage.transport import NotFound
from unit.builders import bound, evict, plan_resource, slot
from unit.builders import pod as fact
from unit.test_cli_why import Document, budget, node, pod


def policy(name: str, **spec: Any) -> Document:
    metadata = {"name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"apiVersion": "stowage.dev/v1alpha1", "kind": "PackingPolicy", "metadata": metadata, "spec": spec}


def bare(name: str, on: str) -> Document:
    made = pod(name, "1", on=on)
    return {**made, "metadata": {key: one for key, one in made["metadata"].items() if key != "ownerReferences"}}


def with_gpus(document: Document, gpus: int) -> Document:
    allocatable = {**document["status"]["allocatable"], "nvidia.com/gpu": str(gpus)}
    return {**document, "status": {**document["status"], "allocatable": allocatable}}


def tainted(document: Document, **taint: str) -> Document:
    return {**document, "spec": {"taints": [taint]}}


RESERVED = {"key": "stowage.dev/reserved", "value": "plan-uid", "effect": "NoSchedule"}
EVERYONE = {"schedulerNames": ["default-scheduler"]}
CLUSTER = [
    node("n1"),
    node("n2"),
    node("full", "2"),
    tainted(node("kept", "5"), **RESERVED),
    pod("web-1", "1", on="n1"),
    budget("web", allowed=1),
    bare("alone-1", on="n2"),
    pod("wide-1", "5", on="kept"),
    policy("default", **EVERYONE),
]
IN_USE = [with_gpus(node("n1"), 4), with_gpus(node("n2"), 4), pod("web-1", "1", on="n1")]
IN_USE[2]["spec"]["containers"][0]["resources"]["requests"]["nvidia.com/gpu"] = "1"


@pytest.fixture
def ask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Asks why of a node of a dump; the exit code, the JSON answer, and the text."""

    def asked(items: list[Document], name: str, *arguments: str) -> tuple[int, Document, str]:
        file = tmp_path / "dump.json"
        file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
        common = ["why", f"node/{name}", "-f", str(file), "--now", "2026-01-01T01:00:00Z", *arguments]
        code = run([*common, "-o", "json"])
        document = json.loads(capsys.readouterr().out)
        assert run([*common, "-o", "yaml"]) == code
        assert yaml.safe_load(capsys.readouterr().out).keys() == document.keys()
        assert run(common) == code
        return code, document, capsys.readouterr().out

    return asked


def stays(document: Document) -> dict[str, tuple[str | None, str | None]]:
    """By pod why it stays in plans, and in a drain."""
    both = ("staysInPlans", "staysInDrain")
    return {one["pod"]: tuple(one[key] and one[key]["reason"] for key in both) for one in document["pods"]}  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "code", "pods", "told"),
    [
        pytest.param("n1", 0, {"a/web-1": (None, None)}, "node n1: 1 pod can leave", id="it-can-be-emptied"),
        pytest.param("full", 0, {}, "node full: no pod has to leave", id="it-is-empty"),
        pytest.param("n2", 1, {"a/alone-1": ("Bare", "Bare")}, "nothing would recreate it", id="a-pod-can-not-leave"),
        pytest.param(
            "kept", 1, {"a/wide-1": (None, "InsufficientCpu")}, "no place elsewhere", id="a-pod-has-nowhere-to-go"
        ),
    ],
)
def test_whether_it_can_be_emptied(
    ask: Any, name: str, code: int, pods: dict[str, tuple[str | None, str | None]], told: str
) -> None:
    found, document, text = ask(CLUSTER, name)
    assert (found, document["canBeEmptied"]) == (code, code == 0)
    assert stays(document) == pods
    assert told in text


def test_where_its_pods_would_go(ask: Any) -> None:
    _, document, text = ask(CLUSTER, "n1")
    (web,) = document["pods"]
    assert web["to"] in {"n2", "full"}
    assert web["requests"] == {"cpuMilli": 1000}
    assert f"goes to {web['to']}" in text


def test_what_would_help_is_told_for_each_pod_that_stays(ask: Any) -> None:
    _, document, text = ask(CLUSTER, "n2")
    assert document["drain"]["obstacles"][0]["help"] in text


def test_who_holds_it(ask: Any) -> None:
    strong = policy("strong", priority=5, nodeSelector={"kubernetes.io/hostname": "n1"}, mode="Enforce", paused=True)
    _, document, text = ask([*CLUSTER, strong], "n1")
    assert document["policy"] == {"name": "strong", "mode": "Enforce", "paused": True}
    assert document["otherPolicies"] == ["default"]
    assert "policy strong holds it (mode Enforce, paused)" in text
    assert stays(document)["a/web-1"] == ("OutOfScope", "NoMatchingNode"), "it may use no other node"
    assert "policy strong covers pods of scheduler stowage" in text


def test_a_node_of_no_policy_says_so(ask: Any) -> None:
    _, document, text = ask([one for one in CLUSTER if one["kind"] != "PackingPolicy"], "n1")
    assert document["policy"] is None
    assert "no policy holds it" in text


def test_a_taint_tells_which_plan_keeps_it(ask: Any) -> None:
    _, document, text = ask(CLUSTER, "kept")
    assert [one["uid"] for one in document["keptBy"]] == ["plan-uid"]
    assert "kept by the plan of UID plan-uid" in text
    assert document["taints"] == ["stowage.dev/reserved=plan-uid:NoSchedule"]


def test_gpus_and_how_usable_the_free_ones_are(ask: Any) -> None:
    _, document, text = ask(IN_USE, "n1")
    assert document["use"]["gpus"] == {"requested": 1, "allocatable": 4, "unusable": 0.0}
    assert "GPUs: 1 of 4 requested; 3 free, a typical GPU pod could not use 0.0 of them" in text


def test_a_live_cluster_tells_the_plans_by_name(tmp_path: Path) -> None:
    file = tmp_path / "dump.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": CLUSTER}))
    given = node_answer.explain(load(file, None, None, None), "kept", None, None)
    web = bound(fact("web-9"), "n1")
    here = plan_resource("default-1", evict(1, web, "k001"), slots=(slot(1, web, "kept"),), status={"phase": "Running"})
    ended = plan_resource("default-0", evict(1, web, "k001"), slots=(slot(1, web, "kept"),), status={"phase": "Done"})
    elsewhere = plan_resource("default-2", evict(1, web), status={"phase": "Running"})
    found = node_answer.kept_by(given, [ended, here, elsewhere]).keepers
    assert [(one.plan, one.uid, one.phase, one.arriving, one.leaving) for one in found] == [
        ("default-1", "default-1-uid", "Running", 1, 0),
        (None, "plan-uid", "", 0, 0),
    ]
    same = plan_resource("default-1", slots=(slot(1, web, "kept"),), uid="plan-uid")
    assert [one.plan for one in node_answer.kept_by(given, [same]).keepers] == ["default-1"]


class NotInstalled:
    """An API server that does not know the resources of Stowage."""

    async def get(self, path: str) -> Document:
        raise NotFound(f"GET {path}", status=404)


def test_a_live_cluster_without_stowage_gives_an_answer_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "dump.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": CLUSTER}))
    facts = load(file, None, None, None)
    monkeypatch.setattr("stowage.cli.facts.load", lambda *_: facts)
    monkeypatch.setattr("stowage.cli.cluster.with_cluster", lambda _, __, work: asyncio.run(work(NotInstalled())))
    assert run(["why", "node/n1", "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["canBeEmptied"], document["keptBy"]) == (True, [])


@pytest.mark.parametrize("what", ["node/nowhere", "node/", "nodes", "node/a/b", "service/web"])
def test_bad_input(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "dump.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": CLUSTER}))
    assert run(["why", what, "-f", str(file)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert ("not found" if what == "node/nowhere" else "must be pod/NAME") in said.err
