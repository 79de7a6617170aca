"""Emptied nodes of random small clusters, against all ways to place the pods of each single node."""

from __future__ import annotations

import random
from collections import Counter
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from harness.facts import BUDGET, OPTIONS, snapshot
from harness.facts import node as make_node
from harness.facts import pod as make_pod
from stowage_scheduler.cluster import OwnerRef, Pod, Snapshot
from stowage_scheduler.consolidation import consolidate

DAEMON = OwnerRef("DaemonSet", "agent", "agent")


def a_cluster(chance: random.Random) -> Snapshot:
    """Two to five nodes; pods stand where they fit, some of them for good, some of a DaemonSet."""
    sizes = [chance.randint(4, 9) for _ in range(chance.randint(2, 5))]
    nodes = [
        make_node(f"n{number}", size, labels={"zone": chance.choice("ab")}, unschedulable=chance.random() < 0.1)
        for number, size in enumerate(sizes)
    ]
    pods: list[Pod] = []
    room = list(sizes)
    for number in range(chance.randint(1, 9)):
        size = chance.randint(1, 4)
        free = [one for one, left in enumerate(room) if left >= size]
        if not free:
            continue
        at = chance.choice(free)
        room[at] -= size
        kind = chance.random()
        more = {"owner": None} if kind < 0.1 else {"owner": DAEMON} if kind < 0.2 else {}
        selector = {"zone": nodes[at].labels["zone"]} if chance.random() < 0.2 else {}
        pods.append(make_pod(f"p{number}-1", size, on=f"n{at}", node_selector=selector, **more))
    return snapshot(*nodes, *pods)


def leaving(cluster: Snapshot, name: str) -> list[Pod]:
    return [pod for pod in cluster.pods if pod.node == name and pod.owner != DAEMON]


def can_go(cluster: Snapshot, name: str) -> bool:
    """Whether some way to place the pods of one node has room on the others, where everybody else stays."""
    nodes = {node.name: node for node in cluster.nodes}
    go = leaving(cluster, name)
    if nodes[name].unschedulable or any(pod.owner is None for pod in go):
        return False
    others = [one for one in nodes.values() if one.name != name and not one.unschedulable]
    used = Counter[str]()
    for pod in cluster.pods:
        used[pod.node or ""] += pod.requests["cpu"]
    for chosen in product(others, repeat=len(go)):
        more = used.copy()
        for pod, node in zip(go, chosen, strict=True):
            more[node.name] += pod.requests["cpu"]
        admitted = all(
            pod.node_selector.get("zone", node.labels["zone"]) == node.labels["zone"]
            for pod, node in zip(go, chosen, strict=True)
        )
        if admitted and all(more[node.name] <= node.allocatable["cpu"] for node in others):
            return bool(others)
    return False


@given(seed=st.integers(0, 2**32), most=st.sampled_from([None, 1, 2, 4]))
@settings(max_examples=150)
def test_nodes_are_emptied_by_moves_alone_and_one_is_found_where_there_is_one(seed: int, most: int | None) -> None:
    cluster = a_cluster(random.Random(seed))
    found = consolidate(cluster, replace(OPTIONS, max_moves=most), BUDGET, 1, lambda: 0.0)
    single = {node.name: len(leaving(cluster, node.name)) for node in cluster.nodes if can_go(cluster, node.name)}
    affordable = {name: moves for name, moves in single.items() if most is None or moves <= most}
    assert bool(found.nodes) == bool(affordable)
    if found.packing is None:
        return
    packing = found.packing
    assert not packing.evictions
    assert {move.pod.uid for move in packing.moves} == {
        pod.uid for name in found.nodes for pod in leaving(cluster, name)
    }
    assert not {move.target for move in packing.moves} & set(found.nodes)
    assert most is None or len(packing.moves) <= most
    used = Counter[str]()
    sizes = {node.name: node.allocatable["cpu"] for node in cluster.nodes}
    requests = {pod.uid: pod.requests["cpu"] for pod in cluster.pods}
    for one in packing.assignments:
        used[one.node] += requests[one.pod.uid]
    assert all(used[name] <= size for name, size in sizes.items())
    if len(found.nodes) == 1:
        assert len(packing.moves) == min(affordable.values()), "no other node goes by fewer moves"
