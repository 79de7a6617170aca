"""Exchanges where more than room decides: rules between pods hold, gangs stay as they are."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from harness.facts import OPTIONS, gang, node, pod, snapshot
from harness.instances import dump, paper_instance
from harness.naive_rules import Rules
from property.test_between_pods import clusters, gangs_stand_together
from stowage_scheduler.assign import changes
from stowage_scheduler.build import Build, build
from stowage_scheduler.cluster import (
    DisruptionBudget,
    HostPort,
    LabelSelector,
    PodAffinityTerm,
    Snapshot,
    SpreadConstraint,
)
from stowage_scheduler.greedy import greedy
from stowage_scheduler.kube.dump import read_dump
from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import PodClass
from stowage_scheduler.solve.bound import aggregated_bounds
from stowage_scheduler.solve.effort import Clockwork
from stowage_scheduler.solve.exchanging import exchanged

EVERY = 7  # of the ReplicaSets in a large cluster one has a rule


def exchange(start: Placement, seed: int, units: float) -> Placement:
    limit = Clockwork(lambda: 0.0, 1e9, units)
    bounds = aggregated_bounds(start, limit, units / 10)
    return exchanged(start, bounds.by_priority, random.Random(seed), limit, 0.0)


def standing(built: Build, cluster: Snapshot, end: Placement) -> dict[str, str]:
    """By UID, the node of each pod at the end."""
    where = {pod.uid: pod.node for pod in cluster.pods if pod.node is not None}
    for change in changes(built, end):
        where.pop(change.uid, None)
        if change.target is not None:
            where[change.uid] = built.problem.nodes[change.target]
    return where


@settings(max_examples=200)
@given(cluster=clusters(), seed=st.integers(0, 99), allowed=st.integers(0, 2))
def test_rules_hold_after_exchanges(cluster: Snapshot, seed: int, allowed: int) -> None:
    budget = DisruptionBudget("default", "red", "red", LabelSelector((("app", "red"),)), allowed)
    built = build(replace(cluster, budgets=(budget,)), OPTIONS)
    start = greedy(built.problem)
    end = exchange(start, seed, 0.05)
    assert end.score() >= start.score()
    assert all(left >= 0 for room in end.room for left in room)
    for pod_class in built.problem.classes:
        assert_counts(end, pod_class)
    assert end.within_limits()
    where = standing(built, cluster, end)
    rules = Rules({one.name: one for one in cluster.nodes}, {one.uid: one for one in cluster.pods})
    for one in cluster.pods:
        if one.uid in where and where[one.uid] != one.node:
            assert rules.admits(one, rules.nodes[where[one.uid]], where)
    assert gangs_stand_together(rules, where)
    assert exchange(start, seed, 0.05).on_node == end.on_node


def assert_counts(end: Placement, pod_class: PodClass) -> None:
    counts = end.counts[pod_class.index]
    assert all(counts[n] <= pod_class.limit(n) for n in counts)
    assert end.placed(pod_class) <= pod_class.total


def with_rules(cluster: Snapshot) -> Snapshot:
    """The cluster in three zones, with anti-affinity or spread for every seventh ReplicaSet whose pods obey it now."""
    zones = {one.name: f"zone-{number % 3}" for number, one in enumerate(cluster.nodes)}
    nodes = tuple(replace(n, labels={"host": n.name, "zone": zones[n.name]}) for n in cluster.nodes)
    owners = sorted({one.owner.name for one in cluster.pods if one.owner})
    pods = []
    for one in cluster.pods:
        name = one.owner.name if one.owner else ""
        number, selector = owners.index(name), LabelSelector((("set", name),))
        rule = {}
        if number % (2 * EVERY) == 0:
            rule = {"anti_affinity_terms": (PodAffinityTerm("host", selector, (one.namespace,)),)}
        elif number % EVERY == 0:
            rule = {"spread": (SpreadConstraint("zone", 1, selector, 1),)}
        pods.append(replace(one, labels={"set": name}, **rule))
    return replace(cluster, nodes=nodes, pods=tuple(pods))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_cluster_with_some_rules_profits_as_much_as_one_without(seed: int) -> None:
    plain = read_dump(json.dumps(dump(paper_instance(16, 8, 1, 100, seed))).encode()).snapshot
    placed = []
    for cluster in (plain, with_rules(plain)):
        problem = build(cluster, OPTIONS).problem
        start = greedy(problem)
        placed.append((sum(start.placed_of), sum(exchange(start, 1, 0.3).placed_of)))
    (few, without), (_, ruled) = placed
    assert without - few >= 3
    assert ruled >= without - 1


HTTP = (HostPort("TCP", "0.0.0.0", 80),)


@pytest.mark.parametrize("seed", range(8))
def test_two_pods_with_one_host_port_never_meet(seed: int) -> None:
    nodes = [node(f"n{number}", 600) for number in range(3)]
    running = [pod("a-0", 300, "n0"), pod("x-0", 100, "n0"), pod("d-0", 500, "n2")]
    running += [pod("b-0", 300, "n1", host_ports=HTTP), pod("c-0", 200, "n1")]
    waiting = pod("e-0", 300, host_ports=HTTP)  # one move makes its room: x leaves n0, or c leaves n1, where b stands
    built = build(snapshot(*nodes, *running, waiting), OPTIONS)
    end = exchange(Placement(built.problem), seed, 0.2)
    asking = [c for c in built.problem.classes if c.ports]
    assert all(end.placed(c) == 1 for c in asking)
    assert len({n for c in asking for n in end.counts[c.index]}) == len(asking)


@pytest.mark.parametrize("seed", range(8))
def test_a_gang_stays_while_others_make_room(seed: int) -> None:
    nodes = [node(f"n{number}", 1000, labels={"zone": "ab"[number // 2]}) for number in range(3)]
    running = [pod("a-0", 400, "n0"), pod("b-0", 500, "n1"), pod("c-0", 300, "n2")]
    waiting = [*gang("g", 2, 300, node_selector={"zone": "a"}), pod("large-0", 800)]  # c makes room on n2
    built = build(snapshot(*nodes, *running, *waiting), OPTIONS)
    start = greedy(built.problem)
    end = exchange(start, seed, 0.3)
    (whole,) = (c for c in built.problem.classes if c.gang is not None)
    assert (sum(start.placed_of), sum(end.placed_of)) == (5, 6)
    assert end.counts[whole.index] == start.counts[whole.index]
