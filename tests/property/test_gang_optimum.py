"""Gangs on small clusters against trying everything: the exact model finds the optimum, and no bound lies below it."""

from __future__ import annotations

import random
from itertools import pairwise
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.exact import best_by_trying
from harness.facts import OPTIONS, node, packed, pod, snapshot
from stowage_scheduler.assign import changes
from stowage_scheduler.build import build
from stowage_scheduler.cluster import Gang, Pod, Snapshot
from stowage_scheduler.gangs import GANG_GATE
from stowage_scheduler.greedy import greedy
from stowage_scheduler.options import Budget
from stowage_scheduler.placement import Placement
from stowage_scheduler.rules import RULES
from stowage_scheduler.solve import engine
from stowage_scheduler.solve.effort import Effort
from stowage_scheduler.solve.model import CountModel

ENOUGH = Budget(deterministic_units=4.0)
ENOUGH_FOR_ONE = Effort(deterministic=2.0)


def a_cluster(seed: int) -> Snapshot:
    """Up to three nodes and seven pods; some run, some wait alone, some in one of two gangs.

    Of the one gang all that wait come together, of the other as many as it needs or more.
    """
    chance = random.Random(seed)
    nodes = [
        node(f"n{number}", chance.randint(4, 10), labels={"zone": chance.choice("ab")})
        for number in range(chance.randint(1, 3))
    ]
    kinds = {"red": Gang("red", chance.randint(1, 3)), "blue": Gang("blue", chance.randint(1, 4), elastic=True)}
    common = chance.choice(["red", "blue"])
    room = {one.name: one.allocatable["cpu"] for one in nodes}
    pods: list[Pod] = []
    for number in range(chance.randint(2, 7)):
        name = chance.choice([None, common, "red", "blue"])
        cpu = chance.randint(1, 6)
        fitting = [one.name for one in nodes if room[one.name] >= cpu]
        on = chance.choice(fitting) if fitting and chance.random() < (0.2 if name else 0.6) else None
        if on is not None:
            room[on] -= cpu
        pods.append(
            pod(
                f"p{number}-1",
                cpu,
                on=on,
                priority=chance.randint(0, 2),
                gang=None if name is None else kinds[name],
                gates=(GANG_GATE,) if name and on is None else (),
                node_selector=chance.choice([{}, {}, {"zone": "a"}]) if on is None else {},
            )
        )
    return snapshot(*nodes, *pods)


@settings(max_examples=150)
@given(st.integers(0, 2**32))
def test_the_optimum_is_found_and_no_bound_lies_below_it(seed: int) -> None:
    cluster = a_cluster(seed)
    packing = packed(cluster, budget=ENOUGH)
    best = best_by_trying(cluster, list(packing.placed))
    assert packing.faults == ()
    assert list(packing.placed.values()) == best
    assert all(bound >= count for bound, count in zip(packing.bound.values(), best, strict=True))


@settings(max_examples=60)
@given(st.integers(0, 2**32))
def test_the_search_alone_keeps_gangs_whole_and_within_the_optimum(seed: int) -> None:
    """As for problems that are too large for the exact model; its threads take answers that others overtook."""
    cluster = a_cluster(seed)
    with patch.object(engine, "is_small", lambda _: False):
        packing = packed(cluster, budget=Budget(deterministic_units=0.3, workers=3), seed=seed)
    best = best_by_trying(cluster, list(packing.placed))
    assert packing.faults == ()
    assert list(packing.before.values()) <= list(packing.placed.values()) <= best
    assert all(bound >= count for bound, count in zip(packing.bound.values(), best, strict=True))


@settings(max_examples=150)
@given(st.integers(0, 2**32), st.data())
def test_a_neighbourhood_keeps_gangs_whole_and_makes_nothing_worse(seed: int, data: st.DataObject) -> None:
    """Whatever nodes are freed: a gang that stands in part elsewhere stays, or goes with the part outside."""
    problem = build(a_cluster(seed), OPTIONS).problem
    before = data.draw(st.sampled_from([greedy(problem), Placement(problem)]))
    nodes = data.draw(st.sets(st.integers(0, len(problem.nodes) - 1), min_size=1))
    growing = [c.index for c in problem.classes if data.draw(st.booleans())]
    model = CountModel(before, sorted(nodes), growing, RULES)
    answer = model.maximise(model.tier_levels(), ENOUGH_FOR_ONE)
    assert answer is not None, "what stands there now is an answer"
    after = before.copy()
    for number, held in answer.items():
        after.replace(number, held)
    dropped = after.without_halved_gangs()
    for number, held in dropped.items():
        after.replace(number, held)
    assert after.halved_gangs() == []
    assert all(left >= 0 for row in after.room for left in row)
    assert tuple(after.placed_by_priority().values()) >= tuple(before.placed_by_priority().values())
    assert all(after.placed(c) <= c.total for c in problem.classes)


@settings(max_examples=20)
@given(st.integers(0, 2**32))
def test_the_same_input_gives_the_same_answer(seed: int) -> None:
    cluster = a_cluster(seed)
    answers = [packed(cluster, budget=Budget(deterministic_units=0.2), seed=3) for _ in range(3)]
    assert all(first == second for first, second in pairwise(answers))


def test_changes_of_a_gang_are_arrivals_of_all_its_pods() -> None:
    cluster = snapshot(node("a"), *(pod(f"x-{n}", 100, gang=Gang("ring", 3)) for n in range(3)))
    built = build(cluster, OPTIONS)
    made = changes(built, greedy(built.problem))
    assert {change.uid for change in made} == {"uid-x-0", "uid-x-1", "uid-x-2"}
