"""Rules of a pod about other pods, as facts: terms of affinity and anti-affinity, topology spread."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from stowage_scheduler.cluster import LabelSelector, PodAffinityTerm, SpreadConstraint, WeightedPodTerm
from stowage_scheduler.kube import objects
from stowage_scheduler.kube.malformed import FieldError
from stowage_scheduler.kube.metadata import label_selector

MAX_WEIGHT = 100
"""Largest weight of a preferred term."""


def required_terms(affinity: objects.PodAffinity | None, namespace: str) -> tuple[PodAffinityTerm, ...]:
    """Required terms."""
    return _terms(affinity.required, namespace) if affinity is not None and affinity.required else ()


def preferred_terms(affinity: objects.Affinity, namespace: str) -> tuple[WeightedPodTerm, ...]:
    """Preferred terms, those of anti-affinity with a negative weight."""
    return (*_weighted(affinity.pod_affinity, namespace, 1), *_weighted(affinity.pod_anti_affinity, namespace, -1))


def checked_weight(weight: int) -> int:
    """The weight of a preferred term.

    Raises:
        FieldError: if the API server would refuse it.
    """
    if not 1 <= weight <= MAX_WEIGHT:
        raise FieldError("spec.affinity", weight, f"the weight of a preferred term must be 1 to {MAX_WEIGHT}")
    return weight


def _weighted(affinity: objects.PodAffinity | None, namespace: str, sign: int) -> Iterator[WeightedPodTerm]:
    for one in (affinity.preferred if affinity is not None else None) or ():
        (term,) = _terms((one.pod_affinity_term,), namespace)
        yield WeightedPodTerm(sign * checked_weight(one.weight), term)


def _terms(terms: Iterable[objects.PodAffinityTerm], namespace: str) -> tuple[PodAffinityTerm, ...]:
    """Terms with their namespaces: the pod's own where the term names and selects none."""
    return tuple(
        PodAffinityTerm(
            topology_key=term.topology_key,
            selector=label_selector(term.label_selector),
            namespaces=term.namespaces or (() if term.namespace_selector is not None else (namespace,)),
            namespace_selector=label_selector(term.namespace_selector),
        )
        for term in terms
    )


def spread_constraints(spec: objects.PodSpec, labels: Mapping[str, str], action: str) -> Iterator[SpreadConstraint]:
    """Constraints with this `whenUnsatisfiable`; one that counts with its own labels says so by `matchLabelKeys`."""
    for constraint in spec.topology_spread_constraints or ():
        if constraint.when_unsatisfiable != action:
            continue
        selector = label_selector(constraint.label_selector)
        own = {(key, labels[key]) for key in constraint.match_label_keys or () if key in labels}
        if selector is not None and own:
            selector = LabelSelector(tuple(sorted({*selector.labels, *own})), selector.expressions)
        yield SpreadConstraint(
            topology_key=constraint.topology_key,
            max_skew=1 if constraint.max_skew is None else constraint.max_skew,
            selector=selector,
            min_domains=1 if constraint.min_domains is None else constraint.min_domains,
            honors_affinity=constraint.node_affinity_policy != "Ignore",
            honors_taints=constraint.node_taints_policy == "Honor",
        )
