"""Pods that stand on nodes, counted per topology domain the way kube-scheduler 1.36 counts them.

Replicas share terms and labels, so each different term is held against each different set of labels once, and only
in the namespaces that it speaks of.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

from msgspec import Struct

from stowage_scheduler.cluster import LabelSelector, Node, Pod, PodAffinityTerm, SpreadConstraint
from stowage_scheduler.kube.matching import (
    demanded_labels,
    matches_node_affinity,
    matches_pod_term,
    matches_selector,
    tolerates_taints,
)

Pair = tuple[str, str]  # a topology key and its value: one domain
_Label = tuple[str, str]
_EVERYTHING = LabelSelector()


class _Alike(Struct):
    """Pods of one namespace with the same labels, and the nodes that they stand on."""

    pod: Pod
    nodes: Counter[str]
    terminating: Counter[str]


class Standing:
    """Who stands where.

    Args:
        nodes: by name.
        residents: by the name of a node its pods, those that are leaving among them.
        namespace_labels: by the name of a namespace.
    """

    def __init__(
        self,
        nodes: Mapping[str, Node],
        residents: Mapping[str, Iterable[Pod]],
        namespace_labels: Mapping[str, Mapping[str, str]],
    ) -> None:
        self.nodes = nodes
        self.namespace_labels = namespace_labels
        self._matched: dict[object, Counter[Pair]] = {}
        self._spread: dict[object, tuple[dict[str, int], ...]] = {}
        self._residents = [(nodes[name], tuple(pods)) for name, pods in residents.items() if name in nodes]

    # what follows is made when a rule asks, for in most clusters few pods have any, and 40,000 pods take a while

    @cached_property
    def _where(self) -> Mapping[str, str]:
        """The node of each pod, by UID."""
        return {pod.uid: node.name for node, pods in self._residents for pod in pods}

    @cached_property
    def _alike(self) -> Mapping[str, Mapping[object, _Alike]]:
        """Pods with the same labels, by namespace."""
        found: dict[str, dict[object, _Alike]] = defaultdict(dict)
        for node, pods in self._residents:
            for pod in pods:
                groups = found[pod.namespace]
                labels = tuple(pod.labels.items())
                if labels not in groups:
                    groups[labels] = _Alike(pod, Counter(), Counter())
                groups[labels].nodes[node.name] += 1
                if pod.terminating:
                    groups[labels].terminating[node.name] += 1
        return found

    @cached_property
    def _labelled(self) -> Mapping[_Label, list[_Alike]]:
        """Pods with the same labels, by each of those."""
        found: dict[_Label, list[_Alike]] = defaultdict(list)
        for groups in self._alike.values():
            for alike in groups.values():
                for label in alike.pod.labels.items():
                    found[label].append(alike)
        return found

    @cached_property
    def _holders(self) -> Mapping[PodAffinityTerm, Counter[Pair]]:
        """Where pods stand that have a term of anti-affinity."""
        found: dict[PodAffinityTerm, Counter[Pair]] = defaultdict(Counter)
        for node, pods in self._residents:
            for pod in pods:
                for term in pod.anti_affinity_terms:
                    if term.topology_key in node.labels:
                        found[term][term.topology_key, node.labels[term.topology_key]] += 1
        return found

    def _rarest(self, selector: LabelSelector | None) -> _Label | None:
        """Of the labels that a selector demands the one that fewest kinds of pods have."""
        return min(demanded_labels(selector), key=lambda label: len(self._labelled.get(label, ())), default=None)

    @cached_property
    def _demanding(self) -> Mapping[_Label | None, list[PodAffinityTerm]]:
        """Terms of anti-affinity that somebody has who stands, by a label that they demand."""
        found: dict[_Label | None, list[PodAffinityTerm]] = defaultdict(list)
        for term in self._holders:
            found[self._rarest(term.selector)].append(term)
        return found

    def matched_by_all(self, pod: Pod, terms: tuple[PodAffinityTerm, ...]) -> Counter[Pair]:
        """Other pods than `pod` that match all terms, by the domains of the terms' keys."""
        if terms not in self._matched:
            self._matched[terms] = self._count(terms)
        found = self._matched[terms]
        own = self.nodes.get(self._where.get(pod.uid, ""))
        if own is None or not self.matches_all(terms, pod):
            return found
        return found - self._pairs(terms, own)

    def matches_all(self, terms: tuple[PodAffinityTerm, ...], pod: Pod) -> bool:
        """Whether every term speaks of a pod."""
        return bool(terms) and all(matches_pod_term(term, pod, self.namespace_labels) for term in terms)

    def _count(self, terms: tuple[PodAffinityTerm, ...]) -> Counter[Pair]:
        found: Counter[Pair] = Counter()
        for alike in self._groups(terms[0]):
            if self.matches_all(terms, alike.pod):
                for name, count in alike.nodes.items():
                    for pair, times in self._pairs(terms, self.nodes[name]).items():
                        found[pair] += times * count
        return found

    def _groups(self, term: PodAffinityTerm) -> Iterator[_Alike]:
        """Pods that a term may speak of; whoever asks has to look at each."""
        rarest = self._rarest(term.selector)
        if rarest is not None:
            yield from self._labelled.get(rarest, ())
            return
        namespaces = self._alike if term.namespace_selector is not None else set(term.namespaces)
        for namespace in namespaces:
            yield from self._alike.get(namespace, {}).values()

    @staticmethod
    def _pairs(terms: Iterable[PodAffinityTerm], node: Node) -> Counter[Pair]:
        keys = (term.topology_key for term in terms if term.topology_key in node.labels)
        return Counter((key, node.labels[key]) for key in keys)

    def closing(self, pod: Pod) -> frozenset[Pair]:
        """Domains that the required anti-affinity of other pods closes for a pod."""
        if not self._holders:
            return frozenset()
        found: set[Pair] = set()
        own = self.nodes.get(self._where.get(pod.uid, ""))
        demanding = (self._demanding.get(label, ()) for label in (None, *pod.labels.items()))
        for term in (term for terms in demanding for term in terms):
            if not matches_pod_term(term, pod, self.namespace_labels):
                continue
            pairs = self._holders[term]
            mine = self._pairs((term,) * pod.anti_affinity_terms.count(term), own) if own is not None else Counter()
            found.update(pair for pair, count in pairs.items() if count > mine[pair])
        return frozenset(found)

    def spread_of(self, pod: Pod) -> tuple[Mapping[str, int], ...]:
        """For each spread constraint of a pod, how many other pods it counts in each eligible domain, by value."""
        key = (pod.namespace, pod.spread, tuple(pod.node_selector.items()), pod.node_affinity, pod.tolerations)
        if key not in self._spread:
            self._spread[key] = tuple(self._counted(pod, constraint) for constraint in pod.spread)
        own = self.nodes.get(self._where.get(pod.uid, ""))
        if own is None or pod.terminating:
            return self._spread[key]
        return tuple(
            _without(counts, own.labels[constraint.topology_key])
            if counts_nodes(constraint, pod, own) and counts_pod(constraint, pod.namespace, pod)
            else counts
            for constraint, counts in zip(pod.spread, self._spread[key], strict=True)
        )

    def _counted(self, pod: Pod, constraint: SpreadConstraint) -> dict[str, int]:
        counted = {name: node for name, node in self.nodes.items() if counts_nodes(constraint, pod, node)}
        found = dict.fromkeys((node.labels[constraint.topology_key] for node in counted.values()), 0)
        rarest = self._rarest(constraint.selector)
        groups = self._alike.get(pod.namespace, {}).values() if rarest is None else self._labelled.get(rarest, ())
        for alike in groups:
            if counts_pod(constraint, pod.namespace, alike.pod):
                for name, count in alike.nodes.items():
                    if name in counted:
                        value = counted[name].labels[constraint.topology_key]
                        found[value] += count - alike.terminating[name]
        return found


def counts_nodes(constraint: SpreadConstraint, pod: Pod, node: Node) -> bool:
    """Whether a constraint of `pod` counts a node, and what stands on it (KEP-3094)."""
    if any(other.topology_key not in node.labels for other in pod.spread):
        return False
    if constraint.honors_affinity and not matches_node_affinity(pod, node):
        return False
    return not constraint.honors_taints or tolerates_taints(pod, node)


def counts_pod(constraint: SpreadConstraint, namespace: str, other: Pod) -> bool:
    """Whether a constraint of a pod of `namespace` counts a pod that stands; an empty selector counts nobody."""
    if other.namespace != namespace or constraint.selector == _EVERYTHING:
        return False
    return matches_selector(constraint.selector, other.labels)


def _without(counts: Mapping[str, int], value: str) -> Mapping[str, int]:
    return {**counts, value: counts[value] - 1}
