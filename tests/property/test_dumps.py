"""Dumps in the form of "Priority Matters" through file, packer and output; an independent checker has the last word.

`make bench` does the same within one second of wall time and with more and larger dumps.
"""

from __future__ import annotations

import json
from itertools import product

import pytest

from harness.facts import packed
from harness.instances import dump, paper_instance
from harness.plan_checker import problems
from stowage.cli.plan import document
from stowage_scheduler.kube.dump import read_dump
from stowage_scheduler.options import Budget, PackOptions

CASES = [
    pytest.param(nodes, pods, priorities, usage, id=f"{nodes} nodes x {pods}, {priorities} priorities, {usage} %")
    for (nodes, pods), priorities, usage in product(((4, 4), (8, 8), (16, 8)), (1, 4), (95, 105))
]


@pytest.mark.parametrize(("nodes", "pods", "priorities", "usage"), CASES)
def test_plans_for_dumps_are_valid(nodes: int, pods: int, priorities: int, usage: int) -> None:
    room_for_all = usage < 100
    instance = paper_instance(nodes, pods, priorities, usage, 2, placeable=room_for_all)
    cluster = dump(instance)
    facts = read_dump(json.dumps(cluster).encode()).snapshot
    packing = packed(facts, PackOptions(), Budget(deterministic_units=2.0))
    plan = document(packing)
    assert packing.faults == ()
    assert problems(cluster, plan) == []
    assert instance.pending > 0
    if room_for_all:
        assert plan["unplaced"] == plan["evictions"] == []
        assert plan["certified"]


def test_the_checker_sees_what_is_wrong() -> None:
    cluster = dump(paper_instance(4, 4, 2, 95, 2, placeable=True))
    facts = read_dump(json.dumps(cluster).encode()).snapshot
    plan = document(packed(facts, PackOptions(), Budget(deterministic_units=2.0)))
    assert problems(cluster, plan) == []
    for wrong in (
        {"assignments": plan["assignments"][1:]},
        {"assignments": [{**one, "node": "node-000"} for one in plan["assignments"]]},
        {"moves": []},
        {"steps": plan["steps"][1:]},
        {"steps": [{**step, "after": [step["id"]]} for step in plan["steps"]]},
        {"placedByPriority": {priority: count + 1 for priority, count in plan["placedByPriority"].items()}},
        {"bound": {priority: count - 1 for priority, count in plan["bound"].items()}},
    ):
        assert problems(cluster, plan | wrong)
