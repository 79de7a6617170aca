"""A placement of which some changes have no safe order: the rest of it is had all the same."""

from __future__ import annotations

import pytest

from harness.facts import OPTIONS, node, packed, pod, snapshot
from stowage_scheduler.cluster import DisruptionBudget, LabelSelector
from stowage_scheduler.moves import UnorderableError, order
from stowage_scheduler.placement import Placement
from stowage_scheduler.salvage import salvaged
from unit.test_pack_order import Goes, exchange

# two pods under one disruption would have to change places; `r` needs nobody of them, `s` has to move for it
STUCK = [Goes("a", 6, 0, 1, covered=True), Goes("m", 5, 1, 0, covered=True), Goes("q", 2, None, 0)]
FREE = [Goes("s", 4, 2, 3), Goes("r", 10, None, 2)]
SIZES = [7, 6, 10, 4]


def where(placement: Placement) -> dict[str, str]:
    problem = placement.problem
    return {
        c.name.removeprefix("default/"): problem.nodes[node]
        for c in problem.classes
        for node in placement.counts[c.index]
    }


def test_what_can_not_be_ordered_stays_and_the_rest_is_done() -> None:
    built, made = exchange(SIZES, [*STUCK, *FREE])
    with pytest.raises(UnorderableError) as caught:
        order(built, made, most_detours=0)
    rest = salvaged(built.problem, made, caught.value.changes)
    assert rest is not None
    assert where(rest) == {"a": "n0", "m": "n1", "s": "n3", "r": "n2"}


def test_who_would_lose_a_place_for_nothing_keeps_it() -> None:
    """`l` was to be evicted for `q`, which has no room without the exchange."""
    pods = [Goes("a", 4, 0, 1, True), Goes("m", 3, 1, 0, True), Goes("l", 2, 0, None), Goes("q", 3, None, 0)]
    built, made = exchange([6, 4], pods)
    stuck = [change for change in made if change.uid in {"uid-a-1", "uid-m-1"}]
    rest = salvaged(built.problem, made, stuck)
    assert rest is not None
    assert where(rest) == {"a": "n0", "m": "n1", "l": "n0"}


def test_room_that_is_free_goes_to_another_who_waits() -> None:
    built, made = exchange(SIZES, [*STUCK, Goes("small", 1, None, None)])
    stuck = [change for change in made if change.uid in {"uid-a-1", "uid-m-1"}]
    rest = salvaged(built.problem, made, stuck)
    assert rest is not None
    assert where(rest)["small"] in {"n0", "n1", "n2", "n3"}


def test_with_nobody_to_take_back_there_is_nothing_to_try() -> None:
    built, made = exchange(SIZES, FREE)
    assert salvaged(built.problem, made, ()) is None


def test_a_plan_is_not_lost_for_moves_that_have_no_order() -> None:
    """Node n0 has room for `q` only after an exchange that the budget forbids, and no other node takes its pods."""
    covered = {"labels": {"tier": "web"}, "node_selector": {"pair": "True"}}
    cluster = snapshot(
        *(
            node(f"n{number}", size, labels={"host": f"n{number}", "pair": str(number < 2)})
            for number, size in enumerate(SIZES)
        ),
        pod("a-1", 6, on="n0", **covered),
        pod("m-1", 5, on="n1", **covered),
        pod("s-1", 4, on="n2"),
        pod("q-1", 2, node_selector={"host": "n0"}),
        pod("r-1", 10),
        budgets=(DisruptionBudget("default", "web", "web", LabelSelector((("tier", "web"),)), 1),),
    )
    packing = packed(cluster, OPTIONS)
    assert {move.pod.name: move.target for move in packing.moves} == {"s-1": "n3"}
    assert {step.pod.name for step in packing.steps} == {"s-1", "r-1"}
    assert any("no safe order" in fault for fault in packing.faults)


def test_who_has_no_order_waits_when_free_room_would_be_the_same_again() -> None:
    built, made = exchange([2], [Goes("q", 2, None, 0), Goes("small", 1, None, None)])
    assert where(salvaged(built.problem, made, made) or Placement(built.problem)) == {"q": "n0"}
    assert where(salvaged(built.problem, made, made, again=False) or Placement(built.problem)) == {"small": "n0"}
