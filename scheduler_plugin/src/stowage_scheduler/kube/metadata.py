"""Checks and conversions of what all objects have: names, labels, owners, conditions, times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache

from stowage_scheduler.cluster import LabelSelector, OwnerRef, Requirement
from stowage_scheduler.kube import objects
from stowage_scheduler.kube.malformed import FieldError
from stowage_scheduler.kube.sharing import REMEMBERED, Memo

LONGEST_NAME = 253
LONGEST_LABEL_KEY = 317
LONGEST_LABEL_VALUE = 63
LONGEST_ANNOTATION = 4096
"""Most characters of an annotation that Stowage reads."""

DEFAULT_NAMESPACE = "default"
NO_NAME = "(no name)"

_CLUSTER_SCOPED = frozenset({"Node", "Namespace", "PriorityClass", "PackingPolicy"}) | frozenset(
    {"PersistentVolume", "StorageClass", "CSINode", "CSIDriver"}
)
_READ_PREFIX = "stowage.dev/"
_READ_ANNOTATIONS = frozenset({"karpenter.sh/do-not-disrupt", "cluster-autoscaler.kubernetes.io/safe-to-evict"})
_NO_LABELS: Mapping[str, str] = {}
_checked: Memo[Mapping[str, str]] = Memo()


def checked_name(name: str | None, where: str) -> str:
    """A name that can be shown and sorted.

    Raises:
        FieldError: if it is missing, too long, or has characters that no Kubernetes name has.
    """
    if not name or len(name) > LONGEST_NAME:
        raise FieldError(where, name or "", f"it must have 1 to {LONGEST_NAME} characters")
    if not name.isprintable() or " " in name or "/" in name:
        raise FieldError(where, name, "it must have no spaces, slashes or control characters")
    return name


def name_of(metadata: objects.ObjectMeta) -> str:
    """The name of an object, checked."""
    return checked_name(metadata.name, "metadata.name")


def namespace_of(metadata: objects.ObjectMeta) -> str:
    """The namespace of a namespaced object, checked; `default` where people left it out."""
    return checked_name(metadata.namespace or DEFAULT_NAMESPACE, "metadata.namespace")


def full_name(kind: str, namespace: str | None, name: str | None) -> str:
    """What to call an object that may be broken: `namespace/name`, the name alone for cluster-scoped kinds."""
    if not name or kind in _CLUSTER_SCOPED:
        return name or NO_NAME
    return f"{namespace or DEFAULT_NAMESPACE}/{name}"


def uid_of(metadata: objects.ObjectMeta, otherwise: str) -> str:
    """The UID; objects written by people may have none, then `otherwise`, which must be as unique."""
    return checked_name(metadata.uid, "metadata.uid") if metadata.uid else otherwise


def workload_uid(kind: str, namespace: str, name: str) -> str:
    """What stands for the UID of a controller that has none."""
    return f"{kind}/{namespace}/{name}"


def owner_of(metadata: objects.ObjectMeta, namespace: str) -> OwnerRef | None:
    """The controller that owns an object, if any; the same object for all that it owns."""
    references = metadata.owner_references
    return _controller(references, namespace) if references else None


@lru_cache(maxsize=REMEMBERED)
def _controller(references: tuple[objects.OwnerReference, ...], namespace: str) -> OwnerRef | None:
    for reference in references:
        if reference.controller:
            name = checked_name(reference.name, "metadata.ownerReferences[].name")
            kind = checked_name(reference.kind, "metadata.ownerReferences[].kind")
            uid = reference.uid or workload_uid(kind, namespace, name)
            if len(uid) > 2 * LONGEST_NAME + LONGEST_LABEL_VALUE:
                raise FieldError("metadata.ownerReferences[].uid", uid, "it must be a UID")
            return OwnerRef(kind, name, uid)
    return None


def checked_labels(labels: objects.Labels | None, where: str = "metadata.labels") -> Mapping[str, str]:
    """Labels of a size that Kubernetes accepts; equal ones are one object.

    Raises:
        FieldError: if a key or a value is too long.
    """
    if not labels:
        return _NO_LABELS
    return _checked.of(tuple(labels.items()), lambda: _within_bounds(labels, where))


def _within_bounds(labels: objects.Labels, where: str) -> Mapping[str, str]:
    for key, value in labels.items():
        if len(key) > LONGEST_LABEL_KEY:
            raise FieldError(where, key, f"a key must have at most {LONGEST_LABEL_KEY} characters")
        if len(value) > LONGEST_LABEL_VALUE:
            raise FieldError(f"{where}[{key}]", value, f"it must have at most {LONGEST_LABEL_VALUE} characters")
    return labels


def is_read_annotation(key: str) -> bool:
    """Whether packing reads an annotation of a pod of this name."""
    return key in _READ_ANNOTATIONS or key.startswith(_READ_PREFIX)


def read_annotations(annotations: objects.Labels | None) -> Mapping[str, str]:
    """Only the annotations that Stowage reads.

    One that is too long says nothing that Stowage understands. It is passed over, not refused: a pod that is
    refused closes its node, which who may annotate pods must not be able to do.
    """
    if not annotations:
        return _NO_LABELS
    return {
        key: value for key, value in annotations.items() if is_read_annotation(key) and len(value) <= LONGEST_ANNOTATION
    }


def label_selector(selector: objects.LabelSelector | None) -> LabelSelector | None:
    """A label selector as a fact; its labels are sorted, for their order carries no meaning."""
    if selector is None:
        return None
    return LabelSelector(tuple(sorted((selector.match_labels or {}).items())), requirements(selector.match_expressions))


def requirements(expressions: Iterable[objects.LabelExpression] | None) -> tuple[Requirement, ...]:
    """Expressions of a selector or of a node selector term as facts."""
    return tuple(Requirement(e.key, e.operator, e.values or ()) for e in expressions or ())


def condition(conditions: Iterable[objects.Condition] | None, kind: str) -> objects.Condition | None:
    """The condition of a type, if the object has it."""
    return next((entry for entry in conditions or () if entry.type == kind), None)


def seconds(time: datetime | None) -> float | None:
    """Seconds since the epoch."""
    return None if time is None else time.timestamp()
