"""Pods that a rule of another pod speaks of, while that rule is not modelled.

Moving such a pod could break the other pod's rule, so it is left alone: pods that a required affinity
term or a topology spread constraint selects. Required anti-affinity is cheaper: its owner stays where
it is, so the nodes of its domain are closed for the pods that it selects (`closed_nodes`).

Replicas share terms and labels, so each different term is held against each different set of labels once,
and only in the namespaces that it speaks of.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from stowage_scheduler.cluster import LabelSelector, Node, Pod, PodAffinityTerm, Snapshot
from stowage_scheduler.kube.matching import matches_pod_term, matches_selector

_Domain = tuple[str, str]  # topology key and value


def entangled(snapshot: Snapshot) -> frozenset[str]:
    """UIDs of pods that an affinity term or a spread constraint of some pod selects."""
    selectors: set[tuple[str, LabelSelector]] = set()
    terms: set[PodAffinityTerm] = set()
    for pod in snapshot.pods:
        if not pod.finished:
            selectors.update((pod.namespace, selector) for selector in pod.spread_selectors)
            terms.update(pod.affinity_terms)
    if not selectors and not terms:
        return frozenset()
    alike = _Alike(snapshot.pods)
    found: set[str] = set()
    for namespace, selector in selectors:
        for group in alike.within((namespace,)):
            if matches_selector(selector, group[0].labels):
                found.update(pod.uid for pod in group)
    for term in terms:
        groups = alike.within(term.namespaces) if term.namespace_selector is None else alike.everywhere()
        for group in groups:
            if matches_pod_term(term, group[0], snapshot.namespace_labels):
                found.update(pod.uid for pod in group)
    return frozenset(found)


class _Alike:
    """Pods of one namespace with the same labels, in groups: a selector takes all of a group or none."""

    def __init__(self, pods: Iterable[Pod]) -> None:
        self._groups: dict[str, dict[tuple[tuple[str, str], ...], list[Pod]]] = defaultdict(dict)
        for pod in pods:
            self._groups[pod.namespace].setdefault(tuple(pod.labels.items()), []).append(pod)

    def within(self, namespaces: Iterable[str]) -> Iterator[list[Pod]]:
        """The groups of some namespaces."""
        for namespace in set(namespaces):
            yield from self._groups.get(namespace, {}).values()

    def everywhere(self) -> Iterator[list[Pod]]:
        """All groups."""
        for groups in self._groups.values():
            yield from groups.values()


class ClosedDomains:
    """Nodes that required anti-affinity of standing pods closes for the pods that it selects."""

    def __init__(self, snapshot: Snapshot, nodes: Mapping[str, Node]) -> None:
        """Collect the anti-affinity terms of every pod that stands on a node."""
        self._namespace_labels = snapshot.namespace_labels
        every = {node.name: node for node in snapshot.nodes}
        holders: dict[PodAffinityTerm, dict[_Domain, set[str]]] = {}
        for pod in snapshot.pods:
            where = every.get(pod.node or pod.nominated_node or "") if pod.anti_affinity_terms else None
            if where is None or pod.finished:
                continue
            for term in pod.anti_affinity_terms:
                value = where.labels.get(term.topology_key)
                if value is not None:
                    domain = term.topology_key, value
                    holders.setdefault(term, {}).setdefault(domain, set()).add(pod.uid)
        self._holders = holders  # by term and domain: UIDs of the pods that have the term and stand there
        self._in_domain = _names_by_domain(nodes.values(), {term.topology_key for term in holders})
        self._by_namespace: dict[str, list[PodAffinityTerm]] = defaultdict(list)
        self._by_selector: list[PodAffinityTerm] = []  # terms that select namespaces by their labels
        for term in holders:
            if term.namespace_selector is not None:
                self._by_selector.append(term)
            else:
                for namespace in set(term.namespaces):
                    self._by_namespace[namespace].append(term)

    def closed_nodes(self, pod: Pod) -> frozenset[str]:
        """Names of the nodes that some other pod's anti-affinity closes for `pod`."""
        closed: set[str] = set()
        for term in (*self._by_namespace.get(pod.namespace, ()), *self._by_selector):
            if not matches_pod_term(term, pod, self._namespace_labels):
                continue
            for domain, uids in self._holders[term].items():
                if len(uids) > 1 or pod.uid not in uids:
                    closed |= self._in_domain.get(domain, set())
        return frozenset(closed)


def _names_by_domain(nodes: Iterable[Node], keys: set[str]) -> Mapping[_Domain, set[str]]:
    """Names of nodes by topology key and value."""
    found: dict[_Domain, set[str]] = defaultdict(set)
    for node in nodes:
        for key in keys:
            value = node.labels.get(key)
            if value is not None:
                found[key, value].add(node.name)
    return found
