"""How the packer scales: 100 to 5,000 nodes with eight pods each, and a gang that a large cluster makes room for.

Each packing is a process of its own, whose peak memory counts. The gap is that to the packer's own bound.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.grid_runs import FOLDER
from harness.instances import dump
from harness.measurements import Record, at_least, at_most
from harness.packing_process import packed
from harness.plan_checker import problems
from harness.scale_instances import instance, repair

SIZES = {100: ("3s", 0.0), 300: ("10s", 0.2), 1_000: ("30s", 0.5), 5_000: ("60s", 1.0)}  # budget, gap in % at 95 %
BENCH = "packer at scale"
MOST_CHECKED = 300  # nodes; beyond, replaying the steps takes minutes, and the packer's own checks have to do


@pytest.mark.parametrize("running", [False, True], ids=["all pods pending", "most pods run"])
@pytest.mark.parametrize("usage", [95, 100])
@pytest.mark.parametrize("nodes", SIZES)
def test_scale(nodes: int, usage: int, running: bool, tmp_path: Path, record: Record) -> None:
    budget, most_gap = SIZES[nodes]
    facts = dump(instance(nodes, usage, 1, running=running))
    figures, plan = packed(facts, budget, tmp_path)
    pods = sum(item["kind"] == "Pod" for item in facts["items"])
    name = f"{nodes:,} nodes, {usage} %, {'most run' if running else 'all pending'}"
    placed, bound = plan["placedByPriority"]["1"], plan["bound"]["1"]
    gap = 100 * (bound - placed) / pods
    keep(name, figures, pods=pods, placed=placed, bound=bound, moves=len(plan["moves"]))
    assert figures["faults"] == []
    assert nodes > MOST_CHECKED or problems(facts, plan) == []
    record(BENCH, f"{name}: gap in {budget}", gap, "%", target=at_most(most_gap) if usage == 95 else None)
    record(BENCH, f"{name}: seconds", figures["seconds"], "s", load=figures["load"], stages=figures["stages"])
    record(BENCH, f"{name}: moves", 100 * len(plan["moves"]) / pods, "%")
    target = at_most(2_000) if nodes == max(SIZES) else None
    record(BENCH, f"{name}: peak memory", figures["peakMegabytes"], "MB", target=target)


def test_repair(tmp_path: Path, record: Record) -> None:
    """5,000 nodes, 40,000 pods that run, and 20 that wait: eight of them are a gang, with all GPUs of a node each."""
    facts, fewest = repair(1)
    figures, plan = packed(facts, "10s", tmp_path)
    name = "repair, 5,000 nodes, 20 pending"
    moves = len(plan["moves"]) + len(plan["evictions"])
    keep(name, figures, unplaced=len(plan["unplaced"]), moves=moves, fewest=fewest)
    assert figures["faults"] == []
    assert problems(facts, plan) == []
    waiting = len(plan["unplaced"])
    record(BENCH, f"{name}: without a place", waiting, target=at_most(0))
    record(BENCH, f"{name}: seconds", figures["seconds"], "s", target=at_most(2), stages=figures["stages"])
    record(BENCH, f"{name}: moves above the fewest", moves - fewest, target=at_most(0), moves=moves)
    record(BENCH, f"{name}: certified", plan["certified"], target=at_least(1))
    proven = plan["moveCost"] == plan["moveCostBound"]
    record(BENCH, f"{name}: fewest moves proven", proven, target=at_least(1))
    record(BENCH, f"{name}: peak memory", figures["peakMegabytes"], "MB", target=at_most(2_000))


def keep(name: str, figures: dict[str, Any], **details: Any) -> None:
    """Keep all figures of a packing beside those of earlier ones."""
    file = FOLDER / "scale.json"
    known = json.loads(file.read_text()) if file.is_file() else {}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**known, name: {**details, **figures}}, indent=2) + "\n")
