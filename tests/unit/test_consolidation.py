"""Which nodes can be emptied, and which are left alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec.structs import replace

from harness.facts import BUDGET, OPTIONS, node, pod, snapshot
from stowage_scheduler.cluster import DisruptionBudget, LabelSelector, OwnerRef, Rejected, Snapshot
from stowage_scheduler.consolidation import candidates, consolidate
from stowage_scheduler.emptying import Consolidation

DAEMON = OwnerRef("DaemonSet", "agent", "agent")


def consolidated(cluster: Snapshot, **options: Any) -> Consolidation:
    return consolidate(cluster, replace(OPTIONS, **options), BUDGET, 1, lambda: 0.0)


@dataclass(frozen=True)
class Case:
    """A cluster and the nodes that can be emptied, with the moves that this takes."""

    cluster: Snapshot
    nodes: tuple[str, ...]
    moves: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


TABLE = {
    "the least used node": Case(
        snapshot(node("a"), node("b"), pod("web-1", 700, on="a"), pod("api-1", 300, on="b")), ("b",), {"api-1": "a"}
    ),
    "two nodes into the third": Case(
        snapshot(
            node("a"), node("b"), node("c"), pod("w-1", 100, on="a"), pod("x-1", 200, on="b"), pod("y-1", 300, on="c")
        ),
        ("a", "b"),
        {"w-1": "c", "x-1": "c"},
    ),
    "a node behind one that can not go": Case(
        snapshot(
            node("a", labels={"disk": "ssd"}),
            node("b"),
            node("c"),
            pod("w-1", 100, on="a", node_selector={"disk": "ssd"}),
            pod("x-1", 200, on="b"),
            pod("y-1", 300, on="c"),
        ),
        ("b", "c"),
        {"x-1": "a", "y-1": "a"},
    ),
    "full nodes stay": Case(snapshot(node("a"), node("b"), pod("web-1", 700, on="a"), pod("api-1", 700, on="b")), ()),
    "an empty node can go at once, the last one never": Case(
        snapshot(node("a"), node("b"), pod("web-1", 700, on="a")), ("b",)
    ),
    "pods of DaemonSets and static pods are no hindrance": Case(
        snapshot(
            node("a"),
            node("b"),
            pod("web-1", 700, on="a"),
            pod("agent-1", 100, on="b", owner=DAEMON),
            pod("proxy-1", 100, on="b", mirror=True, owner=None),
        ),
        ("b",),
    ),
    "pods of DaemonSets and static pods are no hindrance whoever schedules them": Case(
        snapshot(
            node("a"),
            node("b"),
            pod("web-1", 700, on="a", scheduler_name="stowage"),
            pod("agent-1", 100, on="b", owner=DAEMON, scheduler_name="default-scheduler"),
            pod("proxy-1", 100, on="b", mirror=True, owner=None, scheduler_name="default-scheduler"),
        ),
        ("b",),
        options={"scheduler_names": ("stowage",)},
    ),
    "a pod that never moves keeps its node, and others come to it": Case(
        snapshot(node("a"), node("b"), pod("web-1", 700, on="a"), pod("bare", 100, on="b", owner=None)),
        ("a",),
        {"web-1": "b"},
    ),
    "a pod that the policy protects keeps its node": Case(
        snapshot(node("a"), node("b"), pod("web-1", 950, on="a"), pod("api-1", 100, on="b", namespace="kube-system")),
        (),
    ),
    "a budget without a disruption left keeps its node": Case(
        snapshot(
            node("a"),
            node("b"),
            pod("web-1", 700, on="a", labels={"app": "web"}),
            pod("api-1", 100, on="b", labels={"app": "web"}),
            budgets=(DisruptionBudget("default", "web", "web", LabelSelector((("app", "web"),)), 0),),
        ),
        (),
    ),
    "not more moves than the cap": Case(
        snapshot(
            node("a"), node("b"), node("c"), pod("w-1", 100, on="a"), pod("x-1", 200, on="b"), pod("y-1", 300, on="c")
        ),
        ("a",),
        {"w-1": "c"},
        {"max_moves": 1},
    ),
    "nobody on the other nodes moves for it": Case(
        snapshot(
            node("a", labels={"gpu": "yes"}),
            node("b", labels={"gpu": "yes"}),
            node("c", 300),
            pod("w-1", 400, on="a", node_selector={"gpu": "yes"}),
            pod("x-1", 300, on="b"),
            pod("y-1", 500, on="b", node_selector={"gpu": "yes"}),
            pod("z-1", 300, on="c", node_selector={"none": "such"}),
        ),
        (),
    ),
    "a cordoned node and one that is not Ready are nobody's target and no candidate": Case(
        snapshot(
            node("a"),
            node("b", unschedulable=True),
            node("c", ready=False),
            pod("web-1", 700, on="a"),
            pod("api-1", 100, on="b"),
        ),
        (),
    ),
}


@pytest.mark.parametrize("case", TABLE.values(), ids=TABLE.keys())
def test_what_can_be_emptied(case: Case) -> None:
    found = consolidated(case.cluster, **case.options)
    assert found.nodes == case.nodes
    moves = {} if found.packing is None else {move.pod.name: move.target for move in found.packing.moves}
    assert moves == case.moves
    assert (found.packing is None) == (not case.nodes)


def test_while_pods_wait_nothing_is_consolidated() -> None:
    cluster = snapshot(node("a"), node("b"), pod("web-1", 300, on="a"), pod("wait-1", 2000))
    assert consolidated(cluster) == Consolidation(waiting=1)


def test_a_node_with_a_pod_that_nobody_could_read_is_no_candidate() -> None:
    unread = Rejected("Pod", "default/x", "spec", "?", "nonsense", node="b")
    cluster = snapshot(node("a"), node("b"), pod("web-1", 300, on="a"), rejected=(unread,))
    assert [one.node for one in candidates(cluster, OPTIONS)] == ["a"]


def test_candidates_come_by_what_is_used_of_them() -> None:
    gpu = "nvidia.com/gpu"
    cluster = snapshot(
        node("a", extra={gpu: 8}),
        node("b", extra={gpu: 8}),
        node("c", extra={gpu: 8}),
        pod("w-1", 100, on="a", extra={gpu: 8}),
        pod("x-1", 500, on="b"),
        pod("y-1", 400, on="c", extra={gpu: 1}),
    )
    assert [(one.node, one.used) for one in candidates(cluster, OPTIONS)] == [
        ("c", 400_000),
        ("b", 500_000),
        ("a", 1_000_000),
    ]
