"""Objects cut down to what packing reads, so that a dump carries no secrets, environment or commands."""

from __future__ import annotations

from typing import Any

import msgspec

from stowage_scheduler.kube.decode import DECODERS
from stowage_scheduler.kube.gpu_facts import INDEX_ANNOTATIONS
from stowage_scheduler.kube.image_facts import without_names
from stowage_scheduler.kube.known_kinds import (
    JOB_KIND,
    POLICY_GROUP,
    POLICY_KIND,
    PROFILE_KIND,
    SERVICE_KIND,
    decoded_as,
    is_needed,
)
from stowage_scheduler.kube.metadata import is_read_annotation
from stowage_scheduler.kube.pod_facts import MIRROR_ANNOTATION, SOURCE_ANNOTATION
from stowage_scheduler.kube.redact_jobs import redacted_job
from stowage_scheduler.kube.redact_services import redacted_service
from stowage_scheduler.kube.volume_facts import BOUND_ANNOTATION, CLASS_ANNOTATION, SELECTED_NODE_ANNOTATION
from stowage_scheduler.kube.workload_facts import REVISION_ANNOTATION

_READ_ELSEWHERE = INDEX_ANNOTATIONS | frozenset(
    {MIRROR_ANNOTATION, SOURCE_ANNOTATION, REVISION_ANNOTATION}
    | {BOUND_ANNOTATION, CLASS_ANNOTATION, SELECTED_NODE_ANNOTATION}
)
_POLICY_METADATA = frozenset({"name", "uid", "generation", "creationTimestamp", "labels", "resourceVersion"})
_JOB_METADATA = _POLICY_METADATA | {"namespace"}


def redact(document: dict[str, Any]) -> dict[str, Any]:
    """A Kubernetes object, or a List of them, with only the fields that Stowage reads.

    Reading the result gives the same facts as reading `document`. From a List, kinds that Stowage does not
    read are left out. An object that can not be read keeps its kind and name only.
    """
    kind = document.get("kind")
    items = document.get("items")
    if not isinstance(kind, str) or not kind.endswith("List") or not isinstance(items, list):
        return _redacted(document) or _named(document)
    own = {} if kind == "List" else {"apiVersion": document.get("apiVersion"), "kind": kind.removesuffix("List")}
    redacted = (_redacted({**own, **item}) for item in items if isinstance(item, dict))
    return {
        "apiVersion": document.get("apiVersion"),
        "kind": kind,
        "items": [item for item in redacted if item is not None],
    }


def _redacted(document: dict[str, Any]) -> dict[str, Any] | None:
    """One object, None if Stowage does not read its kind."""
    kind, version = document.get("kind"), document.get("apiVersion")
    group = version.rpartition("/")[0] if isinstance(version, str) else None
    if not isinstance(kind, str):
        return None
    head = {"apiVersion": version, "kind": kind}
    if kind == POLICY_KIND:
        return {**head, "metadata": _kept(document.get("metadata"), _POLICY_METADATA), "spec": document.get("spec")}
    if (group, kind) == (POLICY_GROUP, JOB_KIND):
        return {**head, "metadata": _kept(document.get("metadata"), _JOB_METADATA), **redacted_job(document)}
    if (group, kind) == (POLICY_GROUP, SERVICE_KIND):
        return {**head, "metadata": _kept(document.get("metadata"), _JOB_METADATA), **redacted_service(document)}
    if (group, kind) == (POLICY_GROUP, PROFILE_KIND):
        return {**head, "metadata": _kept(document.get("metadata"), _POLICY_METADATA), "spec": document.get("spec")}
    if not is_needed(group, kind):
        return None
    try:
        read: dict[str, Any] = msgspec.to_builtins(msgspec.convert(document, DECODERS[decoded_as(group, kind)].type))
    except msgspec.ValidationError:
        return _named(document)
    without_names(kind, read)
    annotations = read["metadata"].pop("annotations", {})
    kept = {key: value for key, value in annotations.items() if is_read_annotation(key) or key in _READ_ELSEWHERE}
    if kept:
        read["metadata"]["annotations"] = kept
    return {**head, **read}


def _named(document: dict[str, Any]) -> dict[str, Any]:
    """Only what tells which object it was."""
    names = _kept(document.get("metadata"), frozenset({"name", "namespace"}))
    return {"apiVersion": document.get("apiVersion"), "kind": document.get("kind"), "metadata": names}


def _kept(metadata: object, keys: frozenset[str]) -> dict[str, Any]:
    return {key: value for key, value in metadata.items() if key in keys} if isinstance(metadata, dict) else {}
