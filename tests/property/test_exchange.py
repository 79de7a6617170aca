"""Exchanges of pods: whatever they find keeps room, nodes and budgets, and is no worse than what they began with."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from harness.facts import OPTIONS, node, pod, snapshot
from harness.instances import dump, paper_instance
from stowage_scheduler.build import build
from stowage_scheduler.cluster import DisruptionBudget, LabelSelector, Snapshot
from stowage_scheduler.greedy import greedy
from stowage_scheduler.kube.dump import read_dump
from stowage_scheduler.placement import Placement
from stowage_scheduler.solve.bound import aggregated_bounds
from stowage_scheduler.solve.effort import Clockwork
from stowage_scheduler.solve.exchange import Exchange
from stowage_scheduler.solve.exchanging import exchanged
from stowage_scheduler.solve.ruled import is_plain

CORDONED = st.sampled_from([False, False, False, True])


@st.composite
def clusters(draw: st.DrawFn) -> Snapshot:
    """A few nodes of two zones, some cordoned; running pods where they fit, under a budget, or too polite to preempt.

    Some pods may go nowhere.
    """
    nodes = [
        node(f"n{i}", draw(st.integers(5, 12)) * 100, labels={"zone": "ab"[i % 2]}, unschedulable=draw(CORDONED))
        for i in range(4)
    ]
    room = {one.name: one.allocatable["cpu"] for one in nodes}
    pods = []
    for number in range(draw(st.integers(3, 8))):
        cpu = draw(st.integers(1, 6)) * 100
        template = {
            "priority": draw(st.integers(0, 2)),
            "labels": {"app": draw(st.sampled_from("xy"))},
            "node_selector": draw(st.sampled_from([{}, {}, {}, {"zone": "a"}, {"zone": "c"}])),
            "preemption_policy": draw(st.sampled_from(["PreemptLowerPriority"] * 3 + ["Never"])),
        }
        for replica in range(draw(st.integers(1, 3))):
            names = [one.name for one in nodes if template["node_selector"].items() <= one.labels.items()]
            home = draw(st.sampled_from([None, *(name for name in names if room[name] >= cpu)]))
            if home is not None:
                room[home] -= cpu
            pods.append(pod(f"rs{number}-{replica}", cpu, home, **template))
    budget = DisruptionBudget("default", "x", "x", LabelSelector((("app", "x"),)), draw(st.integers(1, 2)))
    return snapshot(*nodes, *pods, budgets=(budget,))


def exchange(start: Placement, seed: int, units: float) -> Placement:
    limit = Clockwork(lambda: 0.0, 1e9, units)
    bounds = aggregated_bounds(start, limit, units / 10)
    chance = random.Random(seed)
    return exchanged(start, bounds.by_priority, chance, limit, 0.0)


@settings(max_examples=150)
@given(cluster=clusters(), seed=st.integers(0, 99), most=st.sampled_from([None, 0, 1, 3]))
def test_what_exchanges_find_is_valid_and_no_worse(cluster: Snapshot, seed: int, most: int | None) -> None:
    problem = build(cluster, replace(OPTIONS, max_moves=most)).problem
    assert is_plain(problem)
    start = greedy(problem)
    end = exchange(start, seed, 0.05)
    assert end.score() >= start.score()
    assert end.within_limits()
    assert all(left >= 0 for room in end.room for left in room)
    for pod_class in problem.classes:
        counts = end.counts[pod_class.index]
        assert all(counts[n] <= pod_class.limit(n) for n in counts)
        assert end.placed(pod_class) <= pod_class.total
        if not pod_class.preempts:  # nobody makes room for it, and it takes none that is not free
            assert end.placed(pod_class) <= max(start.placed(pod_class), pod_class.running_total)


def test_pods_that_no_node_may_receive_take_no_part() -> None:
    nodes = node("n0", 300), node("n1", 600, labels={"zone": "a"})
    running = pod("rs0-0", 400, "n1"), pod("rs2-1", 100, "n0", priority=1)
    waiting = [pod("rs2-0", 100, priority=1), *(pod(f"rs1-{i}", 400) for i in range(3)), pod("rs3-0", 300)]
    nowhere = [pod(f"rs4-{i}", 100, node_selector={"zone": "b"}) for i in range(4)]
    problem = build(snapshot(*nodes, *running, *waiting, *nowhere), OPTIONS).problem
    (unwanted,) = (c for c in problem.classes if not c.eligible)
    search = Exchange(problem, random.Random(1), Clockwork(lambda: 0.0, 1e9, 1.0))
    found = search.reach({1: 2, 0: 5}, 0.0, 100, keep=False)
    assert found is not None
    assert not found.placed(unwanted)


@pytest.mark.parametrize(("most", "more"), [(2, 1), (6, 3), (20, 7)])  # 7 more of the first tier are all that fit
def test_under_a_cap_on_moves_as_many_pods_are_placed_as_it_lets_through(most: int, more: int) -> None:
    cluster = read_dump(json.dumps(dump(paper_instance(16, 8, 2, 105, 3))).encode()).snapshot
    start = greedy(build(cluster, replace(OPTIONS, max_moves=most)).problem)
    end = exchange(start, 7, 0.2)
    assert end.disrupted() <= most
    assert end.score()[0] >= start.score()[0] + more


def test_the_same_seed_finds_the_same() -> None:
    snapshot_of = read_dump(json.dumps(dump(paper_instance(16, 8, 2, 100, 3))).encode()).snapshot
    start = greedy(build(snapshot_of, OPTIONS).problem)
    one, two = (exchange(start, 7, 0.2) for _ in range(2))
    assert one.on_node == two.on_node
    assert one.score() > start.score()
