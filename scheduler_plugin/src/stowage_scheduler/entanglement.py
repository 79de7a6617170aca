"""Pods that a rule of another pod speaks of, while that rule is not modelled.

Moving such a pod could break the other pod's rule, so it is left alone: pods that a required affinity
term or a topology spread constraint selects. Required anti-affinity is cheaper: its owner stays where
it is, so the nodes of its domain are closed for the pods that it selects (`closed_nodes`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from stowage_scheduler.cluster import Node, Pod, PodAffinityTerm, Snapshot
from stowage_scheduler.kube.matching import matches_pod_term, matches_selector


def entangled(snapshot: Snapshot) -> frozenset[str]:
    """UIDs of pods that an affinity term or a spread constraint of some pod selects."""
    by_namespace: dict[str, list[Pod]] = defaultdict(list)
    for pod in snapshot.pods:
        by_namespace[pod.namespace].append(pod)
    found: set[str] = set()
    for pod in snapshot.pods:
        if pod.finished:
            continue
        for selector in pod.spread_selectors:
            found.update(o.uid for o in by_namespace[pod.namespace] if matches_selector(selector, o.labels))
        for term in pod.affinity_terms:
            found.update(o.uid for o in snapshot.pods if matches_pod_term(term, o, snapshot.namespace_labels))
    return frozenset(found)


class ClosedDomains:
    """Nodes that required anti-affinity of standing pods closes for the pods that it selects."""

    def __init__(self, snapshot: Snapshot, nodes: Mapping[str, Node]) -> None:
        """Collect the anti-affinity terms of every pod that stands on a node."""
        self._namespace_labels = snapshot.namespace_labels
        every = {node.name: node for node in snapshot.nodes}
        domains: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._terms: list[tuple[str, PodAffinityTerm, set[str]]] = []
        for pod in snapshot.pods:
            where = every.get(pod.node or pod.nominated_node or "")
            if pod.finished or not pod.anti_affinity_terms or where is None:
                continue
            labels = where.labels
            for term in pod.anti_affinity_terms:
                value = labels.get(term.topology_key)
                if value is None:
                    continue
                closed = domains[term.topology_key, value]
                if not closed:
                    closed.update(n.name for n in nodes.values() if n.labels.get(term.topology_key) == value)
                self._terms.append((pod.uid, term, closed))

    def closed_nodes(self, pod: Pod) -> frozenset[str]:
        """Names of the nodes that some other pod's anti-affinity closes for `pod`."""
        closed: set[str] = set()
        for uid, term, names in self._terms:
            if uid != pod.uid and matches_pod_term(term, pod, self._namespace_labels):
                closed |= names
        return frozenset(closed)
