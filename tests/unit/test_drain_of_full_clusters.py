"""Drains where every node is nearly full: a place for everybody is found, or it is proven that there is none."""

from __future__ import annotations

from random import Random

import pytest
from msgspec.structs import replace

from harness.facts import BUDGET, OPTIONS, node, packed, pod, snapshot
from stowage_scheduler.cluster import Snapshot
from stowage_scheduler.options import Budget, Drain
from stowage_scheduler.packing import Packing

SIZE = 8_000
PODS = 8  # on each node


def cut(chance: Random, total: int) -> list[int]:
    """An amount in as many parts as a node has pods."""
    weights = [chance.uniform(0.3, 1.7) for _ in range(PODS)]
    return [int(total * weight / sum(weights)) for weight in weights]


def full(nodes: int, percent: int, seed: int) -> Snapshot:
    """Every node has so much of its CPU and memory in use, by eight pods that no other pod is like."""
    chance = Random(seed)
    used = SIZE * percent // 100
    facts = [node(f"n{number:03}", SIZE, extra={"memory": SIZE}) for number in range(nodes)]
    pods = [
        pod(f"a{number}x{place}-0", cpu, on=f"n{number:03}", extra={"memory": memory})
        for number in range(nodes)
        for place, (cpu, memory) in enumerate(zip(cut(chance, used), cut(chance, used), strict=True))
    ]
    return snapshot(*facts, *pods)


def drained(nodes: int, gone: int, percent: int, budget: Budget = BUDGET) -> Packing:
    names = frozenset(f"n{number:03}" for number in range(gone))
    return packed(full(nodes, percent, 1), replace(OPTIONS, drain=Drain(names)), budget)


@pytest.mark.parametrize(
    ("nodes", "gone", "percent"),
    [
        pytest.param(40, 1, 95, id="half-of-what-is-free"),
        pytest.param(60, 1, 95, id="a-third-of-what-is-free"),
        pytest.param(60, 2, 90, id="two-nodes"),
    ],
)
def test_everybody_finds_a_place_in_what_is_free_here_and_there(nodes: int, gone: int, percent: int) -> None:
    packing = drained(nodes, gone, percent)
    assert packing.faults == ()
    assert packing.unplaced == ()
    assert len(packing.moves) >= gone * PODS
    assert packing.certified
    assert packing.bound == packing.placed


def test_that_the_rest_is_too_small_is_proven() -> None:
    """How many of them would find a place at best stays open, and does not matter."""
    packing = drained(20, 2, 95, Budget(deterministic_units=0.2))
    assert packing.unplaced
    assert packing.steps == ()
    assert packing.certified
    assert packing.bound == packing.placed
