"""What `why` says: the reason, the cheapest help, and how many nodes each reason excludes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec.structs import replace

from harness.facts import OPTIONS, node, packed, pod, snapshot
from stowage_scheduler.cluster import MEMORY, Effect, Gang, HostPort, Node, Pod, Taint, Unmodelled
from stowage_scheduler.explain import Explainer
from stowage_scheduler.gangs import GANG_GATE
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
    arriving: dict[str, Pod] = field(default_factory=dict)
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
        "one node with 4 cpu, 3Gi memory: no node is large enough",
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
    "a node that is large enough but tainted": Case(
        (node("a", 1000), node("b", 1000), node("huge", 8000, taints=(Taint("ml", Effect.NO_SCHEDULE, "x"),))),
        pod("new-1", 4000),
        Reason.INSUFFICIENT_CPU,
        "one node with 4 cpu: node huge is large enough, but closed to it (TaintsNotTolerated); "
        "or a toleration for taint ml=x:NoSchedule",
        {"InsufficientCpu": 2, "TaintsNotTolerated": 1},
    ),
    "a port is all that is missing on the one node that is large enough": Case(
        (
            node("a"),
            node("b", 10),
            node("c", 10),
            pod("x-1", on="a", host_ports=(HostPort("TCP", "0.0.0.0", 80),)),
        ),
        pod("new-1", host_ports=(HostPort("TCP", "0.0.0.0", 80),)),
        Reason.HOST_PORT_TAKEN,
        "another host port than 80, or one more node",
        {"InsufficientCpu": 2, "HostPortTaken": 1},
    ),
    "the cap on moves": Case(
        (node("a"), node("b", 150), pod("x-1", 900, on="a")),
        pod("new-1", 200),
        Reason.MOVE_LIMIT,
        "raise maxMovesPerPlan, or 100m cpu more on node a, or one more node with 200m cpu free",
        {"InsufficientCpu": 2},
        limited=True,
    ),
    "no number of moves would help": Case(
        (node("a"), pod("x-1", 900, on="a")),
        pod("new-1", 200),
        Reason.INSUFFICIENT_CPU,
        "100m cpu more on node a, or one more node with 200m cpu free",
        {"InsufficientCpu": 1},
        limited=True,
    ),
    "an eviction more would help": Case(
        (node("a"), pod("x-1", 900, on="a")),
        pod("new-1", 200, priority=1),
        Reason.MOVE_LIMIT,
        "raise maxMovesPerPlan, or 100m cpu more on node a, or one more node with 200m cpu free",
        {"InsufficientCpu": 1},
        limited=True,
    ),
    "the plan gives the room to a higher priority": Case(
        (node("a"),),
        pod("new-1", 200),
        Reason.LOWER_PRIORITY,
        "the room goes to pods of higher priority, like default/high-1: "
        "100m cpu more on node a, or one more node with 200m cpu free",
        {"InsufficientCpu": 1},
        arriving={"a": pod("high-1", 900, priority=2)},
    ),
    "equal priority is not higher": Case(
        (node("a"),),
        pod("new-1", 200),
        Reason.INSUFFICIENT_CPU,
        "100m cpu more on node a, or one more node with 200m cpu free",
        {"InsufficientCpu": 1},
        arriving={"a": pod("like-1", 900)},
    ),
    "it fits on one node, and others are too small": Case(
        (node("a"), node("b", 10)),
        pod("new-1"),
        Reason.LOWER_PRIORITY,
        "it fits: plan again with more time",
        {"InsufficientCpu": 1},
    ),
    "no node at all": Case(
        (), pod("new-1"), Reason.NO_MATCHING_NODE, "the policy covers no node: widen its nodeSelector", {}
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_explanations(case: Case) -> None:
    facts = snapshot(*case.cluster, case.waiting)
    residents: dict[str, list[Pod]] = {name: [coming] for name, coming in case.arriving.items()}
    for other in facts.pods:
        if other.node is not None:
            residents.setdefault(other.node, []).append(other)
    said = Explainer(facts, facts.nodes, residents).explain(case.waiting, limited=case.limited)
    assert (said.reason, said.help, dict(said.excluded)) == (case.reason, case.help, case.excluded)


def ring(number: int, on: str | None = None, size: int = 3, **more: object) -> Pod:
    usual: dict[str, Any] = {"gang": Gang("ring", size), "gates": () if on else (GANG_GATE,)}
    return pod(f"ring-{number}", 600, on=on, **{**usual, **more})


HELD_BACK = {
    "a rule that is not modelled": (
        [pod("new-1", unmodelled=(Unmodelled.VOLUMES,))],
        Reason.NOT_MODELLED,
        "it uses Volumes, which the packer does not model yet; kube-scheduler still may place it",
    ),
    "gates of somebody else": (
        [pod("new-1", gates=("example.com/a", "example.com/b"))],
        Reason.GATED,
        "whoever set scheduling gates example.com/a, example.com/b has to remove it",
    ),
    "the gate of gangs without a gang": (
        [pod("new-1", gates=(GANG_GATE,))],
        Reason.GATED,
        "labels stowage.dev/gang and stowage.dev/gang-size: its gate is for pods of a gang",
    ),
    "nominated": (
        [pod("new-1", nominated_node="a")],
        Reason.NOMINATED,
        "nothing: kube-scheduler is making room for it on node a",
    ),
    "a gang with pods missing": (
        [ring(1), ring(2)],
        Reason.GANG_INCOMPLETE,
        "more pods: 2 of 3 pods of gang ring exist",
    ),
    "a gang of two sizes": (
        [ring(1), ring(2), ring(3, size=4)],
        Reason.GANG_SIZE_UNREADABLE,
        "the same number, 1 to 10000, as label stowage.dev/gang-size of all pods of gang ring, and one topology",
    ),
    "a gang of which one pod is behind another gate": (
        [ring(1), ring(2), ring(3, gates=(GANG_GATE, "example.com/quota"))],
        Reason.GANG_GATED,
        "whoever set scheduling gate example.com/quota on pod default/ring-3 of gang ring has to remove it",
    ),
    "a gang of which one pod is nominated": (
        [ring(1), ring(2), ring(3, gates=(), nominated_node="a")],
        Reason.NOMINATED,
        "nothing: kube-scheduler makes room for pod default/ring-3 of gang ring on a",
    ),
    "a gang of which one pod has volumes": (
        [ring(1), ring(2), ring(3, unmodelled=(Unmodelled.VOLUMES,))],
        Reason.GANG_HELD_BACK,
        "gang ring waits as a whole for pod default/ring-3: it uses Volumes, which the packer does not model yet",
    ),
    "a gang of which one pod is out of scope": (
        [ring(1), ring(2), ring(3, scheduler_name="other")],
        Reason.GANG_HELD_BACK,
        "gang ring waits as a whole for pod default/ring-3: the policy does not cover it",
    ),
    "a gang that no plan can hold": (
        [ring(number) for number in range(1, 6)],
        Reason.GANG_TOO_LARGE,
        "smaller gangs: 5 pods of gang ring wait, more than one plan places",
    ),
    "a gang with too few nodes": (
        [ring(1), ring(2), ring(3)],
        Reason.INSUFFICIENT_CPU,
        "gang ring starts as a whole, and 1 of its 3 waiting pods would fit: it needs 2 more nodes with 600m cpu free",
    ),
    "a gang that nothing matches": (
        [ring(1), ring(2), ring(3, node_selector={"pool": "ml"})],
        Reason.INSUFFICIENT_CPU,
        "gang ring starts as a whole, and 1 of its 3 waiting pods would fit: it needs 2 more nodes with 600m cpu free",
    ),
}


@pytest.mark.parametrize(("pods", "reason", "advice"), HELD_BACK.values(), ids=HELD_BACK.keys())
def test_why_a_pod_was_left_out_of_a_plan(pods: list[Pod], reason: Reason, advice: str) -> None:
    options = replace(OPTIONS, scheduler_names=("default-scheduler",), max_gang_pods=4)
    first = packed(snapshot(node("a"), *pods), options).unplaced[0]
    assert (first.pod.name, first.reason, first.help) == (pods[0].name, reason, advice)
