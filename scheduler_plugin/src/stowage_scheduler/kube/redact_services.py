"""ModelServices cut down to what decisions are made from: no images, arguments, environment or words of programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from stowage_scheduler.kube.redacted_parts import POD_SPEC, Document, object_of, objects_of, only, without

LEFT_OUT: Final = "left-out"

_SPEC: Final = ("engine", "replicas", "ratio", "slo", "scaling", "metrics")
_ROLE: Final = ("name", "bounds", "warm")
_VARIANT: Final = ("name", "gpus", "costPerHour", "powerWatts", "profile", "max")
_WORDS: Final = frozenset({"message", "uri"})
"""Fields that may hold words of programs, or addresses with credentials in them."""


def redacted_service(document: Mapping[str, Any]) -> Document:
    """Spec and status of a ModelService, which can be read as one again; containers keep names and resources."""
    spec, status = object_of(document.get("spec")), object_of(document.get("status"))
    roles = [_role(one) for one in objects_of(spec.get("roles"))]
    model = _model(object_of(spec.get("model")))
    kept = {**only(spec, _SPEC), **({"model": model} if model else {}), "roles": roles}
    return {"spec": kept, "status": without(status, _WORDS)}


def _model(model: Document) -> Document:
    """Its name, and that its weights have an address: `warm.nodes` may not be without."""
    scheme, found, _ = str(model.get("uri") or "").partition("://")
    return {**only(model, ("name",)), **({"uri": f"{scheme}://{LEFT_OUT}"} if found else {})}


def _role(role: Document) -> Document:
    return {**only(role, _ROLE), "variants": [_variant(one) for one in objects_of(role.get("variants"))]}


def _variant(variant: Document) -> Document:
    found = {**only(variant, _VARIANT), "template": _template(variant.get("template"))}
    group = object_of(variant.get("group"))
    if group:
        found["group"] = only(group, ("size", "topology"))
        if "workers" in group:
            found["group"]["workers"] = _template(group["workers"])
    return found


def _template(template: object) -> Document:
    pod = object_of(object_of(template).get("spec"))
    containers = [only(one, ("name", "resources")) for one in objects_of(pod.get("containers"))]
    return {"spec": {**only(pod, POD_SPEC), "containers": containers}}
