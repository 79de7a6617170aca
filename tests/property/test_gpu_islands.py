"""Islands of GPUs: model, placement and rules agree, plans are the best that the rules allow, and hold in fact."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, product

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from ortools.sat.python import cp_model

from harness.facts import OPTIONS, packed, places, snapshot
from harness.facts import node as make_node
from harness.facts import pod as make_pod
from stowage_scheduler.build import build
from stowage_scheduler.cluster import Node, Pod, Snapshot
from stowage_scheduler.feasibility import feasible_nodes
from stowage_scheduler.kube.gpu_facts import GPU_ISLAND, GPU_ISLANDS
from stowage_scheduler.options import Budget
from stowage_scheduler.packing import Reason
from stowage_scheduler.placement import Placement
from stowage_scheduler.rules import RULES, Outcome
from stowage_scheduler.solve.model import CountModel

GPU = "nvidia.com/gpu"
KEEPS = {GPU_ISLAND: "Required"}


def island_node(name: str, gpus: int, island: int) -> Node:
    return make_node(name, 9000, extra={GPU: gpus}, labels={GPU_ISLANDS: str(island)})


def pod(name: str, gpus: int, on: str | None = None, *, keeps: bool = True) -> Pod:
    return make_pod(name, 1, on, extra={GPU: gpus}, annotations=KEEPS if keeps else {})


@st.composite
def clusters(draw: st.DrawFn) -> Snapshot:
    """Two nodes of four GPUs in islands of two, or of six in islands of three; four pods, some of which run."""
    size = draw(st.sampled_from([2, 3]))
    nodes = [island_node(f"n{number}", 2 * size, size) for number in range(2)]
    pods: list[Pod] = []
    for number in range(4):
        one = pod(f"p{number}-0", draw(st.integers(1, size)), keeps=draw(st.booleans()))
        free = {n.name: 2 * size - sum(p.requests[GPU] for p in pods if p.node == n.name) for n in nodes}
        fitting = [name for name, left in free.items() if left >= one.requests[GPU]]
        if fitting and draw(st.booleans()):
            node = draw(st.sampled_from([node for node in nodes if node.name in fitting]))
            one = replace(one, node=node.name, phase="Running", ready=True)
            if not any(True for _ in _ways(node, [*(p for p in pods if p.node == node.name), one])):
                one = replace(one, node=None, phase="Pending", ready=False)
        pods.append(one)
    return snapshot(*nodes, *pods)


def _ways(node: Node, residents: Sequence[Pod], free: frozenset[int] | None = None) -> Iterator[frozenset[int]]:
    """Every way to give pods GPUs, as what is free then."""
    if free is None:
        free = frozenset(range(node.allocatable[GPU]))
    if not residents:
        yield free
        return
    first, size = residents[0], int(node.labels[GPU_ISLANDS])
    for gpus in combinations(sorted(free), first.requests[GPU]):
        within = len({gpu // size for gpu in gpus}) == 1
        if within or len(gpus) == 1 or first.annotations.get(GPU_ISLAND) != "Required":
            yield from _ways(node, residents[1:], free - set(gpus))


@settings(max_examples=40)
@given(clusters())
def test_newcomers_find_an_island_wherever_the_others_are(cluster: Snapshot) -> None:
    packing = packed(cluster, budget=Budget(deterministic_units=0.5, workers=2))
    assert packing.faults == ()
    ends = {entry.pod.uid: entry.node for entry in packing.assignments}
    for node in cluster.nodes:
        here = [one for one in cluster.pods if ends.get(one.uid) == node.name]
        staying = [one for one in here if one.node == node.name]
        coming = [one for one in here if one.node != node.name]
        if any(one.annotations for one in coming):
            for free in set(_ways(node, staying)):
                assert any(True for _ in _ways(node, coming, free))


@settings(max_examples=40)
@given(clusters())
def test_the_plan_is_the_best_that_the_rules_allow(cluster: Snapshot) -> None:
    packing = packed(cluster, budget=Budget(deterministic_units=1.0, workers=2))
    best = 0
    for nodes in product([None, "n0", "n1"], repeat=len(cluster.pods)):
        after = {one.uid: node for one, node in zip(cluster.pods, nodes, strict=True) if node is not None}
        if len(after) > best and not _broken(cluster, after):
            best = len(after)
    assert packing.placed == {0: best}
    assert packing.bound[0] >= best


def _broken(cluster: Snapshot, after: dict[str, str]) -> set[str]:
    outcome = Outcome(cluster, OPTIONS, after)
    return {violation.rule for rule in RULES for violation in rule.check(outcome)}


@settings(max_examples=150)
@given(clusters(), st.data())
def test_model_placement_and_rules_agree_on_every_end(cluster: Snapshot, data: st.DataObject) -> None:
    problem = build(cluster, OPTIONS).problem
    names = [None, "n0", "n1"]
    after = {one.uid: at for one in cluster.pods if (at := data.draw(st.sampled_from(names), label=one.name))}
    assume(problem.islands is not None)
    placement = Placement(problem)
    held: dict[int, dict[int, int]] = {0: {}, 1: {}}
    for pod_class in problem.classes:
        for uid in (*pod_class.pending_uids, *(uid for some in pod_class.running_uids.values() for uid in some)):
            if uid in after:
                held[problem.nodes.index(after[uid])][pod_class.index] = 1
    for node, classes in held.items():
        placement.replace(node, classes)
    fair = all(left >= 0 for room in placement.room for left in room) and placement.within_limits()
    assert fair == (not _broken(cluster, after))
    model = CountModel(Placement(problem), range(2), range(len(problem.classes)), RULES)
    for (index, node), variable in model.count.items():
        model.cp.add(variable == held[node].get(index, 0))
    if all((index, node) in model.count for node, classes in held.items() for index in classes):
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 1
        assert (solver.solve(model.cp) == cp_model.OPTIMAL) == fair


CASES: dict[str, tuple[tuple[Node | Pod, ...], dict[str, str | None]]] = {
    "two pods of four have an island each": (
        (island_node("a", 8, 4), pod("x-1", 4, "a"), pod("x-2", 4)), {"x-1": "a", "x-2": "a"}
    ),
    "six are free, but four of one island are not for sure": (
        (island_node("a", 8, 4), pod("x-1", 2, "a", keeps=False), pod("x-2", 4)), {"x-1": "a", "x-2": None}
    ),
    "who does not keep to an island takes what is there": (
        (island_node("a", 8, 4), pod("x-1", 2, "a", keeps=False), pod("x-2", 6, keeps=False)), {"x-1": "a", "x-2": "a"}
    ),
    "a pod is larger than any island": ((island_node("a", 8, 4), pod("x-1", 6)), {"x-1": None}),
    "a node that tells no islands is one": ((make_node("a", extra={GPU: 8}), pod("x-1", 6)), {"x-1": "a"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_where_pods_end(case: tuple[tuple[Node | Pod, ...], dict[str, str | None]]) -> None:
    facts, ends = case
    packing = packed(snapshot(*facts))
    assert packing.faults == ()
    assert dict.fromkeys(ends) | places(packing) == ends
    assert {entry.reason for entry in packing.unplaced} <= {Reason.GPU_FRAGMENTED}


def test_a_pod_moves_so_that_an_island_is_free() -> None:
    cluster = snapshot(
        island_node("a", 8, 4), island_node("b", 4, 2),
        pod("x-1", 2, "a", keeps=False), pod("x-2", 2, "a", keeps=False), pod("big-1", 4),
    )  # fmt: skip
    packing = packed(cluster)
    assert places(packing)["big-1"] == "a"
    assert packing.moves


def test_feasible_nodes_have_an_island() -> None:
    cluster = snapshot(island_node("a", 8, 4), island_node("b", 8, 4), pod("x-1", 2, "a", keeps=False))
    assert feasible_nodes(cluster, pod("y-1", 4)) == {"b"}
    assert feasible_nodes(cluster, pod("y-1", 2)) == {"a", "b"}
