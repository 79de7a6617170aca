"""Dumps with GPU shares through file, packer and output; a checker that knows devices has the last word."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from harness.facts import packed
from harness.plan_checker import problems
from stowage.cli.plan import document
from stowage_scheduler.kube.dump import read_dump
from stowage_scheduler.options import Budget, PackOptions

GPU = "nvidia.com/gpu"
MILLI = "stowage.dev/gpu-milli"
INDEX = "stowage.dev/gpu-index"
SIZES = (200, 250, 300, 500, 600, 800)


def gpu_dump(nodes: int, devices: int, seed: int, *, told: float) -> dict[str, Any]:
    """A cluster three quarters full, and as many pods that wait; of shares that run, a part `told` names its device."""
    chance = Random(seed)
    items: list[dict[str, Any]] = [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": f"n{number}"},
            "status": {"allocatable": {"cpu": "64", "memory": "256Gi", "pods": "110", GPU: str(devices)}},
        }
        for number in range(nodes)
    ]
    free = {f"n{number}": [1000] * devices for number in range(nodes)}
    wanted = 750 * nodes * devices
    number = 0
    while wanted > 0:
        milli = chance.choice((*SIZES, 1000, 1000))
        wanted -= milli
        spots = [(n, d) for n, left in free.items() for d, room in enumerate(left) if room >= milli]
        node, device = chance.choice(spots) if spots else (None, 0)
        if node is not None:
            free[node][device] -= milli
        items.append(_pod(number, milli, node, device if chance.random() < told else None))
        number += 1
    for _ in range(nodes):
        items.append(_pod(number, chance.choice((*SIZES, 1000, 2000)), None, None))
        number += 1
    owners = [item["metadata"]["ownerReferences"][0]["name"] for item in items if item["kind"] == "Pod"]
    items += [
        {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {"namespace": "ml", "name": name, "uid": f"rs-{name}"},
            "spec": {"replicas": 1},
        }
        for name in owners
    ]
    return {"apiVersion": "v1", "kind": "List", "items": items}


def _pod(number: int, milli: int, node: str | None, device: int | None) -> dict[str, Any]:
    name = f"app{number}"
    requests = {"cpu": "100m", "memory": "64Mi"}
    notes = {}
    if milli < 1000:
        notes = {MILLI: str(milli)} | ({INDEX: str(device)} if device is not None and node is not None else {})
    else:
        requests[GPU] = str(milli // 1000)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": "ml",
            "name": f"{name}-0",
            "uid": f"uid-{name}",
            "annotations": notes,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": f"rs-{name}", "controller": True}
            ],
        },
        "spec": {
            "containers": [{"name": "c", "resources": {"requests": requests}}],
            **({"nodeName": node} if node is not None else {}),
        },
        "status": {"phase": "Running" if node is not None else "Pending"},
    }


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
