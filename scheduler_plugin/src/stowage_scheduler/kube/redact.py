"""Objects cut down to what packing reads, so that a dump carries no secrets, environment or commands."""

from __future__ import annotations

from typing import Any

import msgspec

from stowage_scheduler.kube.decode import DECODERS
from stowage_scheduler.kube.known_kinds import POLICY_KIND, is_needed
from stowage_scheduler.kube.metadata import is_read_annotation
from stowage_scheduler.kube.pod_facts import MIRROR_ANNOTATION, SOURCE_ANNOTATION
from stowage_scheduler.kube.workload_facts import REVISION_ANNOTATION

_READ_ELSEWHERE = frozenset({MIRROR_ANNOTATION, SOURCE_ANNOTATION, REVISION_ANNOTATION})
_POLICY_METADATA = frozenset({"name", "uid", "generation", "creationTimestamp", "labels", "resourceVersion"})


def redact(document: dict[str, Any]) -> dict[str, Any] | None:
    """A Kubernetes object with only the fields that Stowage reads; None for kinds that it does not read.

    Reading the result gives the same facts as reading `document`. A List is redacted item by item.
    An object that can not be read keeps its kind and name only.
    """
    kind, version = document.get("kind"), document.get("apiVersion")
    if not isinstance(kind, str):
        return None
    head = {"apiVersion": version, "kind": kind}
    if kind.endswith("List") and isinstance(document.get("items"), list):
        item_kind = {"apiVersion": version, "kind": kind.removesuffix("List")} if kind != "List" else {}
        redacted = (redact({**item_kind, **item}) for item in document["items"] if isinstance(item, dict))
        return {**head, "items": [item for item in redacted if item is not None]}
    if kind == POLICY_KIND:
        return {**head, "metadata": _kept(document.get("metadata"), _POLICY_METADATA), "spec": document.get("spec")}
    if not is_needed(version.rpartition("/")[0] if isinstance(version, str) else None, kind):
        return None
    try:
        read = msgspec.to_builtins(msgspec.convert(document, DECODERS[kind].type))
    except msgspec.ValidationError:
        return {**head, "metadata": _kept(document.get("metadata"), frozenset({"name", "namespace"}))}
    annotations = read["metadata"].pop("annotations", {})
    kept = {key: value for key, value in annotations.items() if is_read_annotation(key) or key in _READ_ELSEWHERE}
    if kept:
        read["metadata"]["annotations"] = kept
    return {**head, **read}


def _kept(metadata: object, keys: frozenset[str]) -> dict[str, Any]:
    return {key: value for key, value in metadata.items() if key in keys} if isinstance(metadata, dict) else {}
