"""Questions as the API server asks them."""

from __future__ import annotations

import copy
from typing import Any

from stowage.admission.review import Kind, Operation, Request

Document = dict[str, Any]


def request(new: Document | None, old: Document | None = None, **fields: Any) -> Request:
    """A question about an object: created without `old`, else changed."""
    whole = new or old or {}
    usual = {
        "uid": "question-1",
        "kind": Kind("stowage.dev", "v1alpha1", whole["kind"]),
        "operation": Operation.CREATE if old is None else Operation.UPDATE,
        "name": whole["metadata"].get("name", ""),
        "object": new,
        "old_object": old,
    }
    return Request(**{**usual, **fields})


def policy(name: str = "gpu", *, status: Document | None = None, **spec: Any) -> Document:
    metadata = {"name": name, "uid": f"{name}-uid", "creationTimestamp": "2027-01-01T00:00:00Z", "generation": 1}
    document = {"apiVersion": "stowage.dev/v1alpha1", "kind": "PackingPolicy", "metadata": metadata, "spec": spec}
    return document | ({"status": status} if status else {})


def step(number: int, **fields: Any) -> Document:
    pod = {"namespace": "team", "name": f"pod-{number}", "uid": f"uid-{number}"}
    return {"id": f"s{number:03}", "action": "Evict", "pod": pod, "node": "n1", **fields}


def slot(number: int, **fields: Any) -> Document:
    return {"id": f"k{number:03}", "class": {"controllerUid": "rs-1", "requests": "0"}, "node": "n2", **fields}


def plan(*parts: Document, status: Document | None = None, metadata: Document | None = None, **spec: Any) -> Document:
    """A plan of steps and slots for the policy `gpu`, not yet approved."""
    whole = {
        "policy": "gpu",
        "approval": "Pending",
        "slots": [one for one in parts if one["id"].startswith("k")],
        "steps": [one for one in parts if one["id"].startswith("s")],
        **spec,
    }
    return {
        "apiVersion": "stowage.dev/v1alpha1",
        "kind": "PackingPlan",
        "metadata": {"name": "gpu-1", "uid": "plan-uid", **(metadata or {})},
        "spec": whole,
        **({"status": status} if status else {}),
    }


def changed(document: Document, **spec: Any) -> Document:
    """The same object with other fields in its spec."""
    other = copy.deepcopy(document)
    other["spec"] |= spec
    return other
