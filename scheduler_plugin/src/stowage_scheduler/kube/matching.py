"""Which pods and nodes match which selectors, tolerations and ports, as kube-scheduler 1.36 decides it.

An expression that Kubernetes would refuse to parse (wrong number of values, a malformed key or value, an
unknown operator) makes its whole selector or term match nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from stowage_scheduler.cluster import (
    Effect,
    HostPort,
    LabelSelector,
    Node,
    NodeSelectorTerm,
    Pod,
    PodAffinityTerm,
    Requirement,
    Taint,
    Toleration,
)

UNSCHEDULABLE_TAINT = Taint("node.kubernetes.io/unschedulable", Effect.NO_SCHEDULE)
"""What `spec.unschedulable` of a node counts as."""

ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - Kubernetes' wildcard, nothing is bound here
NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"

_NAME_FIELD = "metadata.name"
_SELECTOR_OPERATORS = frozenset({"In", "NotIn", "Exists", "DoesNotExist"})
_INTEGER = re.compile(r"[+-]?[0-9]{1,63}")
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_LABEL_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_PREFIX = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_LONGEST_PREFIX = 253


def matches_selector(selector: LabelSelector | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector selects an object with these labels.

    None selects nothing, an empty selector everything; NotIn and DoesNotExist match absent keys
    (`metav1.LabelSelectorAsSelector`).
    """
    if selector is None or not _parses(selector):
        return False
    return all(labels.get(key) == value for key, value in selector.labels) and all(
        _matches(requirement, labels) for requirement in selector.expressions
    )


def demanded_labels(selector: LabelSelector | None) -> tuple[tuple[str, str], ...]:
    """Labels that every object has which a selector selects; for finding those objects without a look at all."""
    if selector is None:
        return ()
    single = (one for one in selector.expressions if one.operator == "In" and len(one.values) == 1)
    return (*selector.labels, *((one.key, one.values[0]) for one in single))


def matches_node_affinity(pod: Pod, node: Node) -> bool:
    """Whether the pod's node selector and required node affinity admit the node (plugin NodeAffinity)."""
    if not all(node.labels.get(key) == value for key, value in pod.node_selector.items()):
        return False
    return pod.node_affinity is None or matches_terms(pod.node_affinity, node)


def matches_terms(terms: Iterable[NodeSelectorTerm], node: Node) -> bool:
    """Whether one of several node selector terms matches the node."""
    return any(_matches_term(term, node) for term in terms)


def disliked(pod: Pod, node: Node) -> int:
    """The weight of a pod's soft rules about nodes that a node does not meet.

    Preferred node affinity counts its own weight, an untolerated taint PreferNoSchedule as much as the largest (100).
    kube-scheduler normalises both to the same range (plugins NodeAffinity and TaintToleration).
    """
    missed = sum(one.weight for one in pod.preferred_nodes if not _matches_term(one.term, node))
    soft = (taint for taint in node.taints if taint.effect is Effect.PREFER_NO_SCHEDULE)
    return missed + 100 * sum(not any(tolerates(one, taint) for one in pod.tolerations) for taint in soft)


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """Whether one toleration covers one taint.

    The numeric operators Gt and Lt cover nothing: their feature gate is off by default in 1.36.
    """
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    if toleration.operator == "Exists":
        return True
    return toleration.operator in {"", "Equal"} and toleration.value == taint.value


def untolerated_taint(pod: Pod, node: Node) -> Taint | None:
    """The first NoSchedule or NoExecute taint of the node that the pod does not tolerate, if any.

    A cordoned node has the taint `node.kubernetes.io/unschedulable` as well, seen or not (plugins
    TaintToleration and NodeUnschedulable).
    """
    return _first_untolerated(pod, (UNSCHEDULABLE_TAINT, *node.taints) if node.unschedulable else node.taints)


def _first_untolerated(pod: Pod, taints: Iterable[Taint]) -> Taint | None:
    for taint in taints:
        if taint.effect is Effect.PREFER_NO_SCHEDULE:
            continue
        if not any(tolerates(toleration, taint) for toleration in pod.tolerations):
            return taint
    return None


