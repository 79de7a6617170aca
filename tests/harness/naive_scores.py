"""What kube-scheduler 1.36 scores, pod by pod and node by node, written apart from the product's own counting.

Plugins InterPodAffinity, PodTopologySpread (for constraints that pods have themselves) and ImageLocality, before
their scores are normalised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log

from stowage_scheduler.cluster import Node, Pod, PodAffinityTerm
from stowage_scheduler.images import listed_images
from stowage_scheduler.kube.matching import matches_node_affinity, matches_pod_term, matches_selector, tolerates_taints

_MB = 1024 * 1024


def company_score(
    pod: Pod, node: Node, standing: Sequence[tuple[Pod, Node]], namespaces: Mapping[str, Mapping[str, str]]
) -> int:
    """The raw score of InterPodAffinity: more is better."""

    def points(term: PodAffinityTerm, weight: int, whom: Pod, where: Node) -> int:
        key = term.topology_key
        same = key in node.labels and key in where.labels and node.labels[key] == where.labels[key]
        return weight if same and matches_pod_term(term, whom, namespaces) else 0

    found = 0
    for other, where in standing:
        found += sum(points(one.term, one.weight, other, where) for one in pod.preferred_pods)
        found += sum(points(one.term, one.weight, pod, where) for one in other.preferred_pods)
        found += sum(points(term, 1, pod, where) for term in other.affinity_terms)
    return found


def spread_score(pod: Pod, node: Node, nodes: Sequence[Node], standing: Sequence[tuple[Pod, Node]]) -> float:
    """The raw score of PodTopologySpread: less is better; infinite for a node that lacks a key."""
    keys = {one.topology_key for one in pod.preferred_spread}

    def counts(one: Node, *, affinity: bool, taints: bool) -> bool:
        if not keys <= one.labels.keys() or (affinity and not matches_node_affinity(pod, one)):
            return False
        return not taints or tolerates_taints(pod, one)

    if not keys <= node.labels.keys():
        return float("inf")
    found = 0.0
    for one in pod.preferred_spread:
        key = one.topology_key
        eligible = [n for n in nodes if counts(n, affinity=one.honors_affinity, taints=one.honors_taints)]
        weight = log(len({n.labels[key] for n in eligible}) + 2)
        empty = one.selector is not None and not one.selector.labels and not one.selector.expressions
        met = sum(
            other.namespace == pod.namespace
            and not other.terminating
            and not empty
            and matches_selector(one.selector, other.labels)
            for other, where in standing
            if where in eligible and where.labels[key] == node.labels[key]
        )
        found += met * weight + one.max_skew - 1
    return found


def image_score(pod: Pod, node: Node, nodes: Sequence[Node]) -> int:
    """The score of ImageLocality, 0 to 100: more is better."""
    total = 0
    held = {one.name: dict(zip(*(part.tolist() for part in listed_images(one.images)), strict=True)) for one in nodes}
    for image in pod.images:
        size = held[node.name].get(image, 0)
        having = sum(image in images for images in held.values())
        total += int(size * (having / len(nodes)))
    most = 1000 * _MB * len(pod.images)
    return 100 * (min(max(total, 23 * _MB), most) - 23 * _MB) // (most - 23 * _MB)
