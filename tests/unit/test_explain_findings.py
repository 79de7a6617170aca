"""What is found out about one pod: rules that cannot hold together, and help that was tried out, in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec.structs import replace

from harness.facts import OPTIONS, node, pod, snapshot
from stowage_scheduler.cluster import (
    DisruptionBudget,
    Effect,
    Gang,
    LabelSelector,
    Node,
    OwnerRef,
    Pod,
    PodAffinityTerm,
    Snapshot,
    SpreadConstraint,
    Taint,
)
from stowage_scheduler.explain.findings import Findings, findings
from stowage_scheduler.gangs import GANG_GATE, gangs
from stowage_scheduler.options import PackOptions
from stowage_scheduler.rules import Outcome

WEB = LabelSelector((("app", "web"),))
DAEMONS = OwnerRef("DaemonSet", "daemons", "daemons")
STAYS = {"stowage.dev/do-not-disrupt": "true"}
ZONE = "topology.kubernetes.io/zone"
TYPE = "node.kubernetes.io/instance-type"
NO_EVICTIONS = replace(OPTIONS, evict_lower_priority=False)


@dataclass(frozen=True)
class Case:
    """Nodes and pods, `new-1` among them, with the rules in conflict and the texts of help."""

    cluster: tuple[Node | Pod, ...]
    conflict: list[str]
    help: list[str]
    options: PackOptions = OPTIONS
    more: dict[str, Any] = field(default_factory=dict)


def web(name: str, cpu: int, on: str, **more: Any) -> Pod:
    return pod(name, cpu, on=on, labels={"app": "web"}, **more)


def ssd(name: str, **labels: str) -> Node:
    return node(name, labels={"disk": "ssd", **labels})


def ring(number: int) -> Pod:
    return pod(f"ring-{number}", 600, gang=Gang("ring", 3), gates=(GANG_GATE,))


CASES = {
    "a selector for nodes that are full, while others have room": Case(
        (ssd("a"), node("b"), pod("x-1", 900, on="a"), pod("new-1", 200, node_selector={"disk": "ssd"})),
        [
            "node selector disk=ssd: 1 of 2 nodes without that label",
            "it asks for 200m cpu: 1 of 2 nodes with less; the most that is free is 100m cpu on node a",
            "no other room was found for pods that could move: 1 pod",
            "pods of its priority (0) or higher keep their places: 1 pod",
        ],
        [],
        more={"soon": "it fits when default/x-1 moves from node a to b: plan again with more time"},
    ),
    "a PodDisruptionBudget keeps a pod that could move": Case(
        (node("a"), node("b"), web("x-1", 900, "a"), pod("y-1", 100, on="b", owner=DAEMONS), pod("new-1", 950)),
        [
            "it asks for 950m cpu: 2 of 2 nodes with less; the most that is free is 900m cpu on node b",
            "pods of a DaemonSet belong to their node: 1 pod, like default/y-1",
            "PodDisruptionBudget default/web allows none now: it keeps 1 pod, like default/x-1",
        ],
        [
            "wait until PodDisruptionBudget default/web allows a disruption: then default/x-1 moves from node a to b",
            "900m cpu instead of 950m cpu: it fits on node b",
            "one more node like a (1 cpu)",
        ],
        more={"budgets": (DisruptionBudget("default", "web", "web", WEB),)},
    ),
    "an annotation keeps a pod that could move": Case(
        (node("a"), node("b", 150), pod("x-1", 150, on="a", annotations=STAYS), pod("new-1", 1000)),
        [
            "it asks for 1 cpu: 2 of 2 nodes with less; the most that is free is 850m cpu on node a",
            "an annotation forbids to disrupt it: 1 pod, like default/x-1",
        ],
        [
            "take off the annotation that forbids to disrupt it: then default/x-1 moves from node a to b",
            "850m cpu instead of 1 cpu: it fits on node a",
            "one more node like a (1 cpu)",
        ],
    ),
    "the policy lets nobody lose a place": Case(
        (node("a"), pod("x-1", 900, on="a", priority=1), pod("new-1", 800, priority=5)),
        [
            "it asks for 800m cpu: 1 of 1 node with less; the most that is free is 100m cpu on node a",
            "the policy lets no pod lose its place (disruption.evictLowerPriority: false)",
            "no other room was found for pods that could move: 1 pod",
        ],
        [
            "disruption.evictLowerPriority: true: then default/x-1 (priority 1) on node a makes room",
            "one more node like a (1 cpu)",
        ],
        NO_EVICTIONS,
    ),
    "a pod on its way out": Case(
        (node("a"), pod("x-1", 900, on="a", terminating=True), pod("new-1", 800)),
        [
            "it asks for 800m cpu: 1 of 1 node with less; the most that is free is 100m cpu on node a",
            "pods on their way out hold their room until they are gone: 1 pod, like default/x-1",
        ],
        ["wait until default/x-1 on node a is gone", "one more node like a (1 cpu)"],
    ),
    "a cordon, and a node that is not Ready": Case(
        (node("a", unschedulable=True), node("b", ready=False), pod("new-1")),
        ["not Ready: 1 of 2 nodes", "cordoned: 1 of 2 nodes"],
        ["kubectl uncordon a", "node b Ready again", "one more node like a (1 cpu)"],
    ),
    "a taint that one toleration covers": Case(
        (node("a", taints=(Taint("ml", Effect.NO_SCHEDULE, "x"),)), pod("new-1")),
        ["taint ml=x:NoSchedule, which the pod does not tolerate: on 1 of 1 node"],
        ["a toleration for taint ml=x:NoSchedule: it fits on node a"],
    ),
    "a spread that one more place in skew would allow": Case(
        (
            node("a", labels={ZONE: "east"}),
            node("b", 100, labels={ZONE: "west"}),
            web("x-1", 100, "a", owner=None),
            pod("new-1", 500, labels={"app": "web"}, spread=(SpreadConstraint(ZONE, 1, WEB),)),
        ),
        [
            "it asks for 500m cpu: 1 of 2 nodes with less; the most that is free is 100m cpu on node b",
            f"topology spread by {ZONE}: 1 of 2 nodes in domains that are ahead by maxSkew already",
            "nothing would recreate it: 1 pod, like default/x-1",
        ],
        [
            f"maxSkew 2 instead of 1 for {ZONE}: it fits on node a",
            "do it by hand (nothing would recreate it): then default/x-1 moves from node a to b",
        ],
    ),
    "anti-affinity by host, and a type of nodes with a name": Case(
        (
            node("a", labels={"host": "a", TYPE: "m5.large"}),
            web("x-1", 100, "a", owner=DAEMONS),
            pod("new-1", anti_affinity_terms=(PodAffinityTerm("host", WEB, ("default",)),)),
        ),
        [
            "its anti-affinity by host: closes 1 of 1 node",
            "pods of a DaemonSet belong to their node: 1 pod, like default/x-1",
        ],
        ["no anti-affinity by host: it fits on node a"],
    ),
    "no node is large enough": Case(
        (node("a", labels={TYPE: "m5.large"}), pod("new-1", 3000)),
        ["it asks for 3 cpu: the largest node that it may use offers 1 cpu"],
        [],
    ),
    "a type with a name": Case(
        (node("a", labels={TYPE: "m5.large", ZONE: "z"}), pod("x-1", 900, on="a", owner=None), pod("new-1", 800)),
        [
            "it asks for 800m cpu: 1 of 1 node with less; the most that is free is 100m cpu on node a",
            "nothing would recreate it: 1 pod, like default/x-1",
        ],
        [
            "one more node of type m5.large in zone z (1 cpu)",
        ],
    ),
    "a gang of which one pod finds no room": Case(
        (node("a", 1300), ring(0), ring(1), ring(2)),
        [
            "it asks for 600m cpu: 1 of 1 node with less; the most that is free is 100m cpu on node a",
            "gang ring starts together: 2 pods of it have their room first",
        ],
        ["one more node like a (1300m cpu): then all of gang ring fits"],
        more={"gang": True},
    ),
}


def found_in(case: Case) -> Findings:
    cluster = snapshot(*case.cluster, budgets=case.more.get("budgets", ()))
    waiting = next(one for one in cluster.pods if one.node is None)
    if "gang" in case.more:
        waiting = next(one for one in cluster.pods if one.name == "ring-2")
    return look(cluster, waiting, case.options)


def look(cluster: Snapshot, waiting: Pod, options: PackOptions = OPTIONS) -> Findings:
    standing = {one.uid: one.node for one in cluster.pods if one.node is not None and not one.leaving}
    found = gangs(cluster.pods)
    gang = found[waiting.namespace, waiting.gang.name] if waiting.gang is not None else None
    return findings(Outcome(cluster, options, standing), cluster.nodes, waiting, gang)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_findings(case: Case) -> None:
    found = found_in(case)
    assert [told.text for told in found.conflict] == case.conflict
    assert [one.text for one in found.help] == case.help
    assert (found.soon.text if found.soon is not None else None) == case.more.get("soon")
