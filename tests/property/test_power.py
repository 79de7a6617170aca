"""Power on random small clusters, against all ways to place the same pods."""

from __future__ import annotations

from itertools import islice

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harness.facts import OPTIONS, node, pod, snapshot
from property.test_soft_rules import MOST_WAYS, ways
from stowage_scheduler.build import build
from stowage_scheduler.cluster import OwnerRef, Snapshot
from stowage_scheduler.greedy import greedy
from stowage_scheduler.options import Tail
from stowage_scheduler.placement import Placement
from stowage_scheduler.power import IDLE_WATTS, PEAK_WATTS, power_of
from stowage_scheduler.solve.arrange import arranged, arriving

ROUNDING_WATTS = 0.001  # of each pod


@st.composite
def clusters(draw: st.DrawFn) -> Snapshot:
    """Nodes that draw this and that, pods that run, and some that wait."""
    nodes = []
    for number in range(draw(st.integers(2, 4))):
        idle = draw(st.integers(0, 300))
        labels = {IDLE_WATTS: f"{idle}", PEAK_WATTS: f"{idle + draw(st.integers(0, 500))}"}
        nodes.append(node(f"n{number}", draw(st.sampled_from([300, 500, 1000])), labels=labels))
    pods = []
    for number in range(draw(st.integers(0, 3))):
        where = draw(st.sampled_from(nodes)).name
        everywhere = draw(st.booleans())
        owner = OwnerRef("DaemonSet" if everywhere else "ReplicaSet", f"old{number}", f"uid-of-old{number}")
        pods.append(pod(f"old{number}-0", 50, on=where, owner=owner))
    for number in range(draw(st.integers(1, 3))):
        cpu = draw(st.integers(1, 3)) * 100
        pods += [pod(f"new{number}-{one}", cpu) for one in range(draw(st.integers(1, 2)))]
    return snapshot(*nodes, *pods)


def watts(cluster: Snapshot, placement: Placement) -> float:
    """What all nodes draw above what DaemonSets draw, pod by pod."""
    found = 0.0
    problem = placement.problem
    for number, one in enumerate(sorted(cluster.nodes, key=lambda n: n.name)):
        idle, peak = float(one.labels[IDLE_WATTS]), float(one.labels[PEAK_WATTS])
        fixed = [p for p in cluster.pods if p.node == one.name and p.owner and p.owner.kind != "DaemonSet"]
        placed = [problem.classes[index] for index, count in placement.on_node[number].items() for _ in range(count)]
        movable = {uid for c in problem.classes for uid in c.running_uids.get(number, ())}
        if placed or any(p.uid not in movable for p in fixed):
            found += idle
        cpu = problem.resources.index("cpu")
        found += sum((peak - idle) * c.requests[cpu] / problem.capacity[number][cpu] for c in placed)
    return found


@settings(max_examples=120)
@given(cluster=clusters())
def test_nodes_draw_no_more_than_before_and_no_shift_saves(cluster: Snapshot) -> None:
    made = build(cluster, OPTIONS)
    start = greedy(made.problem)
    assume(arriving(start))
    end = arranged(start, Tail.LEAST_POWER, power=power_of(made, cluster))
    rounding = ROUNDING_WATTS * len(cluster.pods)
    assert end.score() == start.score()
    assert end.within_limits()
    assert watts(cluster, end) <= watts(cluster, start) + rounding
    for way in islice(ways(end), MOST_WAYS):
        differing = sum(
            abs(there.get(n, 0) - here.get(n, 0))
            for here, there in zip(end.counts, way.counts, strict=True)
            for n in {*here, *there}
        )
        if differing == 2:
            assert watts(cluster, way) >= watts(cluster, end) - rounding
