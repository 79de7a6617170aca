"""From pydantic's JSON schema to the structural schema that Kubernetes asks of a custom resource.

Differences that matter: no `$ref`, no `anyOf` with null (an optional field is one that is not required), maps
without key schemas, no `additionalProperties: false` (unknown fields are pruned, or refused by strict field
validation). Defaults of nested objects are written in full: the API server checks a default against the object's
validation rules before the defaults of its fields are there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

from stowage.api.fields import ADDED_LATER, MAX_INT32

Schema = dict[str, Any]

_KEPT: Final = (
    "description",
    "type",
    "format",
    "enum",
    "default",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "required",
    "properties",
    "items",
    "additionalProperties",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-validations",
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
)
_UNUSED: Final = {"title", "$defs", "patternProperties", "propertyNames", "readOnly", "anyOf", "$ref"}


class NotStructuralError(ValueError):
    """A model uses something that has no structural form; the message names model, field and what it was."""


def structural_schema(model: type[BaseModel]) -> Schema:
    """The structural schema of a model of a whole resource: metadata and the type's names are Kubernetes' own.

    Raises:
        NotStructuralError: a field has no structural form, such as a union of types.
    """
    document = model.model_json_schema(mode="serialization")
    document["properties"] = {name: document["properties"][name] for name in ("spec", "status")}
    schema = _convert(document, document.get("$defs", {}), model.__name__)
    parts = schema["properties"]
    schema["properties"] = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": parts["spec"],
        "status": _without_defaults(parts["status"]),
    }
    return schema


def _convert(source: Mapping[str, Any], definitions: Mapping[str, Any], where: str) -> Schema:
    merged = _resolved(source, definitions, where)
    if merged.pop(ADDED_LATER, False):
        merged = _default_in_code(merged)
    unknown = sorted(set(merged) - set(_KEPT) - _UNUSED)
    if unknown:
        raise NotStructuralError(f"{where}: {unknown[0]} = {merged[unknown[0]]!r} has no structural form")
    if merged.get("x-kubernetes-int-or-string"):
        merged.pop("type", None)  # either of the two
    elif "properties" in merged:
        merged = _converted_object(merged, definitions, where)
    elif merged.get("x-kubernetes-preserve-unknown-fields"):
        merged.pop("additionalProperties", None)  # whatever they are
    elif merged.get("type") == "object":
        merged = _converted_map(merged, definitions, where)
    elif merged.get("type") == "array":
        merged["items"] = _convert(merged["items"], definitions, f"{where}[]")
    elif merged.get("type") == "integer":
        merged["format"] = "int32" if _fits_int32(merged) else "int64"
    elif merged.get("type") not in {"string", "boolean"}:
        raise NotStructuralError(f"{where}: type {merged.get('type')!r} has no structural form")
    if "default" in merged:
        merged["default"] = _without_nulls(merged["default"])
    return {key: merged[key] for key in _KEPT if key in merged}


def _resolved(source: Mapping[str, Any], definitions: Mapping[str, Any], where: str) -> Schema:
    """`source` with references and the null of an optional field resolved; words beside a reference win."""
    merged = dict(source)
    if "anyOf" in merged:
        choices = [choice for choice in merged.pop("anyOf") if choice.get("type") != "null"]
        if len(choices) != 1:
            raise NotStructuralError(f"{where}: a union of {len(choices)} types has no structural form")
        merged = _over(choices[0], merged)
    while "$ref" in merged:
        name = merged.pop("$ref").removeprefix("#/$defs/")
        merged = _over(definitions[name], merged)
    if merged.get("default", 0) is None:
        del merged["default"]
    return merged


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> Schema:
    """Both schemas in one; validation rules add up, everything else is taken from `above` first."""
    rules = [*below.get("x-kubernetes-validations", ()), *above.get("x-kubernetes-validations", ())]
    merged = {**below, **above}
    if rules:
        merged["x-kubernetes-validations"] = rules
    return merged


def _converted_object(merged: Schema, definitions: Mapping[str, Any], where: str) -> Schema:
    derived = {name for name, part in merged["properties"].items() if part.get("readOnly")}
    properties = {name: _convert(part, definitions, f"{where}.{name}") for name, part in merged["properties"].items()}
    required = [name for name in merged.get("required", ()) if name not in derived]
    result = {key: value for key, value in merged.items() if key not in {"required", "additionalProperties"}}
    if isinstance(result.get("default"), Mapping):
        result["default"] = _known_default(result["default"], properties)
    return {**result, "properties": properties, **({"required": required} if required else {})}


def _default_in_code(merged: Schema) -> Schema:
    """A field whose default the API server does not fill in: its words tell it."""
    default = merged.pop("default")
    told = "the defaults of its fields" if isinstance(default, Mapping) else json.dumps(default).strip('"')
    return {**merged, "description": f"{merged['description']} Not filled in by the API server: absent means {told}."}


def _known_default(default: Mapping[str, Any], properties: Mapping[str, Schema]) -> Schema:
    """The default of an object, without what is no default of its fields; that of inner objects is their own."""
    return {
        name: properties[name]["default"] if isinstance(value, Mapping) else value
        for name, value in default.items()
        if "default" in properties[name]
    }


def _converted_map(merged: Schema, definitions: Mapping[str, Any], where: str) -> Schema:
    """A map: its key's length and pattern become validation rules, for structural schemas know only values."""
    keys = dict(merged.get("propertyNames", {}))
    values = merged.get("additionalProperties")
    for pattern, schema in merged.get("patternProperties", {}).items():
        keys["pattern"] = pattern
        values = schema
    if not isinstance(values, dict):
        raise NotStructuralError(f"{where}: a map needs a schema for its values")
    result = {**merged, "additionalProperties": _convert(values, definitions, f"{where}{{}}")}
    rules = []
    if "maxLength" in keys:
        rule = f"self.all(key, key.size() <= {keys['maxLength']})"
        rules.append({"rule": rule, "message": f"keys must have at most {keys['maxLength']} characters"})
    if "pattern" in keys:
        rule = f"self.all(key, key.matches('{keys['pattern']}'))"
        rules.append({"rule": rule, "message": f"keys must match {keys['pattern']}"})
    return _over(result, {"x-kubernetes-validations": rules}) if rules else result


def _fits_int32(schema: Mapping[str, Any]) -> bool:
    return int(schema.get("maximum", MAX_INT32 + 1)) <= MAX_INT32 and int(schema.get("minimum", 0)) >= -MAX_INT32 - 1


def _without_nulls(value: object) -> object:
    """`value` without the nulls of absent fields: an object's default is checked against the schema, rules included."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(part) for key, part in value.items() if part is not None}
    return value


def _without_defaults(schema: Schema) -> Schema:
    """A status holds what was observed: a default would claim something that nobody saw."""
    result = {key: value for key, value in schema.items() if key != "default"}
    if "properties" in result:
        result["properties"] = {name: _without_defaults(part) for name, part in result["properties"].items()}
    for key in ("items", "additionalProperties"):
        if key in result:
            result[key] = _without_defaults(result[key])
    return result
