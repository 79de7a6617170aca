"""The bound of an answer that falls back: never below what it has, and true for the tier that comes first."""

from __future__ import annotations

from itertools import product
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from harness.facts import BUDGET, OPTIONS, node, packed, places, pod, snapshot
from stowage_scheduler import pack
from stowage_scheduler.build import Build, build
from stowage_scheduler.cluster import DisruptionBudget, LabelSelector, Pod
from stowage_scheduler.moves import UnorderableError
from stowage_scheduler.packing import Packing
from stowage_scheduler.placement import Placement
from stowage_scheduler.solve.bound import Bounds

COVERED = {"labels": {"tier": "web"}}
ONE_AT_A_TIME = DisruptionBudget("default", "web", "web", LabelSelector((("tier", "web"),)), 1)


@pytest.mark.parametrize(
    ("bound", "placed", "expected"),
    [
        pytest.param({10: 3, 0: 7}, {10: 3, 0: 7}, {10: 3, 0: 7}, id="met"),
        pytest.param({10: 3, 0: 7}, {10: 2, 0: 6}, {10: 3, 0: 7}, id="missed-in-both"),
        pytest.param({10: 3, 0: 7}, {10: 2, 0: 8}, {10: 3, 0: 8}, id="less-above-and-more-below"),
    ],
)
def test_raised(bound: dict[int, int], placed: dict[int, int], expected: dict[int, int]) -> None:
    cluster = snapshot(node("a", 100), *(pod(f"p{n}-0", 10, priority=p) for p in (0, 10) for n in (p,)))
    placement = Placement(build(cluster, OPTIONS).problem)
    placement.placed_at = {10: placed[10], 0: placed[0] - placed[10]}
    assert Bounds(bound).raised(placement).by_priority == expected


def test_an_answer_without_the_first_tier_has_more_in_the_second() -> None:
    """`q` needs an exchange that the budget forbids; without it there is room for both small pods, with it for none."""
    cluster = snapshot(
        node("n0", 7, labels={"host": "n0"}),
        node("n1", 6),
        pod("a-1", 6, on="n0", **COVERED),
        pod("m-1", 5, on="n1", **COVERED),
        pod("q-1", 2, priority=10, node_selector={"host": "n0"}),
        pod("r-1", 1),
        pod("s-1", 1),
        budgets=(ONE_AT_A_TIME,),
    )
    packing = packed(cluster, replace(OPTIONS, evict_lower_priority=False))
    assert {"r-1", "s-1"} <= set(places(packing))
    assert packing.placed == {10: 0, 0: 4}
    assert packing.bound == {10: 1, 0: 4}, "one of 3 counts on a plan that has `q`"
    assert not packing.certified


def refusing(orders: Random, share: float) -> pytest.MonkeyPatch:
    """Let there be no order for some pods of high priority, as if a budget forbade it."""
    patch, order = pytest.MonkeyPatch(), pack.order
    never: dict[str, bool] = {}

    def sometimes(built: Build, made: tuple[pack.Change, ...], *rest: object, **more: object) -> object:
        high = [one for one in made if built.pods[one.uid].priority]
        blocked = tuple(one for one in high if never.setdefault(one.uid, orders.random() < share))
        if blocked:
            raise UnorderableError("no safe order", blocked)
        return order(built, made, *rest, **more)  # type: ignore[arg-type]

    patch.setattr(pack, "order", sometimes)
    return patch


@given(seed=st.integers(0, 2**32))
@settings(max_examples=60)
def test_bounds_hold_whatever_has_no_order(seed: int) -> None:
    chance = Random(seed)
    sizes = [chance.randint(2, 4), chance.randint(0, 2)]
    asks = [(chance.choice([0, 5]), chance.randint(0, 1)) for _ in range(chance.randint(3, 6))]
    pods = [pod(f"p{n}-0", 1 + more + priority // 2, priority=priority) for n, (priority, more) in enumerate(asks)]
    cluster = snapshot(*(node(f"n{n}", size) for n, size in enumerate(sizes)), *pods)
    patch = refusing(chance, 0.7)
    try:
        packing = packed(cluster, OPTIONS, BUDGET)
    finally:
        patch.undo()
    check(packing, sizes, pods)


def check(packing: Packing, sizes: list[int], pods: list[Pod]) -> None:
    assert all(packing.bound[priority] >= count for priority, count in packing.placed.items())
    assert packing.certified == (packing.bound == packing.placed)
    top = max(one.priority for one in pods)
    best = 0
    for ways in product([None, 0, 1], repeat=len(pods)):
        used = [0, 0]
        for one, where in zip(pods, ways, strict=True):
            if where is not None:
                used[where] += one.requests["cpu"]
        if all(taken <= size for taken, size in zip(used, sizes, strict=True)):
            best = max(best, sum(w is not None and one.priority == top for one, w in zip(pods, ways, strict=True)))
    assert packing.bound[top] >= best
