"""The grid of "Priority Matters" (arXiv:2511.08373), run through `stowage_scheduler.pack` on two workers.

`pytest tests/bench/packing/test_priority_grid.py` takes about ten minutes; `--grid=all` runs ten seeds of each of the
96 cells with both budgets, about an hour; `--budget=1s` (or `0.8u`, deterministic units) runs one of them. Each run
is a line of `build/bench/packing/priority_grid.jsonl`: what is there of the same packer is not run again, so a bench
that was stopped goes on. Tables go to the terminal and to JSON, pictures to `build/bench/packing/`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import pytest
from rich.console import Console

from harness.grid_report import draw, row, rows, table
from harness.grid_runs import FOLDER, Outcome, Run, RunFile
from harness.measurements import Record, at_least, at_most
from harness.priority_grid import CELLS, in_order

SEEDS = {"sample": {"1s": 3, "10s": 1}, "all": {"1s": 10, "10s": 10}}
BENCH = "Priority Matters grid"
BETTER_OR_PROVEN = {"1s": 97.0, "10s": 99.0}
PROVEN = {"1s": 50.0, "10s": 65.0}


def test_grid(request: pytest.FixtureRequest, record: Record) -> None:
    size = request.config.getoption("grid", "sample")
    asked = request.config.getoption("budget", "")
    file = RunFile(FOLDER / "priority_grid.jsonl")
    everything: dict[str, list[Run]] = {}
    for budget in asked.split(",") if asked else SEEDS[size]:
        seeds = SEEDS[size].get(budget, SEEDS[size]["1s"])
        everything[budget] = [file.ensure(cell, seed, budget) for cell, seed in in_order(seeds)]
        assert {one.cell for one in everything[budget]} == set(CELLS)
    best = _best_known(file)
    faults = []
    for budget, runs in everything.items():
        _report(budget, runs)
        _record(budget, runs, best, record)
        faults += [f"{one.cell}, seed {one.seed}, {budget}: {one.faults[0]}" for one in runs if one.faults]
    assert faults == []


def _best_known(file: RunFile) -> dict[tuple[object, int], tuple[int, ...]]:
    """By start state the tiers of a plan with a place for every pod, which nothing can exceed, whoever found it."""
    return {
        (one.cell, one.seed): one.placed
        for one in file.runs.values()
        if one.outcome is not Outcome.FAILURE and one.placed == one.pods
    }


def _report(budget: str, runs: Sequence[Run]) -> None:
    found = rows(runs)
    Console(width=160).print(table(f"\nbudget {budget}: {len(runs)} start states", found))
    FOLDER.mkdir(parents=True, exist_ok=True)
    document = {"budget": budget, "rows": [asdict(one) for one in found]}
    (FOLDER / f"priority_grid_{budget}.json").write_text(json.dumps(document, indent=2) + "\n")
    pytest.importorskip("matplotlib", reason="pictures need the extra `demo`")
    draw(runs, budget, FOLDER / f"priority_grid_{budget}.png")


def _record(budget: str, runs: Sequence[Run], best: dict[tuple[object, int], tuple[int, ...]], record: Record) -> None:
    whole = row("all", runs)
    record(BENCH, f"{budget}: failures", whole.failures, target=at_most(0), calls=whole.calls)
    shares = (
        ("better or proven", whole.better_or_proven_percent, BETTER_OR_PROVEN),
        ("proven", whole.proven_percent, PROVEN),
    )
    for name, value, targets in shares:
        target = at_least(targets[budget]) if budget in targets else None
        record(BENCH, f"{budget}: {name}", value, "%", target=target)
    record(BENCH, f"{budget}: largest gap", whole.largest_gap_percent, "%", target=at_most(1.5))
    record(BENCH, f"{budget}: moves near their bound", whole.near_bound_percent, "%", target=at_least(60))
    record(BENCH, f"{budget}: moves where not proven", whole.unproven_moves_percent, "%", target=at_most(10))
    known = [(one, best[one.cell, one.seed]) for one in runs if (one.cell, one.seed) in best]
    if known:
        reached = 100 * sum(one.placed == placed for one, placed in known) / len(known)
        record(BENCH, f"{budget}: all placed, where some run has", reached, "%", target=at_least(95), states=len(known))
    record(BENCH, f"{budget}: load of the machine", max(one.load for one in runs))
