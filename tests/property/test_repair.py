"""Repair against everything that could be done on small problems: what is proven is best, and nothing gets worse."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from property.test_least_disruption import limit, placements, problems
from stowage_scheduler.greedy import greedy
from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import PodClass, Problem, WholeGang
from stowage_scheduler.relations import Role, Within
from stowage_scheduler.solve import repair
from stowage_scheduler.solve.clearing import NEVER, Clearing
from stowage_scheduler.solve.repair import _cheapest, repaired


@pytest.fixture(autouse=True, scope="module")
def small_clusters_too() -> Iterator[None]:
    """All that is known of large clusters is tried on small ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repair, "_NODES_PER_POD", 0)
        yield


@st.composite
def crowded(draw: st.DrawFn) -> Problem:
    """Small pods that run nearly everywhere, and a few large ones that wait: some of them as a gang."""
    free = [draw(st.tuples(st.integers(6, 10), st.integers(6, 10))) for _ in range(3)]
    room = [list(row) for row in free]
    everywhere = frozenset(range(len(free)))
    classes: list[PodClass] = []
    for index in range(2):
        requests = draw(st.tuples(st.integers(1, 3), st.integers(0, 3)))
        running: dict[int, int] = {}
        for node in draw(st.lists(st.sampled_from(range(len(free))), max_size=2)):
            if all(left >= amount for left, amount in zip(room[node], requests, strict=True)):
                room[node] = [left - amount for left, amount in zip(room[node], requests, strict=True)]
                running[node] = running.get(node, 0) + 1
        cost = draw(st.sampled_from([1, 2, 30]))
        classes.append(PodClass(index, f"c{index}", requests, 0, 0, running, everywhere, move_cost=cost))
    gang = draw(st.sampled_from([None, 0]))
    for index in range(2, 3 + draw(st.integers(0, 1))):
        requests = draw(st.tuples(st.integers(3, 8), st.integers(3, 8)))
        count = draw(st.integers(1, 2 if index == 2 else 1))
        classes.append(
            PodClass(index, f"c{index}", requests, draw(st.integers(0, 1)), count, {}, everywhere, gang=gang)
        )
    return Problem(
        resources=("cpu", "memory"),
        nodes=tuple(f"n{number}" for number in range(len(free))),
        free=tuple(free),
        classes=tuple(classes),
        gangs=() if gang is None else (WholeGang("g", tuple(range(2, len(classes)))),),
    )


@st.composite
def racks(draw: st.DrawFn) -> Problem:
    """A problem whose gang, if it has one, should or has to stand in one rack."""
    problem = draw(st.one_of(problems(), crowded()))
    everywhere = frozenset(range(len(problem.nodes)))
    inside = draw(st.sets(st.sampled_from(sorted(everywhere)), min_size=1).map(frozenset))
    level = tuple(sorted(filter(None, (inside, everywhere - inside)), key=sorted))
    if not problem.gangs or not draw(st.booleans()):
        return problem
    gang = problem.gangs[0]
    if draw(st.booleans()):
        return replace(problem, gangs=(replace(gang, levels=(level, (everywhere,))),))
    domain_of = tuple(next(number for number, rack in enumerate(level) if n in rack) for n in sorted(everywhere))
    together = Within("rack", domain_of, dict.fromkeys(gang.classes, Role.SUBJECT), {})
    return replace(problem, gangs=(replace(gang, levels=(level,)),), relations=(together,))


def subsets(placement: Placement, node: int) -> Iterator[dict[int, int]]:
    """All ways in which running pods can leave a node."""
    held = placement.on_node[node]
    for counts in product(*(range(count + 1) for count in held.values())):
        yield dict(zip(held, counts, strict=True))


def cost(problem: Problem, leaving: dict[int, int]) -> int:
    return sum(problem.classes[index].move_cost * count for index, count in leaving.items())


def has_room(placement: Placement, node: int, wanted: tuple[int, ...], leaving: dict[int, int]) -> bool:
    classes = placement.problem.classes
    freed = [sum(classes[i].requests[r] * count for i, count in leaving.items()) for r in range(len(wanted))]
    return all(left + more >= amount for left, more, amount in zip(placement.room[node], freed, wanted, strict=True))


@settings(max_examples=300)
@given(problems(), st.tuples(st.integers(0, 10), st.integers(0, 10)))
def test_room_on_a_node_is_made_at_the_least_cost(problem: Problem, wanted: tuple[int, int]) -> None:
    placement = Placement(problem)
    nodes = range(len(problem.nodes))
    clearing = Clearing(placement, nodes)
    for row, bound in zip(nodes, clearing.bounds(wanted), strict=True):
        ways = [cost(problem, out) for out in subsets(placement, row) if has_room(placement, row, wanted, out)]
        found = clearing.cheapest(row, wanted)
        assert (found is None) == (not ways)
        assert bound <= min(ways, default=NEVER)
        if found is not None:
            assert found.proven
            assert found.cost == cost(problem, found.leaving) == min(ways)
            assert has_room(placement, row, wanted, found.leaving)


@settings(max_examples=300)
@given(st.data())
def test_nodes_are_chosen_at_the_least_cost(data: st.DataObject) -> None:
    """One or two classes over nodes, as if whoever leaves found a place elsewhere."""
    problem = data.draw(problems().filter(lambda p: any(c.pending and c.gang is None for c in p.classes)))
    group = [c for c in problem.classes if c.pending and c.gang is None][: data.draw(st.integers(1, 2))]
    placement = Placement(problem)
    best = min(costs_of(placement, group), default=None)
    found = _cheapest(placement, group, repair._Work(limit(), 0.0))
    assert (None if found is None else found.cost) == best
    assert found is None or found.least == best


def costs_of(placement: Placement, group: list[PodClass]) -> Iterator[int]:
    """What every way to spread waiting pods over nodes costs."""
    problem = placement.problem
    nodes = range(len(problem.nodes))
    for spread in product(*(spreads(c.pending, len(problem.nodes)) for c in group)):
        if any(n not in c.eligible for c, counts in zip(group, spread, strict=True) for n in nodes if counts[n]):
            continue
        cheapest = []
        for node in nodes:
            takes = np.array([counts[node] for counts in spread])
            wanted = tuple((takes @ np.array([c.requests for c in group])).tolist())
            ways = [cost(problem, out) for out in subsets(placement, node) if has_room(placement, node, wanted, out)]
            cheapest.append(min(ways, default=NEVER))
        if max(cheapest) < NEVER:
            yield sum(cheapest)


def spreads(count: int, nodes: int) -> Iterator[tuple[int, ...]]:
    return (counts for counts in product(range(count + 1), repeat=nodes) if sum(counts) == count)


@settings(max_examples=400)
@given(racks())
def test_what_is_proven_is_the_best_placement(problem: Problem) -> None:
    start = greedy(problem)
    found = repaired(start, limit(), small=False)
    assert found.placement.score() >= start.score()
    assert found.placement.within_limits()
    assert all(left >= 0 for row in found.placement.room for left in row)
    if found.proven:
        assert found.placement.score() == max(placement.score() for placement in placements(problem))


@settings(max_examples=50)
@given(racks())
def test_the_same_problem_is_repaired_alike(problem: Problem) -> None:
    first, second = (repaired(greedy(problem), limit(), small=False) for _ in range(2))
    assert first.proven == second.proven
    assert first.placement.on_node == second.placement.on_node
