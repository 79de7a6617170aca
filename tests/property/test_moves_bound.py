"""What moves must cost: bounds against every placement of small problems, and plans that meet them."""

from __future__ import annotations

import time
from itertools import product
from random import Random

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harness.small_problems import placements, problems
from stowage_scheduler.options import Budget
from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import PodClass, Problem
from stowage_scheduler.rules import RULES
from stowage_scheduler.solve.calmer import calmer
from stowage_scheduler.solve.columns import Columns
from stowage_scheduler.solve.effort import Clockwork
from stowage_scheduler.solve.engine import solve
from stowage_scheduler.solve.exact import exact_calm
from stowage_scheduler.solve.knapsacks import Knapsacks
from stowage_scheduler.solve.part import part_of
from stowage_scheduler.solve.relaxation import Duals, Objective


def limit() -> Clockwork:
    return Clockwork(time.monotonic, 0.0, units=50.0)  # noqa: TID251


def as_calm(placement: Placement) -> list[Placement]:
    """Every placement with as many pods in each tier that loses no more of them."""
    placed, lost = placement.placed_by_priority(), placement.disruption()[0]
    return [
        other
        for other in placements(placement.problem)
        if other.placed_by_priority() == placed and other.disruption()[0] <= lost
    ]


def cheapest(placement: Placement) -> int:
    return min(other.disruption()[1] for other in as_calm(placement))


@st.composite
def some_placements(draw: st.DrawFn) -> Placement:
    return draw(st.sampled_from(list(placements(draw(problems())))))


@settings(max_examples=150)
@given(some_placements())
def test_no_bound_lies_above_the_cheapest_moves(placement: Placement) -> None:
    found = calmer(placement, limit(), 20.0)
    assert found.bound is not None
    assert found.bound <= cheapest(placement)
    assert found.placement.score() >= placement.score()
    assert found.placement.score() in {other.score() for other in as_calm(placement)}


@settings(max_examples=150)
@given(some_placements(), st.integers(0, 2**32))
def test_any_prices_give_a_bound(placement: Placement, seed: int) -> None:
    problem = placement.problem
    lost, cost = placement.disruption()
    random = Random(seed)
    columns = Columns(problem, placement.placed_by_priority(), (placement,))
    aim = Objective([0] * len(columns.costs), [-one for one in columns.costs], lost)

    def some(count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array([random.choice([0, random.randrange(40_000_000)]) for _ in range(count)], dtype=np.int64)

    duals = Duals(some(len(problem.classes)), some(len(problem.classes)), some(len(columns.targets)), -int(some(1)[0]))
    for kept in (1, 1000):
        found, _ = columns._bounded(aim, duals, kept, limit())
        assert found.least * columns.unit <= max(0, cheapest(placement)) <= cost


def a_full_node() -> Placement:
    """A large pod waits; it fits if the small one moves, and that is the only way to place both."""
    problem = Problem(
        resources=("cpu",),
        nodes=("a", "b"),
        free=((4,), (2,)),
        classes=(
            PodClass(0, "small", (2,), 0, 0, {0: 1}, frozenset({0, 1}), move_cost=30),
            PodClass(1, "large", (4,), 0, 1, {}, frozenset({0, 1})),
        ),
    )
    found = Placement(problem)
    found.replace(0, {1: 1})
    found.replace(1, {0: 1})
    return found


def test_a_move_that_must_be_is_known_to_be_needed() -> None:
    found = calmer(a_full_node(), limit(), 20.0)
    assert found.bound == 30
    assert found.placement.disruption() == (0, 30)


@pytest.mark.parametrize("parts", [1_000, 31_000_000])
def test_a_mistake_in_the_bound_is_caught(parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Columns._fixed

    def too_high(columns: Columns, aim: Objective, duals: Duals) -> int:
        return honest(columns, aim, duals) + parts

    def is_wrong() -> bool:
        placement = a_full_node()
        columns = Columns(placement.problem, placement.placed_by_priority(), (placement,))
        return columns.least_moves(0, 100, limit(), 0.0).least * columns.unit > cheapest(placement)

    assert not is_wrong()
    monkeypatch.setattr(Columns, "_fixed", too_high)
    assert is_wrong()


@settings(max_examples=100)
@given(problems(), st.sampled_from([0.02, 2.0]))
def test_what_a_search_says_of_moves_is_true(problem: Problem, units: float) -> None:
    solution = solve(problem, Budget(deterministic_units=units, workers=1), 1, time.monotonic, 0.0)  # noqa: TID251
    assert solution.moves_bound is None or solution.moves_bound <= cheapest(solution.placement)


@settings(max_examples=100)
@given(some_placements())
def test_the_exact_model_proves_what_is_true(placement: Placement) -> None:
    found, proven = exact_calm(placement, RULES, limit(), 20.0)
    assert not proven or found.disruption()[1] == cheapest(found)


@st.composite
def knapsacks(draw: st.DrawFn) -> tuple[Knapsacks, list[int], list[int], list[list[int]], list[list[int]]]:
    """One to three nodes, up to four classes; prices, what a pod is worth more at home, most and home by node."""
    nodes, classes = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    requests = draw(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), min_size=classes, max_size=classes))
    rooms = draw(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=nodes, max_size=nodes))
    counts = st.lists(st.integers(0, 3), min_size=classes, max_size=classes)
    most, home = ([draw(counts) for _ in range(nodes)] for _ in range(2))
    prices = st.lists(st.integers(0, 50), min_size=classes, max_size=classes)
    sacks = Knapsacks(*(np.array(one, dtype=np.int64) for one in (requests, rooms, most, home)))
    sacks.everything = (requests, rooms)  # type: ignore[attr-defined]
    return sacks, draw(prices), draw(prices), most, home