def tolerates_taints(pod: Pod, node: Node) -> bool:
    """Whether the pod tolerates every hard taint that is written on the node; a cordon alone is none."""
    return _first_untolerated(pod, node.taints) is None


def tolerates_node(pod: Pod, node: Node) -> bool:
    """Whether the pod tolerates every hard taint of the node, cordoning included."""
    return untolerated_taint(pod, node) is None


def port_conflict(wanted: Iterable[HostPort], taken: Iterable[HostPort]) -> HostPort | None:
    """The first wanted host port that can not be had beside the taken ones, if any (plugin NodePorts).

    The address 0.0.0.0 takes the port on every address.
    """
    held = tuple(taken)
    for port in wanted:
        for other in held:
            if port.port == other.port and port.protocol == other.protocol and _addresses_meet(port.ip, other.ip):
                return port
    return None


def matches_pod_term(term: PodAffinityTerm, pod: Pod, namespace_labels: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether a pod (anti-)affinity term speaks of this pod (plugin InterPodAffinity).

    `namespace_labels` gives the labels of each namespace by name; a namespace that is not there has
    only the name label that the API server sets.
    """
    if pod.namespace not in term.namespaces:
        if term.namespace_selector is None:
            return False
        labels = namespace_labels.get(pod.namespace) or {NAMESPACE_NAME_LABEL: pod.namespace}
        if not matches_selector(term.namespace_selector, labels):
            return False
    return matches_selector(term.selector, pod.labels)


def _addresses_meet(first: str, second: str) -> bool:
    return first == second or ANY_ADDRESS in {first, second}


def _matches_term(term: NodeSelectorTerm, node: Node) -> bool:
    if not term.expressions and not term.fields:
        return False
    if not all(_well_formed(requirement) for requirement in term.expressions):
        return False
    if not all(_well_formed_field(requirement) for requirement in term.fields):
        return False
    return all(_matches(requirement, node.labels) for requirement in term.expressions) and all(
        _matches_field(requirement, node.name) for requirement in term.fields
    )


def _matches(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value is not None and value in requirement.values
        case "NotIn":
            return value is None or value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case operator:
            mine = None if value is None else _int64(value)
            bound = _int64(requirement.values[0])
            if mine is None or bound is None:
                return False
            return mine > bound if operator == "Gt" else mine < bound


def _matches_field(requirement: Requirement, node_name: str) -> bool:
    value = node_name if requirement.key == _NAME_FIELD else ""
    return (value == requirement.values[0]) == (requirement.operator == "In")


@lru_cache(maxsize=4096)
def _parses(selector: LabelSelector) -> bool:
    return all(is_label_key(key) and _valid_value(value) for key, value in selector.labels) and all(
        requirement.operator in _SELECTOR_OPERATORS and _well_formed(requirement)
        for requirement in selector.expressions
    )


@lru_cache(maxsize=4096)
def _well_formed(requirement: Requirement) -> bool:
    values = requirement.values
    match requirement.operator:
        case "In" | "NotIn":
            counted = len(values) > 0
        case "Exists" | "DoesNotExist":
            counted = not values
        case "Gt" | "Lt":
            counted = len(values) == 1 and _int64(values[0]) is not None
        case _:
            counted = False
    return counted and is_label_key(requirement.key) and all(_valid_value(value) for value in values)


def _well_formed_field(requirement: Requirement) -> bool:
    return requirement.operator in {"In", "NotIn"} and len(requirement.values) == 1


def is_label_key(key: str) -> bool:
    """Whether a text can be the key of a label."""
    prefix, slash, name = key.rpartition("/")
    if slash and (len(prefix) > _LONGEST_PREFIX or _LABEL_PREFIX.fullmatch(prefix) is None):
        return False
    return _LABEL_NAME.fullmatch(name) is not None


def _valid_value(value: str) -> bool:
    return _LABEL_VALUE.fullmatch(value) is not None


def _int64(text: str) -> int | None:
    """The number that Go's `strconv.ParseInt(text, 10, 64)` reads, None where it would refuse."""
    if _INTEGER.fullmatch(text) is None:
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None
