"""Least disruption against every possible placement of small problems: no bound lies above it, and it is found."""

from __future__ import annotations

import time
from itertools import product

import pytest
from hypothesis import given, settings

from harness.small_problems import best_score, placements, problems
from stowage_scheduler.placement import Placement, Score
from stowage_scheduler.problem import PodClass, Problem
from stowage_scheduler.solve.effort import Clockwork
from stowage_scheduler.solve.fillings import Ints, fillings
from stowage_scheduler.solve.least import is_listable, least_disruption, tightest
from stowage_scheduler.solve.prices import Prices
from stowage_scheduler.solve.relaxation import Objective


def limit() -> Clockwork:
    return Clockwork(time.monotonic, 0.0, units=50.0)  # noqa: TID251


def prices_of(problem: Problem, best: Score) -> Prices:
    table = fillings(problem)
    assert table is not None
    return Prices(problem, table, dict(zip(problem.priorities, best, strict=False)))


def lies_above(problem: Problem) -> bool:
    """Whether a bound is wrong: the best placement does less."""
    best = best_score(problem)
    lost, moves = -best[-2], -best[-1]
    prices = prices_of(problem, best)
    fewest = prices.least_lost(limit(), 0.0)
    least = prices.least_moves(lost, limit(), 0.0)
    return (fewest is not None and fewest.least > lost) or (least is not None and least.least * prices.unit > moves)


@settings(max_examples=200)
@given(problems())
def test_no_bound_lies_above_the_least_disruption(problem: Problem) -> None:
    assert not lies_above(problem)


@settings(max_examples=200)
@given(problems())
def test_what_is_proven_is_the_best_placement(problem: Problem) -> None:
    best = best_score(problem)
    table = fillings(problem)
    assert table is not None
    targets = dict(zip(problem.priorities, best, strict=False))
    found = least_disruption(Placement(problem), table, targets, limit(), 10.0)
    if found is None:  # a limit that spans nodes stands in the way of what would be best without it
        assert problem.max_moves is not None or any(c.budgets for c in problem.classes)
        return
    assert found.placement.score() in {placement.score() for placement in placements(problem)}
    assert found.placement.score() == best or not found.proven


@settings(max_examples=200)
@given(problems())
def test_no_bound_on_tiers_lies_below_the_best_placement(problem: Problem) -> None:
    """In the first tier that differs, for those below count on it."""
    table = fillings(problem)
    assert table is not None
    everything = {
        priority: sum(c.total for c in problem.classes if c.priority >= priority) + problem.fixed_from(priority)
        for priority in problem.priorities
    }
    found = tightest(problem, table, everything, limit(), 10.0)
    pairs = zip(found.values(), best_score(problem), strict=False)
    assert next((bound > best for bound, best in pairs if bound != best), True)


@settings(max_examples=100)
@given(problems())
def test_every_filling_is_part_of_one_that_is_listed(problem: Problem) -> None:
    table = fillings(problem)
    assert table is not None
    for node, free in enumerate(problem.free):
        most = [min(c.total, c.limit(node)) for c in problem.classes]
        fitting = {
            held
            for held in product(*(range(count + 1) for count in most))
            if all(
                sum(count * c.requests[r] for count, c in zip(held, problem.classes, strict=True)) <= room
                for r, room in enumerate(free)
            )
        }
        listed = {tuple(row) for row in table.of(node).tolist()}
        assert listed <= fitting
        assert all(any(_within(held, larger) for larger in listed) for held in fitting)


def _within(held: tuple[int, ...], larger: tuple[int, ...]) -> bool:
    return all(a <= b for a, b in zip(held, larger, strict=True))


def a_swap() -> Problem:
    """The pod that waits fits beside nobody but on a node of its own: one of two small ones must move."""
    return Problem(
        resources=("cpu",),
        nodes=("a", "b"),
        free=((4,), (4,)),
        classes=(
            PodClass(0, "small", (2,), 0, 0, {0: 1, 1: 1}, frozenset({0, 1}), move_cost=30),
            PodClass(1, "large", (4,), 0, 1, {}, frozenset({0, 1})),
        ),
    )


def test_the_bound_says_how_many_moves_it_takes() -> None:
    prices = prices_of(a_swap(), best_score(a_swap()))
    least = prices.least_moves(0, limit(), 0.0)
    assert least is not None
    assert least.least * prices.unit == 30


@pytest.mark.parametrize("parts", [1, 31_000_000])
def test_a_mistake_in_the_relaxation_is_caught(parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Prices._duals

    def too_high(prices: Prices, aim: Objective) -> tuple[Ints, int]:
        worth, fixed = honest(prices, aim)
        return worth, fixed + parts

    assert not lies_above(a_swap())
    monkeypatch.setattr(Prices, "_duals", too_high)
    assert lies_above(a_swap())


def test_ports_and_pods_that_preempt_nobody_are_left_to_the_search() -> None:
    problem = a_swap()
    assert is_listable(problem)
    modest = PodClass(1, "large", (4,), 0, 1, {}, frozenset({0, 1}), preempts=False)
    assert not is_listable(Problem(problem.resources, problem.nodes, problem.free, (problem.classes[0], modest)))
    ported = PodClass(1, "large", (4,), 0, 1, {}, frozenset({0, 1}), ports=("tcp",))  # type: ignore[arg-type]
    assert not is_listable(Problem(problem.resources, problem.nodes, problem.free, (problem.classes[0], ported)))


def test_too_many_fillings_are_not_listed() -> None:
    classes = tuple(PodClass(i, f"c{i}", (1,), 0, 12, {}, frozenset({0})) for i in range(12))
    assert fillings(Problem(("cpu",), ("a",), ((12,),), classes)) is None
