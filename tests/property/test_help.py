"""Help is true: on small clusters, the pod has a place once what is said is done."""

from __future__ import annotations

from hypothesis import event, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from harness.crowded import WAITING, crowded_clusters, table_of
from harness.facts import packed, places
from harness.naive_rules import Rules
from stowage_scheduler.cluster import CPU, Node, Pod, Snapshot
from stowage_scheduler.explain.advice import Advisor, advice
from stowage_scheduler.explain.findings import is_hopeless
from stowage_scheduler.explain.help import Help, HelpKind
from stowage_scheduler.options import Budget, PackOptions

BUDGET = Budget(deterministic_units=1.0, workers=1)


def with_help(cluster: Snapshot, found: Help) -> Snapshot:
    """The cluster once somebody has done what is said: changed objects only, so that a plan has to do the rest."""
    nodes = {node.name: node for node in cluster.nodes} | {node.name: node for node in found.nodes}
    pods: list[Pod] = []
    for pod in cluster.pods:
        if pod.name == WAITING:
            pods.append(replace(found.pod, preemption_policy="PreemptLowerPriority"))
        elif pod.uid in found.moved:
            pods.append(replace(pod, annotations={}))
        elif pod.uid not in found.gone:
            pods.append(pod)
    budgets = tuple(replace(budget, disruptions_allowed=9) for budget in cluster.budgets)
    return replace(cluster, nodes=tuple(nodes.values()), pods=tuple(pods), budgets=budgets)


def takes(cluster: Snapshot, where: dict[str, str], pod: Pod, node: Node) -> bool:
    """Whether a node has a place for a pod, rule by rule, as slowly as they read."""
    here = [other for other in cluster.pods if where.get(other.uid) == node.name and other.uid != pod.uid]
    rules = Rules({one.name: one for one in cluster.nodes}, {one.uid: one for one in cluster.pods})
    return (
        node.ready
        and all(node.labels.get(key) == value for key, value in pod.node_selector.items())
        and (not node.taints or bool(pod.tolerations))
        and sum(one.requests[CPU] for one in (*here, pod)) <= node.allocatable[CPU]
        and not (pod.host_ports and any(one.host_ports for one in here))
        and rules.admits(pod, node, where)
    )


@settings(max_examples=300, deadline=None)
@given(crowded_clusters(), st.booleans())
def test_help_is_true(cluster: Snapshot, may_evict: bool) -> None:
    options = PackOptions(owner_settled_seconds=0.0, evict_lower_priority=may_evict)
    table = table_of(cluster, options)
    found = advice(table, most=9)
    assert [one.cost for one in found] == sorted(one.cost for one in found)
    for one in found:
        event(one.kind)
        then = with_help(cluster, one)
        nodes = {node.name: node for node in then.nodes}
        where = {pod.uid: pod.node for pod in then.pods if pod.node is not None} | dict(one.moved)
        where[one.pod.uid] = one.node
        assert takes(then, where, one.pod, nodes[one.node]), one.text
        for pod in then.pods:
            if pod.uid in one.moved:
                assert takes(then, where, pod, nodes[one.moved[pod.uid]]), one.text
        if one.kind is not HelpKind.MORE_TIME:
            planned = places(packed(then, options, BUDGET))
            assert WAITING in planned, one.text


@settings(max_examples=200, deadline=None)
@given(crowded_clusters(), st.booleans())
def test_a_plan_agrees_with_what_is_told_at_once(cluster: Snapshot, may_evict: bool) -> None:
    options = PackOptions(owner_settled_seconds=0.0, evict_lower_priority=may_evict)
    table = table_of(cluster, options)
    placed = WAITING in places(packed(cluster, options, BUDGET))
    if is_hopeless(table):
        event("hopeless")
        assert not placed
    if Advisor(table).soon() is not None:
        event("soon")
        assert placed
