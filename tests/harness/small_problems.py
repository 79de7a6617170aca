"""Small packing problems, and every placement that their rules allow."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from hypothesis import strategies as st

from stowage_scheduler.placement import Placement, Score
from stowage_scheduler.problem import BudgetLimit, PodClass, Problem, WholeGang


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Up to three nodes and three classes; some pods run, not all on nodes that would take them today."""
    kinds = draw(st.lists(st.tuples(st.integers(2, 9), st.integers(2, 9)), min_size=1, max_size=2))
    free = [draw(st.sampled_from(kinds)) for _ in range(draw(st.integers(1, 3)))]
    room = [list(row) for row in free]
    gang = draw(st.sampled_from([None, None, 0]))
    classes: list[PodClass] = []
    for index in range(draw(st.integers(1, 3))):
        requests = draw(st.tuples(st.integers(1, 6), st.integers(0, 6)))
        running: dict[int, int] = {}
        for node in draw(st.lists(st.integers(0, len(free) - 1), max_size=3)) if gang is None or index else []:
            if all(left >= amount for left, amount in zip(room[node], requests, strict=True)):
                room[node] = [left - amount for left, amount in zip(room[node], requests, strict=True)]
                running[node] = running.get(node, 0) + 1
        classes.append(
            PodClass(
                index,
                f"c{index}",
                requests,
                draw(st.integers(0, 1)),
                draw(st.integers(0, 3 - sum(running.values()))),
                running,
                draw(st.sets(st.integers(0, len(free) - 1)).map(frozenset)),
                budgets=draw(st.sampled_from([(), (0,)])),
                move_cost=draw(st.sampled_from([1, 2, 30])),
                gang=gang if index == 0 else None,
            )
        )
    return Problem(
        resources=("cpu", "memory"),
        nodes=tuple(f"n{number}" for number in range(len(free))),
        free=tuple(free),
        classes=tuple(classes),
        budgets=(BudgetLimit("b", draw(st.integers(0, 2))),),
        gangs=() if gang is None else (WholeGang("g", (0,)),),
        max_moves=draw(st.sampled_from([None, None, 0, 1, 2])),
        may_evict=draw(st.booleans()),
        fixed=draw(st.sampled_from([{}, {0: 2}, {1: 1}])),
    )


def ways(problem: Problem, pod_class: PodClass) -> list[tuple[int, ...]]:
    """How the pods of one class can be spread over nodes, by the rules that look at one pod alone."""
    most = [range(min(pod_class.total, pod_class.limit(node)) + 1) for node in range(len(problem.nodes))]
    return [counts for counts in product(*most) if sum(counts) <= pod_class.total]


def placements(problem: Problem) -> Iterator[Placement]:
    """Every placement that all rules allow."""
    for spread in product(*(ways(problem, c) for c in problem.classes)):
        found = Placement(problem)
        for node in range(len(problem.nodes)):
            held = {index: counts[node] for index, counts in enumerate(spread) if counts[node]}
            found.replace(node, held)
        kept = problem.may_evict or not any(found.lost(c) for c in problem.classes)
        if kept and all(left >= 0 for row in found.room for left in row) and found.within_limits():
            yield found


def best_score(problem: Problem) -> Score:
    return max(placement.score() for placement in placements(problem))
