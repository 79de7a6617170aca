"""ModelServices cut down to what decisions are made from: no images, arguments, environment or words of programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_SPEC: Final = ("engine", "replicas", "ratio", "slo", "scaling", "metrics")
_ROLE: Final = ("name", "bounds", "warm")
_VARIANT: Final = ("name", "gpus", "costPerHour", "powerWatts", "profile", "max")
_POD_SPEC: Final = ("nodeSelector", "schedulerName", "priorityClassName", "terminationGracePeriodSeconds")
_WORDS: Final = frozenset({"message", "uri"})
"""Fields that may hold words of programs, or addresses with credentials in them."""

Document = dict[str, Any]


def redacted_service(document: Mapping[str, Any]) -> Document:
    """Spec and status of a ModelService, which can be read as one again; containers keep names and resources."""
    spec, status = _object(document.get("spec")), _object(document.get("status"))
    roles = [_role(one) for one in _objects(spec.get("roles"))]
    model = _kept(_object(spec.get("model")), ("name",))
    kept = {**_kept(spec, _SPEC), **({"model": model} if model else {}), "roles": roles}
    return {"spec": kept, "status": _without_words(status)}


def _role(role: Document) -> Document:
    return {**_kept(role, _ROLE), "variants": [_variant(one) for one in _objects(role.get("variants"))]}


def _variant(variant: Document) -> Document:
    found = {**_kept(variant, _VARIANT), "template": _template(variant.get("template"))}
    group = _object(variant.get("group"))
    if group:
        found["group"] = _kept(group, ("size", "topology"))
        if "workers" in group:
            found["group"]["workers"] = _template(group["workers"])
    return found


def _template(template: object) -> Document:
    pod = _object(_object(template).get("spec"))
    containers = [_kept(one, ("name", "resources")) for one in _objects(pod.get("containers"))]
    return {"spec": {**_kept(pod, _POD_SPEC), "containers": containers}}


def _without_words(value: Any) -> Any:  # noqa: ANN401 - any value of JSON
    if isinstance(value, dict):
        return {key: _without_words(part) for key, part in value.items() if key not in _WORDS}
    return [_without_words(part) for part in value] if isinstance(value, list) else value


def _kept(part: Mapping[str, Any], keys: tuple[str, ...]) -> Document:
    return {key: part[key] for key in keys if key in part}


def _object(value: object) -> Document:
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> list[Document]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
