"""Small instances against the textbook model: the answer is the optimum, and no bound lies below it."""

from __future__ import annotations

import json

import pytest

from harness.exact import best_counts
from harness.facts import OPTIONS, packed
from harness.instances import dump, paper_instance
from stowage_scheduler.kube.dump import read_dump
from stowage_scheduler.options import Budget

INSTANCES = {
    f"{nodes} nodes, {pods} pods each, {priorities} priorities, {usage} %, seed {seed}": (
        nodes,
        pods,
        priorities,
        usage,
        seed,
    )
    for nodes, pods, priorities, usage, seed in (
        (3, 3, 1, 95, 1),
        (3, 4, 2, 100, 2),
        (4, 3, 4, 105, 3),
        (4, 4, 1, 100, 4),
        (4, 4, 2, 105, 5),
        (4, 4, 4, 95, 6),
    )
}


@pytest.mark.parametrize("arguments", INSTANCES.values(), ids=INSTANCES.keys())
def test_small_instances_are_solved_to_the_optimum(arguments: tuple[int, int, int, int, int]) -> None:
    nodes, pods, priorities, usage, seed = arguments
    instance = paper_instance(nodes, pods, priorities, usage, seed)
    best = best_counts(instance, seconds=60.0)
    assert best is not None
    cluster = read_dump(json.dumps(dump(instance)).encode()).snapshot
    packing = packed(cluster, OPTIONS, Budget(deterministic_units=4.0))
    assert list(packing.placed.values()) == best
    assert all(bound >= count for bound, count in zip(packing.bound.values(), best, strict=True))
    assert packing.certified
