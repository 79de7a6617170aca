"""What `why` says: the reason, the cheapest help, and how many nodes each reason excludes."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from harness.facts import node, pod, snapshot
from stowage_scheduler.cluster import MEMORY, Effect, HostPort, Node, Pod, Taint, Unmodelled
from stowage_scheduler.explain import Explainer
from stowage_scheduler.immovable import Immovable
from stowage_scheduler.packing import Reason

GPU = "nvidia.com/gpu"
GIB = 2**30


@dataclass(frozen=True)
class Case:
    """Nodes and standing pods, the pod that waits, and what is to be said."""

    cluster: tuple[Node | Pod, ...]
    waiting: Pod
    reason: Reason
    help: str
    excluded: dict[str, int]
    left_out: Immovable | None = None
    limited: bool = False


CASES = {
    "the node that lacks least is named": Case(
        (node("a", 1000), node("b", 1000), pod("x-1", 900, on="a"), pod("y-1", 500, on="b")),
        pod("new-1", 700),
        Reason.INSUFFICIENT_CPU,
        "200m cpu more on node b, or one more node with 700m cpu free",
        {"InsufficientCpu": 2},
    ),
    "too large for every node": Case(
        (node("a", 1000), node("b", 1000)),
        pod("new-1", 4000, extra={MEMORY: 3 * GIB}),
        Reason.INSUFFICIENT_CPU,
        "one node with 4 cpu, 3072Mi memory: no node is large enough",
        {"InsufficientCpu": 2},
    ),
    "whole GPUs": Case(
        (node("a", extra={GPU: 8}), pod("t-1", 100, on="a", extra={GPU: 6})),
        pod("new-1", 100, extra={GPU: 4}),
        Reason.INSUFFICIENT_GPU,
        f"2 {GPU} more on node a, or one more node with 100m cpu, 4 {GPU} free",
        {"InsufficientGpu": 1},
    ),
    "a selector that nothing matches": Case(
        (node("a"),),
        pod("new-1", node_selector={"pool": "ml"}),
        Reason.NO_MATCHING_NODE,
        "a node that matches pool=ml",
        {"NoMatchingNode": 1},
    ),
    "the most common taint": Case(
        tuple(node(name, taints=(Taint("ml", Effect.NO_SCHEDULE, "x"),)) for name in "ab"),
        pod("new-1"),
        Reason.TAINTS_NOT_TOLERATED,
        "a toleration for taint ml=x:NoSchedule",
        {"TaintsNotTolerated": 2},
    ),
    "a port that is taken": Case(
        (node("a"), pod("x-1", on="a", host_ports=(HostPort("TCP", "0.0.0.0", 80),))),
        pod("new-1", host_ports=(HostPort("TCP", "10.0.0.1", 80),)),
        Reason.HOST_PORT_TAKEN,
        "another host port than 80, or one more node",
        {"HostPortTaken": 1},
    ),
    "a rule that is not modelled": Case(
        (node("a"),),
        pod("new-1", unmodelled=(Unmodelled.VOLUMES,)),
        Reason.NOT_MODELLED,
        "it uses Volumes, which the packer does not model yet; kube-scheduler still may place it",
        {},
        left_out=Immovable.NOT_MODELLED,
    ),
    "the cap on moves": Case(
        (node("a"), pod("x-1", 900, on="a")),
        pod("new-1", 200),
        Reason.MOVE_LIMIT,
        "raise maxMovesPerPlan, or 100m cpu more on node a, or one more node with 200m cpu free",
        {"InsufficientCpu": 1},
        limited=True,
    ),
    "no node at all": Case(
        (), pod("new-1"), Reason.NO_MATCHING_NODE, "the policy covers no node: widen its nodeSelector", {}
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_explanations(case: Case) -> None:
    facts = snapshot(*case.cluster, case.waiting)
    residents: dict[str, list[Pod]] = {}
    for other in facts.pods:
        if other.node is not None:
            residents.setdefault(other.node, []).append(other)
    said = Explainer(facts, facts.nodes, residents).explain(case.waiting, case.left_out, limited=case.limited)
    assert (said.reason, said.help, dict(said.excluded)) == (case.reason, case.help, case.excluded)
