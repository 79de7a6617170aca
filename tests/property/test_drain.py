"""Drains of random small clusters, against all ways to place the pods that have to leave."""

from __future__ import annotations

import random
from collections import Counter
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from harness.facts import OPTIONS, packed, snapshot
from harness.facts import node as make_node
from harness.facts import pod as make_pod
from stowage_scheduler.cluster import DisruptionBudget, HostPort, LabelSelector, OwnerRef, Pod, Snapshot
from stowage_scheduler.draining import obstacles
from stowage_scheduler.options import Drain
from stowage_scheduler.packing import Packing

PORT = (HostPort("TCP", "0.0.0.0", 80),)
DRAINED = "n0"


def a_cluster(chance: random.Random) -> Snapshot:
    """Up to four nodes; pods stand where they fit, and one or two wait."""
    sizes = [chance.randint(4, 9) for _ in range(chance.randint(2, 4))]
    nodes = [
        make_node(f"n{number}", size, labels={"zone": chance.choice("ab")}, unschedulable=chance.random() < 0.1)
        for number, size in enumerate(sizes)
    ]
    pods: list[Pod] = []
    room, ports = list(sizes), set[int]()
    for number in range(chance.randint(2, 7)):
        size, port = chance.randint(1, 4), chance.random() < 0.2
        free = [n for n, left in enumerate(room) if left >= size and not (port and n in ports)]
        at = chance.choice(free) if free else None
        if at is not None:
            room[at] -= size
            ports |= {at} if port else set()
        bare = at is not None and chance.random() < 0.1
        more = {"owner": None} if bare else {}
        pods.append(
            make_pod(
                f"p{number}-1",
                size,
                on=None if at is None else f"n{at}",
                host_ports=PORT if port else (),
                labels={"tier": "web"} if chance.random() < 0.3 else {},
                node_selector={"zone": "a"} if chance.random() < 0.2 else {},
                priority=chance.randint(0, 2),
                **more,
            )
        )
    budget = DisruptionBudget("default", "web", "web", LabelSelector((("tier", "web"),)), chance.randint(0, 2))
    return snapshot(*nodes, *pods, budgets=(budget,))


def fits(cluster: Snapshot, where: dict[str, str | None]) -> bool:
    """Whether all pods have room where they are said to stand, and their node admits those that come."""
    sizes = {node.name: node.allocatable["cpu"] for node in cluster.nodes}
    nodes = {node.name: node for node in cluster.nodes}
    used: Counter[str] = Counter()
    ports: Counter[str] = Counter()
    for pod in cluster.pods:
        node = where.get(pod.uid)
        if node is None:
            continue
        used[node] += pod.requests["cpu"]
        ports[node] += bool(pod.host_ports)
        came = node != pod.node
        zone = pod.node_selector.get("zone", nodes[node].labels["zone"])
        if came and (nodes[node].unschedulable or node == DRAINED or zone != nodes[node].labels["zone"]):
            return False
    return all(used[name] <= size and ports[name] <= 1 for name, size in sizes.items())


def leaving(cluster: Snapshot) -> list[Pod]:
    return [pod for pod in cluster.pods if pod.node == DRAINED]


def possible_without_other_moves(cluster: Snapshot) -> bool:
    """Whether some way to place the pods that leave has room, while all others stay."""
    go = [pod for pod in leaving(cluster) if pod.owner is not None]
    stay: dict[str, str | None] = {pod.uid: pod.node for pod in cluster.pods if pod.node != DRAINED}
    others = [node.name for node in cluster.nodes if node.name != DRAINED]
    return any(
        fits(cluster, stay | {pod.uid: node for pod, node in zip(go, nodes, strict=True)})
        for nodes in product(others, repeat=len(go))
    )


def drained(cluster: Snapshot, *, force: bool) -> tuple[bool, Packing]:
    options = replace(OPTIONS, drain=Drain(frozenset({DRAINED}), force=force))
    return bool(obstacles(cluster, options)), packed(cluster, options)


@given(seed=st.integers(0, 2**32), force=st.booleans())
@settings(max_examples=250)
def test_a_drain_is_whole_or_nothing_and_finds_a_way_where_one_is(seed: int, *, force: bool) -> None:
    cluster = a_cluster(random.Random(seed))
    if not any(pod.node == DRAINED for pod in cluster.pods):
        return
    kept, packing = drained(cluster, force=force)
    if kept:
        return  # the command refuses before it asks for places
    end: dict[str, str | None] = {one.pod.uid: one.node for one in packing.assignments}
    if packing.unplaced:
        assert not packing.steps
        assert end == {pod.uid: pod.node for pod in cluster.pods if pod.node is not None}
        assert not possible_without_other_moves(cluster)
        return
    assert fits(cluster, end)
    evicted = {one.pod.uid for one in packing.evictions}
    assert evicted == {pod.uid for pod in leaving(cluster) if pod.owner is None}
    for pod in cluster.pods:
        if pod.node is None:
            assert pod.uid not in end, "who waits is not planned for"
        else:
            assert pod.uid in evicted or end[pod.uid] != DRAINED
    assert {step.pod.uid for step in packing.steps} == {
        pod.uid for pod in cluster.pods if pod.node is not None and end.get(pod.uid) != pod.node
    }
    if possible_without_other_moves(cluster):
        assert {move.source for move in packing.moves} <= {DRAINED}, "nobody else moves without need"


def test_the_clusters_are_of_all_kinds() -> None:
    kinds: Counter[str] = Counter()
    for seed in range(300):
        cluster = a_cluster(random.Random(seed))
        kept, packing = drained(cluster, force=False)
        if not leaving(cluster):
            kinds["empty"] += 1
        elif kept:
            kinds["obstacle"] += 1
        elif packing.unplaced:
            kinds["no place"] += 1
        else:
            kinds["others move" if {move.source for move in packing.moves} - {DRAINED} else "fits"] += 1
    assert min(kinds[kind] for kind in ("empty", "obstacle", "no place", "others move", "fits")) >= 3, kinds


def test_owners_are_needed_for_a_place() -> None:
    """The oracle above leaves bare pods out; here one is the only reason why a drain has no place to find."""
    bare = replace(make_pod("bare", 4, on=DRAINED), owner=None)
    owned = replace(bare, owner=OwnerRef("ReplicaSet", "web", "web"))
    nodes = (make_node(DRAINED, 5), make_node("n1", 3))
    assert drained(snapshot(*nodes, bare), force=True)[1].steps
    assert not drained(snapshot(*nodes, owned), force=True)[1].steps
