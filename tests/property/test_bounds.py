"""Bounds against every possible placement of small problems: no bound lies below the best one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stowage_scheduler.greedy import greedy
from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import PodClass, Problem
from stowage_scheduler.solve import patterns
from stowage_scheduler.solve.bound import Bounds, aggregated_bounds
from stowage_scheduler.solve.effort import Clockwork
from stowage_scheduler.solve.patterns import node_kinds, pattern_bounds


def problem_of(nodes: list[tuple[int, int]], classes: list[tuple[int, int, int, int]]) -> Problem:
    """Nodes as (CPU, memory), classes as (CPU, memory, priority, pods), all pending."""
    everywhere = frozenset(range(len(nodes)))
    return Problem(
        resources=("cpu", "memory"),
        nodes=tuple(f"n{number}" for number in range(len(nodes))),
        free=tuple(nodes),
        classes=tuple(
            PodClass(number, f"c{number}", (cpu, memory), priority, pods, {}, everywhere)
            for number, (cpu, memory, priority, pods) in enumerate(classes)
        ),
    )


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    kinds = draw(st.lists(st.tuples(st.integers(2, 9), st.integers(2, 9)), min_size=1, max_size=2))
    nodes = [draw(st.sampled_from(kinds)) for _ in range(draw(st.integers(1, 3)))]
    size = st.integers(1, 6)
    classes = [
        (draw(size), draw(size), draw(st.integers(0, 1)), draw(st.integers(1, 3)))
        for _ in range(draw(st.integers(1, 3)))
    ]
    return problem_of(nodes, classes)


def fillings(problem: Problem, node: int) -> list[tuple[int, ...]]:
    """All that one node can hold."""
    every = product(*(range(c.total + 1) for c in problem.classes))
    return [
        held
        for held in every
        if all(
            sum(count * c.requests[r] for count, c in zip(held, problem.classes, strict=True)) <= room
            for r, room in enumerate(problem.free[node])
        )
    ]


def counts(problem: Problem) -> set[tuple[int, ...]]:
    """Pods placed per class, of all placements."""
    reached: set[tuple[int, ...]] = {tuple(0 for _ in problem.classes)}
    for node in range(len(problem.nodes)):
        reached = set(_with(problem, reached, fillings(problem, node)))
    return reached


def _with(problem: Problem, reached: set[tuple[int, ...]], more: list[tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
    for before, held in product(reached, more):
        both = tuple(a + b for a, b in zip(before, held, strict=True))
        if all(count <= c.total for count, c in zip(both, problem.classes, strict=True)):
            yield both


def best_tiers(problem: Problem) -> tuple[int, ...]:
    """The lexicographically most pods, by priority or higher."""
    return max(
        tuple(
            sum(count for count, c in zip(found, problem.classes, strict=True) if c.priority >= priority)
            for priority in problem.priorities
        )
        for found in counts(problem)
    )


def limit() -> Clockwork:
    return Clockwork(time.monotonic, 0.0, units=50.0)  # noqa: TID251


def bounds_of(placement: Placement) -> tuple[Bounds, Bounds]:
    aggregated = aggregated_bounds(placement, limit(), 10.0)
    return aggregated, pattern_bounds(placement, aggregated, limit(), 10.0)


def lies_below(problem: Problem, bounds: Bounds) -> bool:
    """Whether a bound is wrong: in the first tier that differs from the best, it is lower."""
    pairs = zip(bounds.by_priority.values(), best_tiers(problem), strict=True)
    return next((bound < best for bound, best in pairs if bound != best), False)


@settings(max_examples=150)
@given(problems())
def test_no_bound_lies_below_the_best_placement(problem: Problem) -> None:
    start = greedy(problem)
    aggregated, pattern = bounds_of(start)
    assert not lies_below(problem, aggregated)
    assert not lies_below(problem, pattern)
    for priority, bound in pattern.by_priority.items():
        assert start.placed_by_priority()[priority] <= bound <= aggregated.by_priority[priority]


LOST_ROOM = problem_of([(10, 10), (10, 10), (10, 10)], [(6, 1, 0, 2), (5, 1, 0, 3)])
TWO_TIERS = problem_of([(10, 10), (10, 10), (10, 10)], [(6, 1, 1, 2), (5, 1, 0, 3)])


@pytest.mark.parametrize(
    ("problem", "aggregated", "pattern"),
    [(LOST_ROOM, 5, 4), (TWO_TIERS, 5, 4)],
    ids=["large pods leave room that no other one fits into", "and so do those of a higher tier"],
)
def test_patterns_prove_what_the_sum_of_all_nodes_cannot(problem: Problem, aggregated: int, pattern: int) -> None:
    weak, strong = bounds_of(greedy(problem))
    lowest = problem.priorities[-1]
    assert (weak.by_priority[lowest], strong.by_priority[lowest]) == (aggregated, pattern)
    assert best_tiers(problem)[-1] == pattern


@settings(max_examples=1)
@given(problems())
@example(TWO_TIERS)
@pytest.mark.parametrize("missing", [1, 2])
def test_a_planted_wrong_bound_is_caught(missing: int, problem: Problem) -> None:
    best = dict(zip(problem.priorities, best_tiers(problem), strict=True))
    wrong = {priority: max(0, count - missing) for priority, count in best.items()}
    assert lies_below(problem, Bounds(wrong)) == any(best.values())
    assert not lies_below(problem, Bounds(best))


def test_a_mistake_in_the_relaxation_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = patterns.PatternTier._lagrangian

    def too_low(tier: patterns.PatternTier, prices: list[int], fines: list[int], worth: int) -> int:
        return honest(tier, prices, fines, worth * 2 // 3)

    monkeypatch.setattr(patterns.PatternTier, "_lagrangian", too_low)
    roomy = problem_of([(6, 6)] * 3, [(2, 2, 0, 3), (3, 3, 0, 3), (1, 2, 0, 3)])
    start = Placement(roomy)
    assert lies_below(roomy, bounds_of(start)[1])


def test_nodes_are_alike_when_they_can_hold_the_same() -> None:
    problem = problem_of([(10, 10), (4, 4), (10, 10)], [(5, 5, 0, 2)])
    assert [kind.nodes for kind in node_kinds(problem)] == [(0, 2), (1,)]
    assert [kind.most for kind in node_kinds(problem)] == [(2,), (0,)]
