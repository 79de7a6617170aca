"""Properties of every packing, on random small clusters with all the rules at once."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from harness.facts import OPTIONS, packed, snapshot
from harness.facts import node as make_node
from harness.facts import pod as make_pod
from stowage_scheduler.assign import changes
from stowage_scheduler.build import build
from stowage_scheduler.cluster import (
    DisruptionBudget,
    Effect,
    Gang,
    HostPort,
    LabelSelector,
    Node,
    OwnerRef,
    Pod,
    Snapshot,
    Taint,
    Toleration,
)
from stowage_scheduler.gangs import GANG_GATE
from stowage_scheduler.greedy import fill, greedy
from stowage_scheduler.moves import order
from stowage_scheduler.options import Budget, PackOptions
from stowage_scheduler.pack import pack
from stowage_scheduler.packing import Action, Packing
from stowage_scheduler.placement import Placement
from stowage_scheduler.rules import RULES, Outcome

GPU = "nvidia.com/gpu"
TAINT = Taint("dedicated", Effect.NO_SCHEDULE, "ml")
SHORT = Budget(deterministic_units=0.1, workers=2)


@st.composite
def clusters(draw: st.DrawFn) -> Snapshot:
    """Up to five nodes and seven ReplicaSets; running pods stand where they fit, the rest waits."""
    nodes = [
        make_node(
            f"n{number}",
            draw(st.integers(5, 20)) * 100,
            extra={GPU: draw(st.integers(0, 4)), "pods": draw(st.integers(2, 8))},
            labels={"zone": draw(st.sampled_from("ab"))},
            taints=draw(st.sampled_from([(), (), (TAINT,)])),
            unschedulable=draw(st.integers(0, 9)) == 0,
        )
        for number in range(draw(st.integers(1, 5)))
    ]
    pods: list[Pod] = []
    sizes = {"red": draw(st.integers(0, 4)), "blue": draw(st.integers(1, 6))}
    for number in range(draw(st.integers(1, 7))):
        name = draw(st.sampled_from([None, None, None, *sizes]))
        gang = None if name is None else Gang(name, sizes[name])
        pods += _replica_set(draw, number, nodes, pods, gang)
    budgets = tuple(
        DisruptionBudget("default", f"pdb-{app}", f"pdb-{app}", LabelSelector((("app", app),)), draw(st.integers(0, 2)))
        for app in draw(st.sets(st.sampled_from(["rs0", "rs1", "rs2"]), max_size=2))
    )
    return snapshot(*nodes, *pods, budgets=budgets)


def _replica_set(draw: st.DrawFn, number: int, nodes: list[Node], others: list[Pod], gang: Gang | None) -> list[Pod]:
    template = {
        "cpu": draw(st.integers(1, 9)) * 100,
        "priority": draw(st.integers(0, 3)),
        "extra": {GPU: draw(st.sampled_from([0, 0, 0, 1, 2]))},
        "node_selector": draw(st.sampled_from([{}, {}, {"zone": "a"}])),
        "tolerations": draw(st.sampled_from([(), (Toleration("dedicated", "Exists"),)])),
        "host_ports": draw(st.sampled_from([(), (), (), (HostPort("TCP", "0.0.0.0", 80),)])),
        "labels": {"app": f"rs{number}"},
        "gang": gang,
        "owner": draw(st.sampled_from([OwnerRef("ReplicaSet", f"rs{number}", f"rs{number}")] * 4 + [None])),
    }
    found: list[Pod] = []
    for replica in range(draw(st.integers(1, 4))):
        pod = make_pod(f"rs{number}-{replica}", **template)
        standing = [p for p in [*others, *found] if p.node]
        fitting = [node.name for node in nodes if _fits(pod, node, [p for p in standing if p.node == node.name])]
        if gang is not None and draw(st.integers(0, 3)):
            gate = draw(st.sampled_from([GANG_GATE] * 9 + ["example.com/quota"]))
            pod = replace(pod, gates=draw(st.sampled_from([(), (gate,), (gate,)])))
        elif fitting and draw(st.integers(0, 3)):
            pod = replace(pod, node=draw(st.sampled_from(fitting)), phase="Running", ready=True)
        found.append(pod)
    return found


def _fits(pod: Pod, node: Node, residents: list[Pod]) -> bool:
    """A second, naive opinion on whether a pod may be put on a node."""
    total = Counter(pod.requests)
    for other in residents:
        total.update(other.requests)
    return (
        all(amount <= node.allocatable.get(name, 0) for name, amount in total.items())
        and not node.unschedulable
        and all(node.labels.get(key) == value for key, value in pod.node_selector.items())
        and (not node.taints or bool(pod.tolerations))
        and not (pod.host_ports and any(other.host_ports for other in residents))
    )


def ends(packing: Packing) -> dict[str, str]:
    return {entry.pod.uid: entry.node for entry in packing.assignments}


@settings(max_examples=200)
@given(clusters(), st.integers(0, 3))
def test_every_packing_is_valid(cluster: Snapshot, seed: int) -> None:
    """Nothing lost or invented, capacity and rules kept by a naive second opinion, never worse than the start."""
    packing = packed(cluster, budget=SHORT, seed=seed)
    assert packing.faults == ()
    after, pods = ends(packing), {pod.uid: pod for pod in cluster.pods}
    nodes = {node.name: node for node in cluster.nodes}
    assert set(after) <= set(pods)
    lost = {e.pod.uid for e in packing.evictions}
    waiting = {u.pod.uid for u in packing.unplaced}
    assert set(after) | lost | waiting == set(pods)
    assert len(after) + len(lost) + len(waiting) == len(pods)
    for uid, name in after.items():
        residents = [pods[other] for other, where in after.items() if where == name and other != uid]
        if pods[uid].node != name:
            assert _fits(pods[uid], nodes[name], residents)
            assert pods[uid].owner or pods[uid].node is None
    _assert_gangs_whole(cluster, packing)
    start, end = tuple(packing.before.values()), tuple(packing.placed.values())
    assert start <= end
    assert all(packing.bound[p] >= count for p, count in packing.placed.items())


def _assert_gangs_whole(cluster: Snapshot, packing: Packing) -> None:
    """A second, naive opinion on gangs: who runs stays, who waits comes with all others or not at all."""
    after = ends(packing)
    members: dict[str, list[Pod]] = {}
    for pod in cluster.pods:
        if pod.gang is not None:
            members.setdefault(pod.gang.name, []).append(pod)
    for name, pods in members.items():
        waiting = [pod for pod in pods if pod.node is None]
        arrived = [pod for pod in waiting if pod.uid in after]
        assert all(after.get(pod.uid) == pod.node for pod in pods if pod.node is not None)
        steps = [step for step in packing.steps if step.pod.uid in {pod.uid for pod in pods}]
        assert len({step.after for step in steps}) <= 1
        assert all(step.gang == name for step in steps)
        assert {step.pod.uid: step.action for step in steps} == {
            pod.uid: Action.UNGATE if pod.gates else Action.PLACE for pod in arrived
        }
        if arrived:
            assert arrived == waiting
            assert len(pods) >= pods[0].gang.size > 0  # type: ignore[union-attr]
            assert {gate for pod in pods for gate in pod.gates} <= {GANG_GATE}


@settings(max_examples=40)
@given(clusters())
def test_search_beats_greedy_beats_the_start(cluster: Snapshot) -> None:
    problem = build(cluster, OPTIONS).problem
    start, first = Placement(problem), greedy(problem)
    assert tuple(packed(cluster, budget=SHORT).placed.values()) >= tuple(first.placed_by_priority().values())
    assert first.score() >= start.score()


@settings(max_examples=60)
@given(clusters())
def test_each_pod_goes_where_the_least_room_is_left(cluster: Snapshot) -> None:
    """Against the plain definition, pod by pod and node by node; gangs apart."""
    problem = build(replace(cluster, pods=tuple(pod for pod in cluster.pods if pod.gang is None)), OPTIONS).problem
    expected = Placement(problem)
    for pod_class in sorted(problem.classes, key=lambda c: (-c.priority, c.index)):
        for _ in range(pod_class.pending):
            rooms = {}
            for number in sorted(pod_class.eligible):
                room, free = expected.room[number], problem.free[number]
                rest = [(room[r] - amount, free[r]) for r, amount in enumerate(pod_class.requests) if amount]
                taken = any(problem.classes[other].ports for other in expected.on_node[number])
                if all(left >= 0 for left, _ in rest) and not (pod_class.ports and taken | bool(problem.ports[number])):
                    rooms[number] = sum(left * 1_000_000 // max(1, all_) for left, all_ in rest)
            if rooms:
                expected.add(pod_class, min(rooms, key=lambda number: rooms[number]), 1)
    assert fill(Placement(problem), lambda _: 0).counts == expected.counts


@settings(max_examples=30)
@given(clusters(), st.randoms(use_true_random=False))
def test_input_order_and_repetition_change_nothing(cluster: Snapshot, shuffle: random.Random) -> None:
    pods, nodes = list(cluster.pods), list(cluster.nodes)
    shuffle.shuffle(pods)
    shuffle.shuffle(nodes)
    once = packed(cluster, budget=SHORT)
    again = packed(replace(cluster, pods=tuple(pods), nodes=tuple(nodes)), budget=SHORT)
    assert once == again


@settings(max_examples=40)
@given(clusters())
def test_a_second_plan_for_the_result_moves_nothing(cluster: Snapshot) -> None:
    """What a certified plan reaches is left alone by the next one; budgets, which fill up again, are left out."""
    cluster = replace(cluster, budgets=())
    packing = packed(cluster, budget=SHORT)
    after = ends(packing)
    settled = tuple(
        replace(pod, node=after.get(pod.uid), phase="Running" if pod.uid in after else "Pending")
        for pod in cluster.pods
    )
    if packing.certified:
        assert packed(replace(cluster, pods=settled), budget=SHORT).steps == ()


@settings(max_examples=200)
@given(clusters(), st.randoms(use_true_random=False))
def test_steps_keep_capacity_in_every_order_that_their_edges_allow(cluster: Snapshot, choice: random.Random) -> None:
    packing = packed(cluster, budget=SHORT)
    steps = {step.id: step for step in packing.steps}
    pods, nodes = {pod.uid: pod for pod in cluster.pods}, {node.name: node for node in cluster.nodes}
    target = ends(packing)
    where = {pod.uid: pod.node for pod in cluster.pods if pod.node}
    done: set[str] = set()
    homeless: list[str] = []
    opens_after = {step.pod.uid: set(s.after) for step in packing.steps for s in packing.slots if s.id == step.slot}
    while len(done) < len(steps):
        ready = sorted(i for i, step in steps.items() if i not in done and set(step.after) <= done)
        assert ready, "the steps wait for each other"
        step = steps[choice.choice(ready)]
        done.add(step.id)
        where.pop(step.pod.uid, None)
        if step.slot is not None:
            homeless.append(step.pod.uid)
        for uid in list(homeless):
            residents = [pods[other] for other, name in where.items() if name == target[uid]]
            if opens_after[uid] <= done:
                assert _fits(pods[uid], nodes[target[uid]], residents), "room was promised, but there is none"
                homeless.remove(uid)
                where[uid] = target[uid]
    assert homeless == []


@settings(max_examples=40)
@given(clusters(), st.integers(0, 4))
def test_limits_of_the_options_hold(cluster: Snapshot, most: int) -> None:
    packing = packed(cluster, PackOptions(max_moves=most, evict_lower_priority=False), SHORT)
    assert packing.evictions == ()
    assert len(packing.moves) <= most


def test_fewest_moves_on_a_small_case() -> None:
    cluster = snapshot(
        make_node("a"), make_node("b"), make_node("c"),
        make_pod("x-1", 300, on="a"), make_pod("x-2", 300, on="b"), make_pod("x-3", 300, on="c"),
        make_pod("y-1", 800),
    )  # fmt: skip
    packing = packed(cluster)
    assert len(packing.moves) == 1
    assert packing.certified


PLANTED = {
    "capacity": lambda after: after | {"uid-big-1": "b"},
    "an unknown node": lambda after: after | {"uid-big-1": "nowhere"},
    "a bare pod moved": lambda after: after | {"uid-bare-1": "b"},
    "a running pod dropped": lambda after: {uid: node for uid, node in after.items() if uid != "uid-bare-1"},
    "a taint": lambda after: after | {"uid-tiny-1": "tainted"},
    "a node selector": lambda after: after | {"uid-picky-1": "b"},
    "a port": lambda after: after | {"uid-web-2": "a"},
    "a node that is not ready": lambda after: after | {"uid-tiny-1": "down"},
}


@pytest.mark.parametrize("fault", PLANTED.values(), ids=PLANTED.keys())
def test_the_checks_catch_planted_faults(fault: object) -> None:
    port = (HostPort("TCP", "0.0.0.0", 80),)
    cluster = snapshot(
        make_node("a"), make_node("b", 300), make_node("tainted", taints=(TAINT,)), make_node("down", ready=False),
        make_pod("bare-1", 100, on="a", owner=None), make_pod("web-1", 100, on="a", host_ports=port),
        make_pod("big-1", 700), make_pod("tiny-1", 1), make_pod("picky-1", 1, node_selector={"zone": "a"}),
        make_pod("web-2", 1, host_ports=port),
    )  # fmt: skip
    good = {"uid-bare-1": "a", "uid-web-1": "a", "uid-big-1": "a"}
    assert [v for rule in RULES for v in rule.check(Outcome(cluster, OPTIONS, good))] == []
    bad = fault(good)  # type: ignore[operator]
    assert [v for rule in RULES for v in rule.check(Outcome(cluster, OPTIONS, bad))]


def test_cycle_is_broken_by_a_swap() -> None:
    """Two pods must change places and no third node has room: one waits without a place, and the plan says so."""
    cluster = snapshot(
        make_node("a", 1000), make_node("b", 1000, labels={"zone": "a"}),
        make_pod("p-1", 700, on="a"), make_pod("q-1", 700, on="b"),
    )  # fmt: skip
    built = build(cluster, OPTIONS)
    index = {c.name.rpartition("/")[2]: c for c in built.problem.classes}
    turned = Placement(built.problem)
    for name, source, target in (("p", 0, 1), ("q", 1, 0)):
        turned.add(index[name], source, -1)
        turned.add(index[name], target, 1)
    steps, slots = order(built, changes(built, turned))
    assert [step.swap for step in steps] == [True, False]
    assert [step.action for step in steps] == [Action.EVICT, Action.EVICT]
    assert steps[1].after == (steps[0].id,)
    assert [(slot.node, slot.after) for slot in slots] == [("b", (steps[1].id,)), ("a", ())]


def test_deterministic_budget_repeats_exactly() -> None:
    cluster = snapshot(
        *(make_node(f"n{i}") for i in range(6)),
        *(make_pod(f"run{i}-1", 300 + 37 * i % 400, on=f"n{i % 6}", priority=i % 3) for i in range(9)),
        *(make_pod(f"new{i}-1", 350 + 53 * i % 300, priority=i % 3) for i in range(7)),
    )
    answers = [packed(cluster, budget=Budget(deterministic_units=0.5), seed=7) for _ in range(4)]
    assert all(first == second for first, second in pairwise(answers))


def test_wall_budget_with_a_clock_that_ran_out_still_answers() -> None:
    ticks = iter(range(1_000_000))
    cluster = snapshot(make_node("a"), make_pod("x-1", 300, on="a"), make_pod("y-1", 800), make_pod("z-1", 500))
    packing = pack(cluster, OPTIONS, Budget(seconds=0.5), 1, lambda: float(next(ticks)))
    assert packing.faults == ()
    assert tuple(packing.placed.values()) >= tuple(packing.before.values())
