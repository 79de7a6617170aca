"""Dumps with GPU shares through file, packer and output; a checker that knows devices has the last word."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.facts import packed
from harness.gpu_instances import MILLI, gpu_dump
from harness.plan_checker import problems
from stowage.cli.plan import document
from stowage_scheduler.kube.dump import read_dump
from stowage_scheduler.options import Budget, PackOptions


@pytest.mark.parametrize(
    ("nodes", "devices", "seed", "told"),
    [
        *((nodes, devices, seed, 1.0) for nodes, devices, seed in ((3, 1, 1), (4, 2, 2), (5, 4, 3), (4, 4, 5))),
        *((nodes, devices, seed, 0.7) for nodes, devices, seed in ((4, 2, 2), (3, 4, 5))),
        *((nodes, devices, seed, 0.0) for nodes, devices, seed in ((3, 1, 1), (4, 2, 2), (2, 3, 6))),
    ],
)
def test_plans_with_shares_are_valid(nodes: int, devices: int, seed: int, told: float) -> None:
    cluster = gpu_dump(nodes, devices, seed, told=told)
    facts = read_dump(json.dumps(cluster).encode()).snapshot
    packing = packed(facts, PackOptions(owner_settled_seconds=0.0), Budget(deterministic_units=1.0))
    assert packing.faults == ()
    assert problems(cluster, document(packing)) == []
    start, end = tuple(packing.before.values()), tuple(packing.placed.values())
    assert end >= start
    assert end > start or told < 1.0


def test_the_checker_sees_shares_on_a_full_device() -> None:
    cluster = gpu_dump(4, 2, 2, told=1.0)
    facts = read_dump(json.dumps(cluster).encode()).snapshot
    plan = document(packed(facts, PackOptions(owner_settled_seconds=0.0), Budget(deterministic_units=1.0)))
    blind = json.loads(json.dumps(cluster))
    for item in blind["items"]:
        if MILLI in item["metadata"].get("annotations", {}):
            item["metadata"]["annotations"][MILLI] = "10"
    naive = read_dump(json.dumps(blind).encode()).snapshot
    wrong = document(packed(naive, PackOptions(owner_settled_seconds=0.0), Budget(deterministic_units=1.0)))
    assert problems(cluster, plan) == []
    assert any(text.startswith("no devices of") for text in problems(cluster, wrong))


def test_the_command_plans_for_shares(tmp_path: Path) -> None:
    cluster = gpu_dump(4, 2, 2, told=1.0)
    file = tmp_path / "dump.json"
    file.write_text(json.dumps(cluster))
    command = [
        sys.executable,
        "-m",
        "stowage.cli",
        "plan",
        "-f",
        str(file),
        "--deterministic-budget",
        "1",
        "-o",
        "json",
    ]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode in {0, 1}, done.stderr.decode()
    plan = json.loads(done.stdout)
    assert problems(cluster, plan) == []
    assert plan["moves"]
    assert {entry["reason"] for entry in plan["unplaced"]} <= {"InsufficientGpu", "GpuFragmented", "LowerPriority"}
