"""`stowage plan -f dump.json --budget 1s --seed 1 -o json` on dumps in the form of "Priority Matters".

Every plan is checked by `harness.plan_checker`, which shares no code with the product. Prints a table and
writes `build/bench/plan_dumps.json`. What is asserted are the promises of the project: all plans valid and
never worse than the start; where a place for every pod is known to exist, all placed in 90 %; the best
known answer reached in 80 %.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from itertools import product
from pathlib import Path
from typing import Any

from harness.exact import best_counts
from harness.instances import Instance, dump, paper_instance
from harness.measurements import Record, at_least, at_most
from harness.plan_checker import problems

SIZES = tuple(product((4, 8, 16, 32), (4, 8)))
SEEDS = range(1, 4)
SECONDS_FOR_EXACT = 20.0
BENCH = "stowage plan, 16 to 256 pods, 1 s"


def test_plans_for_dumps(tmp_path: Path, record: Record) -> None:
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    faults: list[str] = []
    for (nodes, pods), priorities, seed in product(SIZES, (1, 4), SEEDS):
        for usage, placeable in ((95, True), (100, False)):
            instance = paper_instance(nodes, pods, priorities, usage, seed, placeable=placeable)
            if not instance.pending:
                continue
            document = dump(instance)
            plan = _plan(tmp_path, document)
            name = f"{nodes:2d} nodes x {pods}, {'room for all' if placeable else f'{usage} %'}"
            faults += [f"{name}, {priorities} priorities, seed {seed}: {fault}" for fault in problems(document, plan)]
            rows[name].append(_row(instance, plan))
    _report(rows)
    every = [row for group in rows.values() for row in group]
    placeable_rows = [row for row in every if row["placeable"]]
    known = [row for row in every if row["best"] is not None]
    placed = 100 * sum(row["all"] for row in placeable_rows) / len(placeable_rows)
    reached = 100 * sum(row["reached"] for row in known) / len(known)
    record(BENCH, "rules broken", len(faults), target=at_most(0), plans=len(every))
    record(BENCH, "room for all: all placed", placed, "%", target=at_least(90), plans=len(placeable_rows))
    record(BENCH, "best known answer reached", reached, "%", target=at_least(80), plans=len(known))
    record(BENCH, "certified", 100 * sum(row["certified"] for row in every) / len(every), "%")
    record(BENCH, "slowest", max(row["seconds"] for row in every), "s")
    assert len(every) >= 40
    assert faults == []
    assert sum(row["all"] for row in placeable_rows) >= 0.9 * len(placeable_rows)
    assert sum(row["reached"] for row in known) >= 0.8 * len(known)


def _plan(folder: Path, document: dict[str, Any]) -> dict[str, Any]:
    file = folder / "dump.json"
    file.write_text(json.dumps(document))
    command = [
        sys.executable,
        "-m",
        "stowage.cli",
        "plan",
        "-f",
        str(file),
        "--budget",
        "1s",
        "--seed",
        "1",
        "-o",
        "json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}, done.stderr
    plan: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode == 0) == (not plan["unplaced"] and not plan["evictions"])
    return plan


def _row(instance: Instance, plan: dict[str, Any]) -> dict[str, Any]:
    counts = [count for _, count in sorted(((int(p), c) for p, c in plan["placedByPriority"].items()), reverse=True)]
    best: list[int] | None = counts if plan["certified"] else None  # the bound was checked against the count
    if instance.placeable:
        priorities = sorted({pod.priority for pod in instance.pods}, reverse=True)
        best = [sum(pod.priority >= priority for pod in instance.pods) for priority in priorities]
    elif len(instance.pods) <= 64:
        best = best_counts(instance, SECONDS_FOR_EXACT)
    return {
        "placeable": instance.placeable,
        "pending": instance.pending,
        "all": not plan["unplaced"] and not plan["evictions"],
        "best": best,
        "reached": best is not None and counts == best,
        "certified": plan["certified"],
        "moves": len(plan["moves"]),
        "evictions": len(plan["evictions"]),
        "seconds": plan["seconds"],
    }


def _report(rows: dict[str, list[dict[str, Any]]]) -> None:
    print(f"\n{'instances':32s}   n all placed best known certified  moves slowest")
    for name, group in rows.items():
        known = [row for row in group if row["best"] is not None]
        moves = sum(row["moves"] for row in group) / len(group)
        slowest = max(row["seconds"] for row in group)
        print(
            f"{name:32s} {len(group):3d} {sum(r['all'] for r in group):10d} "
            f"{sum(r['reached'] for r in known):6d}/{len(known):<3d} {sum(r['certified'] for r in group):9d} "
            f"{moves:6.1f} {slowest:5.2f}"
        )
    target = Path("build/bench/plan_dumps.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(rows, indent=2))
