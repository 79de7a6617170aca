"""Rules between pods, pod by pod and as slowly as they read: for checking what the packer's counting says.

Shares no code with the product but the facts and the matching of selectors, which have tests of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from stowage_scheduler.cluster import LabelSelector, Node, Pod, PodAffinityTerm, SpreadConstraint
from stowage_scheduler.kube.matching import matches_node_affinity, matches_selector, tolerates_taints

Where = Mapping[str, str]  # by UID, the node on which a pod stands


class Rules:
    """What kube-scheduler would say about one pod and one node while others stand somewhere."""

    def __init__(self, nodes: Mapping[str, Node], pods: Mapping[str, Pod]) -> None:
        """`nodes` by name, `pods` by UID."""
        self.nodes = nodes
        self.pods = pods

    def admits(self, pod: Pod, node: Node, where: Where) -> bool:
        """Whether `pod` may come to `node` while the others stand as `where` says; its own place does not count."""
        return self.affinity(pod, node, where) and self.apart(pod, node, where) and self.spread(pod, node, where)

    def others(self, pod: Pod, where: Where) -> Iterator[tuple[Pod, Node]]:
        """Everybody else who stands."""
        for uid, name in where.items():
            if uid != pod.uid:
                yield self.pods[uid], self.nodes[name]

    def affinity(self, pod: Pod, node: Node, where: Where) -> bool:
        """Required affinity."""
        if not all(term.topology_key in node.labels for term in pod.affinity_terms):
            return False
        friends = [place for other, place in self.others(pod, where) if _all_match(pod.affinity_terms, other)]
        lonely = [term for term in pod.affinity_terms if not any(_meet(term, node, place) for place in friends)]
        if not lonely:
            return True
        somewhere = any(term.topology_key in place.labels for place in friends for term in pod.affinity_terms)
        return not somewhere and _all_match(pod.affinity_terms, pod)

    def apart(self, pod: Pod, node: Node, where: Where) -> bool:
        """Required anti-affinity, that of others too."""
        for other, place in self.others(pod, where):
            if any(_matches(term, other) and _meet(term, node, place) for term in pod.anti_affinity_terms):
                return False
            if any(_matches(term, pod) and _meet(term, node, place) for term in other.anti_affinity_terms):
                return False
        return True

    def spread(self, pod: Pod, node: Node, where: Where) -> bool:
        """Topology spread."""
        return all(self._level(pod, constraint, node, where) for constraint in pod.spread)

    def _counts(self, pod: Pod, constraint: SpreadConstraint, where: Where) -> dict[str, int]:
        counted = {
            node.name: node.labels[constraint.topology_key]
            for node in self.nodes.values()
            if all(other.topology_key in node.labels for other in pod.spread)
            and (not constraint.honors_affinity or matches_node_affinity(pod, node))
            and (not constraint.honors_taints or tolerates_taints(pod, node))
        }
        counts = dict.fromkeys(counted.values(), 0)
        for uid, name in where.items():
            other = self.pods[uid]
            if name in counted and not other.terminating and _counts_pod(constraint, pod, other):
                counts[counted[name]] += 1
        return counts

    def _level(self, pod: Pod, constraint: SpreadConstraint, node: Node, where: Where) -> bool:
        if constraint.topology_key not in node.labels:
            return False
        counts = self._counts(pod, constraint, {uid: name for uid, name in where.items() if uid != pod.uid})
        here = counts.get(node.labels[constraint.topology_key], 0)
        own = matches_selector(constraint.selector, pod.labels)
        return here + own - _least(counts, constraint) <= constraint.max_skew


def _least(counts: Mapping[str, int], constraint: SpreadConstraint) -> int:
    return 0 if len(counts) < constraint.min_domains else min(counts.values(), default=0)


def _counts_pod(constraint: SpreadConstraint, pod: Pod, other: Pod) -> bool:
    if constraint.selector == LabelSelector():
        return False
    return other.namespace == pod.namespace and matches_selector(constraint.selector, other.labels)


def _matches(term: PodAffinityTerm, pod: Pod) -> bool:
    return pod.namespace in term.namespaces and matches_selector(term.selector, pod.labels)


def _all_match(terms: tuple[PodAffinityTerm, ...], pod: Pod) -> bool:
    return bool(terms) and all(_matches(term, pod) for term in terms)


def _meet(term: PodAffinityTerm, one: Node, other: Node) -> bool:
    key = term.topology_key
    return key in one.labels and one.labels[key] == other.labels.get(key)
