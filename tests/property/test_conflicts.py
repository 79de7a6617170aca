"""Rules that cannot hold together: against every node and every set of pods that might go, on small clusters."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from itertools import combinations

from hypothesis import event, given, settings
from hypothesis import strategies as st

from harness.crowded import APPS, WAITING, crowded_clusters, table_of
from harness.naive_rules import Rules
from stowage_scheduler.cluster import (
    CPU,
    LabelSelector,
    Node,
    Pod,
    PodAffinityTerm,
    Snapshot,
)
from stowage_scheduler.explain.clauses import (
    EVICTIONS_OFF,
    NEVER_PREEMPTS,
    NO_ROOM_ELSEWHERE,
    PRIORITY,
    TERMINATING,
    Clause,
    ClauseKind,
)
from stowage_scheduler.explain.conflict import conflict
from stowage_scheduler.options import PackOptions


class ByHand:
    """What a set of rules allows, by trying every node and every set of pods that go; shares nothing with the table."""

    def __init__(self, cluster: Snapshot, *, may_evict: bool) -> None:
        self.cluster = cluster
        self.may_evict = may_evict
        self.pod = next(pod for pod in cluster.pods if pod.name == WAITING)
        self.running = [pod for pod in cluster.pods if pod.node is not None]
        self.rules = Rules({node.name: node for node in cluster.nodes}, {pod.uid: pod for pod in cluster.pods})
        self.where = {pod.uid: pod.node or "" for pod in self.running}

    def is_placeable(self, enforced: AbstractSet[Clause]) -> bool:
        """Whether some node takes the pod once some of those who may go have gone."""
        goers = [pod for pod in self.running if self.goes(pod, enforced)]
        return any(
            self.takes(node, {pod.uid for pod in gone}, enforced)
            for node in self.cluster.nodes
            for gone in subsets(goers)
        )

    def goes(self, other: Pod, enforced: AbstractSet[Clause]) -> bool:
        kept = set()
        wanted = self.pod.affinity_terms
        if wanted and all(term.selector == selector_of(other) for term in wanted):
            kept.update(clause for clause in enforced if clause.kind is ClauseKind.POD_AFFINITY)
        if other.terminating:
            return kept.isdisjoint(enforced) and TERMINATING not in enforced
        if other.annotations:
            kept.add(Clause(ClauseKind.NEVER_MOVES, "DO_NOT_DISRUPT"))
        for budget in self.cluster.budgets:
            if budget.name == other.labels["app"] and not budget.disruptions_allowed:
                kept.add(Clause(ClauseKind.POD_DISRUPTION_BUDGET, f"default/{budget.name}"))
        pinned = any(clause.kind != ClauseKind.POD_AFFINITY for clause in kept)
        if self.pod.preemption_policy == "Never":
            kept.add(NEVER_PREEMPTS)
        if not kept.isdisjoint(enforced):
            return False
        stays = {PRIORITY} if other.priority >= self.pod.priority else set()
        stays |= set() if self.may_evict else {EVICTIONS_OFF}
        if stays.isdisjoint(enforced) or NO_ROOM_ELSEWHERE not in enforced:
            return True
        return pinned and self.has_room(other)

    def has_room(self, other: Pod) -> bool:
        """Whether another node has room for a pod; of those that are free to move the plan has found none."""
        return any(
            node.name != other.node
            and node.ready
            and not node.taints
            and sum(one.requests[CPU] for one in (*self.on(node), other)) <= node.allocatable[CPU]
            for node in self.cluster.nodes
        )

    def on(self, node: Node) -> list[Pod]:
        return [pod for pod in self.running if pod.node == node.name]

    def takes(self, node: Node, gone: AbstractSet[str], enforced: AbstractSet[Clause]) -> bool:
        where = {uid: name for uid, name in self.where.items() if uid not in gone}
        here = [pod for pod in self.running if where.get(pod.uid) == node.name]
        return all(self.holds(clause, node, where, here) for clause in enforced)

    def holds(self, clause: Clause, node: Node, where: dict[str, str], here: list[Pod]) -> bool:
        pod = self.pod
        match clause.kind:
            case ClauseKind.NODE_READY:
                return node.ready
            case ClauseKind.NODE_SELECTOR:
                return "=".join(["disk", node.labels.get("disk", "")]) == clause.subject
            case ClauseKind.TAINT:
                return not node.taints or bool(pod.tolerations)
            case ClauseKind.RESOURCE:
                asked = sum(one.requests[clause.subject] for one in (*here, pod))
                return asked <= node.allocatable[clause.subject]
            case ClauseKind.HOST_PORT:
                return not any(one.host_ports for one in here)
            case ClauseKind.POD_AFFINITY:
                return self.rules.affinity(pod, node, where)
            case ClauseKind.POD_ANTI_AFFINITY:
                terms = tuple(term for term in pod.anti_affinity_terms if term.topology_key == clause.subject)
                return not any(self.meets(term, node, other, where) for term in terms for other in self.running)
            case ClauseKind.ANTI_AFFINITY_OF_OTHERS:
                return not any(
                    term.topology_key == clause.subject
                    and term.selector == APPS["red"]
                    and self.shares_domain(term.topology_key, node, where.get(other.uid))
                    for other in self.running
                    for term in other.anti_affinity_terms
                )
            case ClauseKind.TOPOLOGY_SPREAD:
                return self.is_level(node, where)
            case _:
                return True  # about those in the way

    def meets(self, term: PodAffinityTerm, node: Node, other: Pod, where: dict[str, str]) -> bool:
        same = self.shares_domain(term.topology_key, node, where.get(other.uid))
        return same and term.selector == selector_of(other)

    def shares_domain(self, key: str, node: Node, name: str | None) -> bool:
        if name is None:
            return False
        return key in node.labels and self.rules.nodes[name].labels.get(key) == node.labels[key]

    def is_level(self, node: Node, where: dict[str, str]) -> bool:
        """The smallest domain is looked at as it stands, the pod's own once those in the way have gone."""
        constraint = self.pod.spread[0]
        key = constraint.topology_key
        if key not in node.labels:
            return False
        least = min(self.rules._counts(self.pod, constraint, self.where).values(), default=0)
        here = self.rules._counts(self.pod, constraint, where).get(node.labels[key], 0)
        return here + (constraint.selector == APPS["red"]) - least <= constraint.max_skew


def selector_of(pod: Pod) -> LabelSelector:
    return APPS[pod.labels["app"]]


def subsets(pods: list[Pod]) -> Iterator[tuple[Pod, ...]]:
    for size in range(len(pods) + 1):
        yield from combinations(pods, size)


@settings(max_examples=400, deadline=None)
@given(crowded_clusters(), st.booleans())
def test_a_conflict_is_one_and_is_minimal(cluster: Snapshot, may_evict: bool) -> None:
    options = PackOptions(owner_settled_seconds=0.0, evict_lower_priority=may_evict)
    table = table_of(cluster, options)
    found = conflict(table)
    by_hand = ByHand(cluster, may_evict=may_evict)
    if found is None:
        event("placeable")
        assert by_hand.is_placeable(table.clauses)
        return
    event(f"{len(found)} rules")
    enforced = set(found)
    assert not by_hand.is_placeable(enforced), found
    for clause in found:
        assert by_hand.is_placeable(enforced - {clause}), (clause, found)
