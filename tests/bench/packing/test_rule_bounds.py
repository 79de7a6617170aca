"""Plans proven optimal where rules, more than room, decide: with the bounds from rules and without, in one run.

The same clusters, the same deterministic units; about half of the pods run at the start. CPU in seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from harness.facts import packed
from harness.measurements import Record, at_least
from harness.ruled_instances import ruled_instance
from stowage_scheduler.options import Budget
from stowage_scheduler.packing import Packing
from stowage_scheduler.solve import engine
from stowage_scheduler.solve.bound import Bounds

BENCH = "bounds from rules"
SIZES = {8: (0.8, 12), 12: (0.8, 12), 40: (2.0, 6)}  # units and seeds, by nodes

clock = time.process_time


def without(_: Any, bounds: Bounds, *more: Any) -> Bounds:
    del more
    return bounds


@pytest.mark.parametrize("nodes", SIZES)
@pytest.mark.parametrize("usage", [60, 80, 100])
def test_more_plans_are_proven(nodes: int, usage: int, record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    units, seeds = SIZES[nodes]
    honest = engine.rule_bounds
    ways: dict[str, Callable[..., Bounds]] = {"without": without, "with": honest}
    found: dict[str, list[Packing]] = {}
    for name, bounds in ways.items():
        monkeypatch.setattr(engine, "rule_bounds", bounds)
        began = clock()
        plans = [
            packed(ruled_instance(nodes, usage, seed), budget=Budget(deterministic_units=units, workers=2))
            for seed in range(1, seeds + 1)
        ]
        cpu = (clock() - began) / seeds
        found[name] = plans
        proven = sum(plan.certified for plan in plans)
        what = f"{nodes} nodes, {usage} %, {name}"
        least = at_least(95.0) if name == "with" and usage < 100 else None
        record(BENCH, f"{what}: proven", 100 * proven / seeds, "%", target=least)
        record(BENCH, f"{what}: gap", 100 * max(map(_gap, plans)), "% of the tier")
        record(BENCH, f"{what}: CPU for one plan", cpu, "s")
        record(BENCH, f"{what}: answers of the search without a safe order", sum(bool(plan.faults) for plan in plans))
    for before, after in zip(found["without"], found["with"], strict=True):
        assert not before.certified or after.certified or before.placed != after.placed


def _gap(plan: Packing) -> float:
    """Pods between plan and bound, of the bound, in the worst tier."""
    return max(1 - plan.placed[priority] / max(1, bound) for priority, bound in plan.bound.items())
