"""What a placement keeps up to date is what counting anew gives."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.facts import OPTIONS
from property.test_between_pods import clusters
from stowage_scheduler.build import build
from stowage_scheduler.cluster import Snapshot
from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import Problem


def recounted(problem: Problem, placement: Placement) -> Placement:
    """The same placement, made from nothing."""
    anew = Placement(problem)
    for node, held in enumerate(placement.on_node):
        anew.replace(node, dict(held))
    return anew


@settings(max_examples=80)
@given(cluster=clusters(), seed=st.integers(0, 999))
def test_counts_follow_every_change(cluster: Snapshot, seed: int) -> None:
    problem = build(cluster, OPTIONS).problem
    chance = random.Random(seed)
    placement = Placement(problem)
    for _ in range(20 if problem.classes else 0):
        pod_class = chance.choice(problem.classes)
        node = chance.randrange(len(problem.nodes))
        now = placement.counts[pod_class.index].get(node, 0)
        placement.add(pod_class, node, chance.randint(-now, 3))
        if chance.random() < 0.2:
            placement = placement.copy()
    anew = recounted(problem, placement)
    assert placement.score() == anew.score()
    assert placement.room == anew.room
    for pod_class in problem.classes:
        where = placement.counts[pod_class.index]
        gone = sum(max(0, count - where.get(node, 0)) for node, count in pod_class.running.items())
        assert placement.leaving(pod_class) == gone
    for mine, theirs in zip(placement.tallies.of, anew.tallies.of, strict=True):
        assert {d: t for d, t in mine.items() if any(t)} == {d: t for d, t in theirs.items() if any(t)}
    assert placement.relations_hold() == all(placement.holds(number) for number in range(len(problem.relations)))
