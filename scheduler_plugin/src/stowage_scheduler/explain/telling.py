"""The rules of a conflict in words, with the numbers behind them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from stowage_scheduler.cluster import Pod
from stowage_scheduler.counted import counted
from stowage_scheduler.explain.clauses import Clause, ClauseKind
from stowage_scheduler.explain.lacks import CLOSED
from stowage_scheduler.explain.permits import names
from stowage_scheduler.explain.table import Open, Table
from stowage_scheduler.explain.words import amount_of
from stowage_scheduler.immovable import Immovable
from stowage_scheduler.kube.matching import UNSCHEDULABLE_TAINT

_CLOSES = {
    ClauseKind.NODE_READY: "not Ready: {of}",
    ClauseKind.NODE_SELECTOR: "node selector {subject}: {of} without that label",
    ClauseKind.NODE_AFFINITY: "required node affinity ({subject}): {of} without a match",
    ClauseKind.NODE_FEATURES: "kubelet feature {subject}: {of} without it",
    ClauseKind.TAINT: "taint {subject}, which the pod does not tolerate: on {of}",
    ClauseKind.VOLUMES: "its volumes ({subject}): of no use on {of}",
    ClauseKind.READABLE_PODS: "a pod that cannot be read, so that nobody knows what room is left: on {of}",
    ClauseKind.GPU_DEVICES: "single GPUs: {of} without devices that have so much free",
    ClauseKind.HOST_PORT: "host port {subject}: taken on {of}",
    ClauseKind.POD_AFFINITY: "required pod affinity by {subject}: {of} without the pods that it wants to meet",
    ClauseKind.POD_ANTI_AFFINITY: "its anti-affinity by {subject}: closes {of}",
    ClauseKind.ANTI_AFFINITY_OF_OTHERS: "anti-affinity by {subject} of pods that stand there: closes {of}",
    ClauseKind.TOPOLOGY_SPREAD: "topology spread by {subject}: {of} in domains that are ahead by maxSkew already",
    ClauseKind.GANG_TOPOLOGY: "its gang stands in one domain of {subject}: {of} are no part of it",
}
_KEEPS = {
    ClauseKind.GANG: "gang {subject} starts together: {many} of it have their room first",
    ClauseKind.PRIORITY: "pods of its priority ({priority}) or higher keep their places: {many}",
    ClauseKind.NO_ROOM_ELSEWHERE: "no other room was found for pods that could move: {many}",
    ClauseKind.POD_DISRUPTION_BUDGET: "PodDisruptionBudget {subject} allows none now: it keeps {many}, like {who}",
    ClauseKind.TERMINATING: "pods on their way out hold their room until they are gone: {many}, like {who}",
    ClauseKind.NOMINATED: "kube-scheduler keeps room for others by preemption: {many}, like {who}",
    ClauseKind.EVICTIONS_OFF: "the policy lets no pod lose its place (disruption.evictLowerPriority: false)",
    ClauseKind.MOVE_LIMIT: "the plan moves as many pods as the policy allows (disruption.maxMovesPerPlan)",
    ClauseKind.NEVER_PREEMPTS: "its preemptionPolicy is Never: nobody moves or ends for it",
}


class Told(Struct, frozen=True):
    """A rule with its words: `nodes` are closed by it, or `pods` kept."""

    clause: Clause
    text: str
    nodes: int = 0
    pods: int = 0


def tell(table: Table, found: Sequence[Clause]) -> tuple[Told, ...]:
    """What each rule of a conflict says here.

    Args:
        table: what the pod lacks.
        found: rules that cannot hold together.
    """
    return _Telling(table, found).all()


class _Telling:
    def __init__(self, table: Table, found: Sequence[Clause]) -> None:
        self.table = table
        self.found = found
        self.count = len(table.situation.nodes)
        self.unmet = table.unmet(frozenset(found))
        asked = [number for number, clause in enumerate(table.rows) if clause in set(found)]
        self.usable: Open = np.asarray(~(table.lacking[asked] >= CLOSED).any(axis=0))

    def all(self) -> tuple[Told, ...]:
        return tuple(self._kept(c) if c.kind.keeps_others else self._closed(c) for c in self.found)

    def _closed(self, clause: Clause) -> Told:
        rows = [number for number, one in enumerate(self.table.rows) if one == clause]
        closed = int(self.unmet[rows].any(axis=0).sum())
        return Told(clause, self._rule(clause, closed), nodes=closed)

    def _rule(self, clause: Clause, closed: int) -> str:
        if clause.kind is ClauseKind.RESOURCE:
            return self._resource(clause.subject, closed)
        of = f"{closed} of {counted(self.count, 'node')}"
        if clause.kind is ClauseKind.TAINT and clause.subject.startswith(UNSCHEDULABLE_TAINT.key):
            return f"cordoned: {of}"
        if clause.kind is ClauseKind.POD_AFFINITY and not closed:
            return f"required pod affinity by {clause.subject}: the pods in the way are those that it wants to meet"
        return _CLOSES[clause.kind].format(of=of, subject=clause.subject)

    def _resource(self, resource: str, closed: int) -> str:
        asked = self.table.pod.requests.get(resource, 0)
        nodes = self.table.situation.nodes
        usable = [node for node, usable in zip(nodes, self.usable, strict=True) if usable] or list(nodes)
        largest = max(node.allocatable.get(resource, 0) for node in usable)
        start = f"it asks for {amount_of(resource, asked)}: "
        if largest < asked:
            offer = amount_of(resource, largest) if largest else f"no {resource}"
            return f"{start}the largest node that it may use offers {offer}"
        free = self.table.situation.free(resource)
        rows = [number for number, clause in enumerate(self.table.rows) if clause.subject == resource]
        short = self.usable & self.unmet[rows].any(axis=0)
        best = int(np.where(short, free, np.iinfo(np.int64).min).argmax())
        if free[best] <= 0:
            return f"{start}nothing is free on the nodes that it may use"
        most = f"the most that is free is {amount_of(resource, int(free[best]))} on node {nodes[best].name}"
        return f"{start}{closed} of {counted(self.count, 'node')} with less; {most}"

    def _kept(self, clause: Clause) -> Told:
        pods = [
            pod
            for way in self.table.ways
            if any(clause in rules for rules in way.unless)
            for number, pod in way.holders
            if self.usable[number]
        ]
        return Told(clause, self._keeps(clause, pods), pods=len(pods))

    def _keeps(self, clause: Clause, pods: Sequence[Pod]) -> str:
        who = names(sorted(pods, key=lambda pod: pod.key)[:1]) or "none now"
        many = counted(len(pods), "pod")
        if clause.kind is ClauseKind.NEVER_MOVES:
            return f"{Immovable[clause.subject].value}: {many}, like {who}"
        return _KEEPS[clause.kind].format(many=many, who=who, subject=clause.subject, priority=self.table.pod.priority)