@settings(max_examples=300)
@given(knapsacks(), st.integers(-1, 60), st.sampled_from([1, 3, 1000]))
def test_no_filling_is_worth_more_than_the_bound(
    drawn: tuple[Knapsacks, list[int], list[int], list[list[int]], list[list[int]]], wanted: int, kept: int
) -> None:
    sacks, prices, bonus, most, home = drawn
    requests, rooms = sacks.everything  # type: ignore[attr-defined]
    nodes = len(rooms)
    found = sacks.value(np.array(prices), np.array(bonus), np.full(nodes, wanted), kept)
    told = {
        (int(n), tuple(map(int, row))): int(w) for n, row, w in zip(found.nodes, found.rows, found.worth, strict=True)
    }
    for node in range(nodes):
        fitting = [
            row
            for row in product(*(range(count + 1) for count in most[node]))
            if all(sum(k * asks[r] for k, asks in zip(row, requests, strict=True)) <= rooms[node][r] for r in (0, 1))
        ]
        worth = {
            row: sum(
                k * price + min(k, at_home) * more
                for k, price, more, at_home in zip(row, prices, bonus, home[node], strict=True)
            )
            for row in fitting
        }
        assert found.most[node] >= max(worth.values())
        for row in fitting:
            if (node, row) in told:
                assert told[node, row] == worth[row]
            else:
                assert worth[row] < wanted or not found.complete[node]
    assert all(row in set(product(*(range(count + 1) for count in most[node]))) for node, row in told)


@settings(max_examples=100)
@given(some_placements(), st.data())
def test_a_part_disrupts_no_less_than_what_it_does_to_the_whole(placement: Placement, data: st.DataObject) -> None:
    assume(not placement.problem.gangs)
    nodes = data.draw(st.permutations(range(len(placement.problem.nodes))))
    part = part_of(placement, nodes[: data.draw(st.integers(1, len(nodes)))])
    assert part.put_into(placement, part.placement).score() == placement.score()
    for other in placements(part.placement.problem):
        if other.placed_of == part.placement.placed_of:
            gained = part.placement.disruption()[1] - other.disruption()[1]
            whole = part.put_into(placement, other)
            assert placement.disruption()[0] == whole.disruption()[0]
            assert placement.disruption()[1] - whole.disruption()[1] >= gained
