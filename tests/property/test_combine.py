"""More pods by whole patterns, against every way to fill the nodes of small problems."""

from __future__ import annotations

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import PodClass, Problem
from stowage_scheduler.solve.combine import combined
from stowage_scheduler.solve.effort import Clockwork


def limit() -> Clockwork:
    return Clockwork(time.monotonic, 0.0, units=50.0)  # noqa: TID251


def everything(problem: Problem) -> dict[int, int]:
    return {p: sum(c.total for c in problem.classes if c.priority >= p) for p in problem.priorities}


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    nodes = draw(st.integers(1, 3))
    room = draw(st.integers(4, 9))
    left = [room] * nodes
    classes: list[PodClass] = []
    for index in range(draw(st.integers(1, 4))):
        size = draw(st.integers(1, 4))
        running: dict[int, int] = {}
        for node in draw(st.lists(st.integers(0, nodes - 1), max_size=3)):
            if left[node] >= size:
                left[node] -= size
                running[node] = running.get(node, 0) + 1
        pending, priority = draw(st.integers(0, 2)), draw(st.integers(0, 1))
        classes.append(PodClass(index, f"c{index}", (size,), priority, pending, running, frozenset(range(nodes))))
    return Problem(("cpu",), tuple(f"n{n}" for n in range(nodes)), ((room,),) * nodes, tuple(classes))


@settings(max_examples=200)
@given(problems())
def test_what_is_found_is_a_placement_and_no_worse(problem: Problem) -> None:
    start = Placement(problem)
    found = combined(start, everything(problem), limit(), 10.0)
    assert found.score() >= start.score()
    assert found.within_limits()
    assert all(left >= 0 for row in found.room for left in row)
    assert all(0 <= found.placed(c) <= c.total for c in problem.classes)


def test_two_pods_that_must_change_places_do() -> None:
    classes = (
        PodClass(0, "wide", (3,), 0, 0, {0: 1, 1: 1}, frozenset({0, 1})),
        PodClass(1, "slim", (1,), 0, 0, {0: 1, 1: 1}, frozenset({0, 1})),
        PodClass(2, "last", (2,), 0, 1, {}, frozenset({0, 1})),
    )
    start = Placement(Problem(("cpu",), ("a", "b"), ((5,), (5,)), classes))
    found = combined(start, {0: 5}, limit(), 10.0)
    assert found.placed_by_priority() == {0: 5}
    assert found.disruption() == (0, 1)
