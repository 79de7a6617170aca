"""What the commands answer on a small dump: the stable JSON form, tables, and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.instances import dump as dump_of
from harness.instances import paper_instance
from stowage import __version__
from stowage.cli import run
from stowage.cli.app import program_name
from stowage.cli.errors import InputError
from stowage.cli.times import duration_seconds, timestamp_seconds

Document = dict[str, Any]
UNITS = ["--deterministic-budget", "2"]


def node(name: str, cpu: str = "4", **metadata: Any) -> Document:
    amounts = {"cpu": cpu, "memory": "8Gi", "nvidia.com/gpu": "4"}
    status = {"allocatable": amounts, "conditions": [{"type": "Ready", "status": "True"}]}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, **metadata}, "status": status}


def pod(name: str, cpu: str, on: str | None = None, gpus: int = 0, **spec: Any) -> Document:
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": f"rs-{name}", "controller": True}
    requests = {"cpu": cpu, **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
    metadata = {"name": name, "namespace": "a", "uid": f"uid-{name}", "ownerReferences": [owner]}
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**metadata, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "containers": [{"name": "main", "resources": {"requests": requests}}],
            "priority": 100,
            "schedulerName": "stowage",
            **({"nodeName": on} if on else {}),
            **spec,
        },
        "status": {"phase": "Running"} if on else {"phase": "Pending", "conditions": [unschedulable]},
    }


def ring(count: int, size: int) -> list[Document]:
    """Pods of a gang, three cores each, behind its gate."""
    pods = [pod(f"ring-{number}", "3", schedulingGates=[{"name": "stowage.dev/gang"}]) for number in range(count)]
    labels = {"stowage.dev/gang": "ring", "stowage.dev/gang-size": str(size)}
    return [{**one, "metadata": {**one["metadata"], "labels": labels}} for one in pods]


def policy(name: str, **spec: Any) -> Document:
    return {"apiVersion": "stowage.dev/v1alpha1", "kind": "PackingPolicy", "metadata": {"name": name}, "spec": spec}


def labelled(document: Document, **labels: str) -> Document:
    return {**document, "metadata": {**document["metadata"], "labels": labels}}


# wide needs a node of its own: one of the two others has to move
MOVE_HELPS = [node("n1"), node("n2"), pod("left", "1", on="n1"), pod("right", "1", on="n2"), pod("wide", "4")]
NOTHING_HELPS = [node("n1"), pod("left", "1", on="n1"), pod("huge", "9", gpus=8)]


@pytest.fixture
def dump(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Path of a dump with the objects given by the test's parameter, by default MOVE_HELPS."""
    file = tmp_path / "dump.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": getattr(request, "param", MOVE_HELPS)}))
    return str(file)


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Document]:
    code = run([*arguments, "-o", "json"])
    said = capsys.readouterr()
    assert said.err == ""
    return code, json.loads(said.out)


