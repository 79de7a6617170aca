"""Rules between pods for one pod and one node: what kube-scheduler 1.36 asks when it looks at the node.

Plugins InterPodAffinity and PodTopologySpread.
"""

from __future__ import annotations

from stowage_scheduler.cluster import Node, Pod
from stowage_scheduler.kube.matching import matches_selector
from stowage_scheduler.kube.standing import Standing
from stowage_scheduler.packing import Reason


def refuses(pod: Pod, node: Node, standing: Standing) -> Reason | None:
    """The first rule between pods that keeps a pod from a node where others stand."""
    if not affinity_admits(pod, node, standing):
        return Reason.POD_AFFINITY
    if not anti_affinity_admits(pod, node, standing):
        return Reason.POD_ANTI_AFFINITY
    return None if spread_admits(pod, node, standing) else Reason.TOPOLOGY_SPREAD


def affinity_admits(pod: Pod, node: Node, standing: Standing) -> bool:
    """Whether each required affinity term of the pod finds its company in the domain of the node.

    Company are other pods that match all terms. The first of pods that want to be together may go anywhere: there is
    no company anywhere, and it matches its own terms.
    """
    terms = pod.affinity_terms
    if not terms:
        return True
    if any(term.topology_key not in node.labels for term in terms):
        return False
    company = standing.matched_by_all(pod, terms)
    if all(company[term.topology_key, node.labels[term.topology_key]] > 0 for term in terms):
        return True
    return not company and standing.matches_all(terms, pod)


def anti_affinity_admits(pod: Pod, node: Node, standing: Standing) -> bool:
    """Whether neither the pod's required anti-affinity nor that of another pod keeps it from the node."""
    for term in pod.anti_affinity_terms:
        value = node.labels.get(term.topology_key)
        if value is not None and standing.matched_by_all(pod, (term,))[term.topology_key, value] > 0:
            return False
    return all(node.labels.get(key) != value for key, value in standing.closing(pod))


def spread_admits(pod: Pod, node: Node, standing: Standing) -> bool:
    """Whether every spread constraint of the pod holds with the pod on the node."""
    if any(constraint.topology_key not in node.labels for constraint in pod.spread):
        return False
    if not pod.spread:
        return True
    for constraint, counts in zip(pod.spread, standing.spread_of(pod), strict=True):
        least = min(counts.values()) if counts and len(counts) >= constraint.min_domains else 0
        here = counts.get(node.labels[constraint.topology_key], 0)
        if here + matches_selector(constraint.selector, pod.labels) - least > constraint.max_skew:
            return False
    return True
