"""What is done in a short way, for large clusters, against the plain way."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from harness.facts import OPTIONS
from property.test_between_pods import clusters
from property.test_least_disruption import problems
from stowage_scheduler.build import build
from stowage_scheduler.cluster import Snapshot
from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import Problem
from stowage_scheduler.solve import bound
from stowage_scheduler.solve.crew import Threads
from stowage_scheduler.solve.effort import Clockwork
from stowage_scheduler.solve.neighbourhood import Answer, Kind
from stowage_scheduler.solve.search import Search


def one_by_one(problem: Problem) -> Placement:
    """What runs now, each pod added alone to a placement of a problem in which nothing runs."""
    idle = replace(problem, classes=tuple(replace(c, running={}) for c in problem.classes))
    found = Placement(idle)
    for pod_class in idle.classes:
        for node, count in problem.classes[pod_class.index].running.items():
            for _ in range(count):
                found.add(pod_class, node, 1)
    return found


@settings(max_examples=60)
@given(clusters())
def test_a_placement_begins_with_all_that_runs(cluster: Snapshot) -> None:
    problem = build(cluster, OPTIONS).problem
    found, plain = Placement(problem), one_by_one(problem)
    assert (found.counts, found.on_node, found.room) == (plain.counts, plain.on_node, plain.room)
    assert (found.placed_of, found.placed_at) == (plain.placed_of, plain.placed_at)
    assert found.tallies.of == plain.tallies.of
    assert found.disruption() == (0, 0)


@settings(max_examples=100)
@given(problems(), st.integers(0, 3))
def test_most_pods_of_a_class_are_those_of_all_its_nodes(problem: Problem, first: int) -> None:
    most = []
    for c in problem.classes:
        held = sum(count for node, count in c.running.items() if node not in c.eligible)
        most.append(min(c.total, held + sum(min(c.total, problem.fit(c, node)) for node in c.eligible)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bound, "_FIRST", first)
        assert bound._most(problem) == most


@settings(max_examples=100)
@given(problems(), st.integers(0, 2**32))
def test_the_best_placement_of_a_search_is_the_one_that_was_best(problem: Problem, seed: int) -> None:
    """Answers are taken that are better, worse and no better; the best is asked for now and then."""
    chance = random.Random(seed)
    start = Placement(problem)
    with Threads(1) as crew:
        search = Search(start, chance, Clockwork(time.monotonic, 0.0, units=1.0), crew)  # noqa: TID251
        best = start.copy()
        for _ in range(12):
            nodes = chance.sample(range(len(problem.nodes)), chance.randint(1, len(problem.nodes)))
            held = {n: {c.index: k for c in problem.classes if (k := chance.randint(0, 2))} for n in nodes}
            if search._take(chance.choice(list(Kind)), Answer(held, 0.0)):
                best = search.scene.now.copy()
            if chance.random() < 0.3:
                assert search.best.on_node == best.on_node
                assert search.best.score() == search.best_score
        assert search.best.on_node == best.on_node
