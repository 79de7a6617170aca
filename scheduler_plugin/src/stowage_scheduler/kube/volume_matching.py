"""Which nodes can use a pod's volumes, as kube-scheduler 1.36 decides it (plugins VolumeBinding and VolumeZone)."""

from __future__ import annotations

from stowage_scheduler.cluster import Node, NodeSelectorTerm, VolumeNeeds
from stowage_scheduler.kube.matching import matches_terms
from stowage_scheduler.kube.volume_facts import ZONE_LABELS

_OLD, _NEW = "failure-domain.beta.kubernetes.io/", "topology.kubernetes.io/"
_MOST_TOLD = 3  # terms of one volume


def volumes_admit(needs: VolumeNeeds, node: Node) -> bool:
    """Whether all volumes can be used on a node. One that tells neither zone nor region is in every zone."""
    if not all(matches_terms(terms, node) for terms in needs.terms):
        return False
    if not needs.zones or not any(key in node.labels for key in ZONE_LABELS):
        return True
    return all(node.labels.get(key, node.labels.get(key.replace(_OLD, _NEW))) in values for key, values in needs.zones)


def describe_needs(needs: VolumeNeeds) -> str:
    """What volumes ask of a node, for people: `topology.kubernetes.io/zone=a`."""
    told = [" or ".join(_term(term) for term in terms[:_MOST_TOLD]) or "none" for terms in needs.terms]
    told += [f"{key}={'|'.join(values)}" for key, values in needs.zones]
    return ", ".join(dict.fromkeys(told))


def _term(term: NodeSelectorTerm) -> str:
    return " and ".join(
        f"{one.key}={'|'.join(one.values)}"
        if one.operator == "In"
        else f"{one.key} {one.operator} {','.join(one.values)}".rstrip()
        for one in (*term.expressions, *term.fields)
    )