def test_a_plan_that_places_everything_exits_0_and_has_the_stable_form(
    dump: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, plan = answer(capsys, "plan", "-f", dump, *UNITS)

    assert code == 0
    assert isinstance(plan.pop("seconds"), float)
    assert plan.pop("moveCost") == plan.pop("moveCostBound") > 0
    move = plan["moves"][0]
    source, target = move["from"], move["to"]
    moved = move["pod"]
    stays = "a/right" if moved == "a/left" else "a/left"
    assert plan == {
        "assignments": sorted(
            [{"pod": moved, "node": target}, {"pod": stays, "node": target}, {"pod": "a/wide", "node": source}],
            key=lambda one: one["pod"],
        ),
        "moves": [{"pod": moved, "from": source, "to": target}],
        "evictions": [],
        "unplaced": [],
        "steps": [
            {"id": "s001", "action": "Evict", "pod": moved, "node": source, "after": []},
            {"id": "s002", "action": "Place", "pod": "a/wide", "node": source, "after": ["s001"]},
        ],
        "placedByPriority": {"100": 3},
        "bound": {"100": 3},
        "certified": True,
        "rejectedObjects": [],
    }


@pytest.mark.parametrize("dump", [[node("n1"), node("n2"), *ring(2, size=2)]], indirect=True)
def test_a_plan_lets_a_gang_go(dump: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, plan = answer(capsys, "plan", "-f", dump, *UNITS)
    assert code == 0
    assert [(step["action"], step["pod"], step["after"]) for step in plan["steps"]] == [
        ("Ungate", "a/ring-0", []),
        ("Ungate", "a/ring-1", []),
    ]
    assert run(["plan", "-f", dump, *UNITS]) == 0
    assert "2 pending pods get a place" in capsys.readouterr().out


@pytest.mark.parametrize("dump", [NOTHING_HELPS], indirect=True)
def test_a_plan_that_leaves_a_pod_pending_exits_1_and_says_why(dump: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, plan = answer(capsys, "plan", "-f", dump, *UNITS)

    assert code == 1
    (unplaced,) = plan["unplaced"]
    assert unplaced["pod"] == "a/huge"
    assert unplaced["reason"].startswith("Insufficient")
    assert unplaced["help"]


def test_yaml_says_the_same_as_json(dump: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, as_json = answer(capsys, "plan", "-f", dump, *UNITS)
    assert run(["plan", "-f", dump, *UNITS, "-o", "yaml"]) == 0
    as_yaml = yaml.safe_load(capsys.readouterr().out)

    as_json.pop("seconds"), as_yaml.pop("seconds")
    assert as_yaml == as_json


def test_tables_name_the_pods_that_change(dump: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "-f", dump, *UNITS]) == 0
    said = capsys.readouterr().out
    assert "1 move, 0 evictions, 2 steps; no plan can place more" in said
    assert "a/left" in said or "a/right" in said


SHARES = {"mode": "WeightedDRF", "teams": [{"name": "wide", "weight": 3, "selector": {"matchLabels": {"app": "wide"}}}]}


@pytest.mark.parametrize(
    "dump", [[*MOVE_HELPS[:-1], labelled(pod("wide", "4"), app="wide"), policy("fair", fairness=SHARES)]], indirect=True
)
def test_a_plan_tells_what_teams_hold(dump: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "-f", dump, *UNITS, "--now", "2026-01-01T01:00:00Z"]) == 0
    (row,) = [line.split() for line in capsys.readouterr().out.splitlines() if line.split()[:1] == ["wide"]]
    assert row == ["wide", "3", "0.00", "0.50", "cpu", "0", "1"]


@pytest.mark.parametrize("dump", [[*MOVE_HELPS, policy("saves", objective={"tail": "LeastPower"})]], indirect=True)
def test_a_plan_says_that_no_node_tells_what_it_draws(dump: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "-f", dump, *UNITS, "--now", "2026-01-01T01:00:00Z"]) == 0
    assert "policy saves: objective.tail: LeastPower acts as Consolidate" in capsys.readouterr().err


def test_the_same_file_seed_and_units_give_the_same_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "dump.json"
    file.write_text(json.dumps(dump_of(paper_instance(4, 4, 2, 95, seed=3))))
    plans = [answer(capsys, "plan", "-f", str(file), "--seed", "7", *UNITS)[1] for _ in range(2)]

    for plan in plans:
        plan.pop("seconds")
    assert plans[0] == plans[1]


@pytest.mark.parametrize(
    ("items", "arguments", "code"),
    [
        ([*MOVE_HELPS, policy("still", disruption={"maxMovesPerPlan": 0, "minPodAge": "0s"})], (), 1),
        ([*MOVE_HELPS, policy("free", disruption={"minPodAge": "0s"})], (), 0),
        # "now" is the newest timestamp in the file: every pod is brand new, and the policy's minPodAge is a minute
        ([*MOVE_HELPS, policy("default")], (), 1),
        ([*MOVE_HELPS, policy("default")], ("--now", "2026-01-01T01:00:00Z"), 0),
        ([*MOVE_HELPS, policy("a", disruption={"minPodAge": "0s"}), policy("b")], ("--policy", "b"), 1),
        ([*MOVE_HELPS, policy("a", disruption={"minPodAge": "0s"}), policy("b")], ("--policy", "a"), 0),
    ],
    ids=[
        "no moves allowed",
        "moves allowed",
        "pods too young",
        "pods old enough at the given time",
        "a younger policy without nodes of its own",
        "of two policies of one rank the first by name holds the nodes",
    ],
)
def test_the_policy_in_the_file_holds(
    items: list[Document], arguments: tuple[str, ...], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "dump.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))

    got, plan = answer(capsys, "plan", "-f", str(file), *UNITS, *arguments)

    assert got == code, plan
    assert {one["pod"] for one in plan["assignments"]} >= {"a/left", "a/right"}, "pods that run must stay listed"


def test_a_policy_file_replaces_what_the_dump_says(
    dump: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump(policy("p", schedulerNames=["other"])))

    code, plan = answer(capsys, "plan", "-f", dump, *UNITS, "--policy", str(file))

    assert (code, plan["moves"], plan["steps"]) == (0, [], [])


def test_a_picture_is_drawn_when_asked_for(dump: str, tmp_path: Path) -> None:
    picture = tmp_path / "plan.png"
    assert run(["plan", "-f", dump, *UNITS, "--plot", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


WHY = {
    "a pod that runs": (MOVE_HELPS, "left", 0, {"state": "Running", "node": "n1"}),
    "a pod that a plan places": (MOVE_HELPS, "wide", 0, {"state": "Placeable", "disruptions": 1}),
    "a pod too large for any node": (NOTHING_HELPS, "huge", 1, {"state": "Pending", "nodes": 1}),
    "a pod of a gate": (
        [node("n1"), pod("gated", "1", schedulingGates=[{"name": "x"}])],
        "gated",
        1,
        {"state": "Pending", "reason": "Gated", "excludedNodes": {}},
    ),
    "a pod of a gang that lacks pods": (
        [node("n1"), *ring(2, size=3)],
        "ring-1",
        1,
        {"state": "Pending", "reason": "GangIncomplete", "excludedNodes": {}},
    ),
    "a pod of a gang that lacks nodes": (
        [node("n1"), *ring(2, size=2)],
        "ring-1",
        1,
        {"state": "Pending", "reason": "InsufficientCpu", "excludedNodes": {"InsufficientCpu": 1}},
    ),
    "a pod with the wrong selector": (
        [node("n1"), node("n2"), pod("lost", "1", nodeSelector={"disk": "ssd"})],
        "lost",
        1,
        {"state": "Pending", "reason": "NoMatchingNode", "excludedNodes": {"NoMatchingNode": 2}, "nodes": 2},
    ),
}


@pytest.mark.parametrize(("items", "name", "code", "said"), WHY.values(), ids=WHY.keys())
def test_why_tells_what_excludes_which_nodes(
    items: list[Document], name: str, code: int, said: Document, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "dump.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))

    got, document = answer(capsys, "why", f"pod/{name}", "-n", "a", "-f", str(file))

    assert got == code
    assert said.items() <= document.items(), document
    assert run(["why", f"pod/{name}", "-n", "a", "-f", str(file)]) == code
    assert f"pod a/{name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "dump", [[node("n1"), node("n2"), pod("x", "1", on="n1", gpus=3), pod("y", "1")]], indirect=True
)
def test_top_shows_the_largest_free_block_and_fragmentation(dump: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, top = answer(capsys, "top", "-f", dump)

    assert code == 0
    assert top["pendingPods"] == 1
    gpus = {"requested": 3, "allocatable": 8, "largestFreeBlock": 4, "fragmentation": 0.2, "unusable": 1.0}
    assert top["gpus"] == gpus
    assert top["nodes"][0] == {
        "name": "n1",
        "pods": 1,
        "cpuMilli": {"requested": 1000, "allocatable": 4000},
        "memoryBytes": {"requested": 0, "allocatable": 8 * 1024**3},
        "gpus": {"requested": 3, "allocatable": 4, "unusable": 1.0},
    }
    assert run(["top", "-f", dump]) == 0
    assert "largest free block on one node 4" in capsys.readouterr().out


@pytest.mark.parametrize(("text", "seconds"), [("1s", 1.0), ("500ms", 0.5), ("1m30s", 90.0), ("2h", 7200.0)], ids=str)
def test_durations_read_as_people_write_them(text: str, seconds: float) -> None:
    assert duration_seconds(text, "--budget") == seconds


@pytest.mark.parametrize(
    "text", ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00", "2026-01-01T01:00:00+01:00"], ids=["UTC", "no zone", "CET"]
)
def test_timestamps_without_a_zone_are_utc(text: str) -> None:
    assert timestamp_seconds(text, "--now") == 1_767_225_600.0


def test_a_timestamp_error_names_option_and_value() -> None:
    with pytest.raises(InputError, match="--now 'noon': must be a timestamp"):
        timestamp_seconds("noon", "--now")


def test_the_program_is_named_as_it_was_called(capsys: pytest.CaptureFixture[str]) -> None:
    assert program_name("/usr/bin/kubectl-stowage") == "kubectl stowage"
    assert program_name("/usr/bin/stowage") == "stowage"
    assert run(["plan", "--help"], program="kubectl stowage") == 0
    assert "Usage: kubectl stowage plan" in capsys.readouterr().out


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from stowage.cli import run; code = run(['--help']); "
        "heavy = {'ortools', 'kubernetes', 'matplotlib', 'pydantic', 'kopf', 'numpy', 'aiohttp'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "doctor" in ended.stdout
