"""What `stowage drain` answers on a dump: the plan or the reasons, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from harness.facts import OPTIONS, packed, snapshot
from harness.facts import node as node_of
from harness.facts import pod as pod_of
from stowage.cli import run
from stowage.cli.drain_answer import DrainAnswer, sentence
from stowage_scheduler.options import Drain
from unit.test_cli_answers import UNITS, Document, node, pod, policy

BARE: Document = {"ownerReferences": []}


def dump(folder: Path, *items: Document) -> str:
    file = folder / "dump.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(items)}))
    return str(file)


def with_metadata(document: Document, **metadata: Any) -> Document:
    return {**document, "metadata": {**document["metadata"], **metadata}}


def drained(folder: Path, *items: Document, flags: tuple[str, ...] = (), nodes: tuple[str, ...] = ("old",)) -> int:
    return run(["drain", *nodes, "-f", dump(folder, *items), *UNITS, *flags])


def test_the_plan_of_a_drain_as_a_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = (node("old"), node("new"), pod("web", "2", on="old"), pod("wait", "3"))
    assert drained(tmp_path, *cluster, flags=("-o", "json")) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["nodes"] == ["old"]
    assert answer["possible"] is True
    assert answer["obstacles"] == []
    assert answer["plan"]["moves"] == [{"pod": "a/web", "from": "old", "to": "new"}]
    assert "drained" not in answer, "nothing was done"


def test_the_plan_of_a_drain_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert drained(tmp_path, node("old"), node("new"), pod("web", "2", on="old")) == 0
    said = capsys.readouterr().out
    assert said.startswith("node old: 1 pod can leave\n")
    assert "a/web" in said


CAN_NOT = {
    "a bare pod": (
        with_metadata(pod("bare", "1", on="old"), **BARE),
        "Bare",
        ("--force",),
        "1 pod can leave, 1 of them without a place elsewhere",
    ),
    "an emptyDir": (
        pod("cache", "1", on="old", volumes=[{"name": "scratch", "emptyDir": {}}]),
        "LocalStorage",
        ("--delete-emptydir-data",),
        "1 pod can leave",
    ),
    "an annotation": (
        with_metadata(pod("web", "1", on="old"), annotations={"stowage.dev/do-not-disrupt": "true"}),
        "DoNotDisrupt",
        None,
        "",
    ),
    "a DaemonSet, when asked": (
        with_metadata(
            pod("agent", "1", on="old"),
            ownerReferences=[
                {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "agent", "uid": "ds", "controller": True}
            ],
        ),
        "DaemonSet",
        ("--ignore-daemonsets",),
        "no pod has to leave",
    ),
}


@pytest.mark.parametrize(("item", "reason", "flags", "sentence"), CAN_NOT.values(), ids=CAN_NOT.keys())
def test_what_can_not_leave_is_told_with_the_flag_that_helps(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    item: Document,
    reason: str,
    flags: tuple[str, ...] | None,
    sentence: str,
) -> None:
    cluster = (node("old"), node("new"), item)
    strict = ("--no-ignore-daemonsets", "-o", "json")
    assert drained(tmp_path, *cluster, flags=strict) == 1
    answer = json.loads(capsys.readouterr().out)
    (obstacle,) = answer["obstacles"]
    assert (obstacle["pod"], obstacle["node"], obstacle["reason"]) == (
        f"a/{item['metadata']['name']}",
        "old",
        reason,
    )
    assert obstacle["message"]
    assert answer["plan"] is None
    assert drained(tmp_path, *cluster, flags=("--no-ignore-daemonsets",)) == 1
    assert "can not leave" in capsys.readouterr().out
    if flags is not None:
        assert obstacle["help"].startswith(flags[0])
        assert drained(tmp_path, *cluster, flags=flags) == 0
        assert sentence in capsys.readouterr().out


def test_a_pod_without_a_place_elsewhere_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = (node("old"), node("new"), pod("web", "3", on="old"), pod("api", "3", on="new"))
    assert drained(tmp_path, *cluster, flags=("-o", "json")) == 1
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert [(one["pod"], one["reason"]) for one in plan["unplaced"]] == [("a/web", "InsufficientCpu")]
    assert plan["unplaced"][0]["help"]
    assert plan["steps"] == plan["moves"] == plan["evictions"] == []
    assert drained(tmp_path, *cluster) == 1
    said = capsys.readouterr().out
    assert said.startswith("node old can not be drained: 1 pod would find no place elsewhere\n")
    assert "InsufficientCpu" in said


def test_a_no_that_is_not_proven_asks_for_more_time() -> None:
    cluster = snapshot(node_of("old"), node_of("new"), pod_of("web-1", 800, on="old"), pod_of("api-1", 800, on="new"))
    packing = packed(cluster, structs.replace(OPTIONS, drain=Drain(frozenset({"old"}))))
    assert packing.certified
    assert sentence(DrainAnswer(("old",), packing=packing)).endswith("1 pod would find no place elsewhere")
    unproven = structs.replace(packing, certified=False, seconds=1.25)
    assert sentence(DrainAnswer(("old",), packing=unproven)) == (
        "node old not drained: no place was found in 1.2 s for 1 pod; a longer --budget may find one"
    )


def test_an_unknown_node_is_a_wrong_argument(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert drained(tmp_path, node("old"), nodes=("old", "typo")) == 2
    assert capsys.readouterr().err == "stowage: node typo: not found\n"


def test_the_policy_that_holds_the_node_says_where_pods_may_go(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label = {"labels": {"pool": "a"}}
    cluster = (
        node("old", **label),
        node("new", **label),
        node("theirs", "8"),
        pod("web", "3", on="old"),
        policy("all", priority=-1),
        policy("a", nodeSelector={"pool": "a"}),
    )
    assert drained(tmp_path, *cluster, flags=("-o", "json")) == 0
    assert json.loads(capsys.readouterr().out)["plan"]["moves"][0]["to"] == "new"


def test_pods_of_one_controller_follow_each_other_as_the_policy_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    owner = pod("web", "1")["metadata"]["ownerReferences"]
    pods = [with_metadata(pod(f"web-{number}", "1", on="old"), ownerReferences=owner) for number in range(4)]
    brakes = policy("slow", disruption={"maxUnavailablePerOwner": "50%"}, schedulerNames=["stowage"])
    assert drained(tmp_path, node("old"), node("new"), *pods, brakes, flags=("-o", "json")) == 0
    steps = json.loads(capsys.readouterr().out)["plan"]["steps"]
    assert [(step["id"], step["after"]) for step in steps] == [
        ("s001", []),
        ("s002", []),
        ("s003", ["s001"]),
        ("s004", ["s002"]),
    ]


def test_nodes_of_two_policies_are_drained_one_after_the_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = (
        node("old", labels={"pool": "a"}),
        node("other", labels={"pool": "b"}),
        node("new", "8", labels={"pool": "b"}),
        pod("web", "3", on="old"),
        policy("a", nodeSelector={"pool": "a"}),
        policy("b", nodeSelector={"pool": "b"}),
    )
    assert drained(tmp_path, *cluster, nodes=("old", "other")) == 2
    assert "PackingPolicies a, b" in capsys.readouterr().err
    assert drained(tmp_path, *cluster, nodes=("old", "other"), flags=("--policy", "b")) == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--timeout", "0s"), "--timeout 0s"),
        (("--timeout", "soon"), "--timeout 'soon'"),
        (("--budget", "1s", "--deterministic-budget", "1"), "give one of them"),
        (("--policy", "missing"), "no such PackingPolicy"),
    ],
)
def test_wrong_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], words: str) -> None:
    assert run(["drain", "old", "-f", dump(tmp_path, node("old")), *flags]) == 2
    assert words in capsys.readouterr().err


def test_nodes_that_can_be_emptied_are_told_with_the_command_that_does_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = (node("a"), node("b"), pod("web", "3", on="a"), pod("api", "1", on="b"))
    file = dump(tmp_path, *cluster)
    assert run(["plan", "-f", file, "--consolidate", *UNITS]) == 0
    said = capsys.readouterr().out
    assert said.startswith("1 node can be emptied by 1 move: stowage drain b\n")
    assert run(["plan", "-f", file, "--consolidate", *UNITS, "-o", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["emptied"] == ["b"]
    assert answer["plan"]["moves"] == [{"pod": "a/api", "from": "b", "to": "a"}]
    assert [one["node"] for one in answer["candidates"]] == ["b", "a"]
    assert run(["drain", "b", "-f", file, *UNITS]) == 0


NOTHING = {
    "full nodes": ((pod("web", "3", on="a"), pod("api", "3", on="b")), "no node can be emptied; looked at 2\n"),
    "pods that wait": ((pod("web", "3", on="a"), pod("big", "9")), "1 pod without a place"),
}


@pytest.mark.parametrize(("pods", "words"), NOTHING.values(), ids=NOTHING.keys())
def test_without_such_a_node_the_answer_is_no(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pods: tuple[Document, ...], words: str
) -> None:
    assert run(["plan", "-f", dump(tmp_path, node("a"), node("b"), *pods), "--consolidate", *UNITS]) == 1
    assert capsys.readouterr().out.startswith(words)
