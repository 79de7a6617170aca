"""Bounded kinds of fields: every string, number, list and map of a custom resource is one of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, StringConstraints
from pydantic.json_schema import JsonSchemaValue
from pydantic.types import Strict
from pydantic_core import CoreSchema, core_schema

MAX_COUNT: Final = 2**53 - 1
"""Largest whole number that is exact in JSON: the API server keeps bounds as floating point."""
MAX_INT32: Final = 2**31 - 1

_SUBDOMAIN: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
_LABEL: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_LABEL_KEY: Final = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
_LABEL_VALUE: Final = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"

ResourceName = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=_SUBDOMAIN)]
"""A name as nodes, pods and cluster-scoped resources have it (RFC 1123 subdomain)."""
NamespaceName = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=_LABEL)]
"""A name as namespaces have it (RFC 1123 label)."""
LabelKey = Annotated[str, StringConstraints(min_length=1, max_length=317, pattern=_LABEL_KEY)]
LabelValue = Annotated[str, StringConstraints(max_length=63, pattern=_LABEL_VALUE)]
GangName = Annotated[str, StringConstraints(min_length=1, max_length=317, pattern=_LABEL_KEY)]
"""A label value, or the name of a PodGroup with its resource: `podgroups.scheduling.k8s.io/ring`."""
Uid = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][-A-Za-z0-9_.:]*$")]
Identifier = Annotated[str, StringConstraints(min_length=1, max_length=16, pattern=r"^[a-z][a-z0-9]*$")]
"""Key of a step or slot within its plan: `s001`, `k001`."""
Digest = Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Za-z0-9]*$")]
Decimal = Annotated[str, StringConstraints(min_length=1, max_length=32, pattern=r"^-?[0-9]+(\.[0-9]+)?$")]
"""A number that is not whole, as text: floating point does not survive every JSON library."""
ReasonWord = Annotated[
    str, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
]
ManagerName = Annotated[str, StringConstraints(min_length=1, max_length=128)]

Integer = Annotated[int, Strict()]
"""A whole number: unlike pydantic's default, `"5"` and `5.0` are errors, as they are for the API server."""
Switch = Annotated[bool, Strict()]

MAX_MESSAGE: Final = 1024


def _shorten(value: object) -> object:
    if isinstance(value, str) and len(value) > MAX_MESSAGE:
        return value[: MAX_MESSAGE - 1] + "…"
    return value


Message = Annotated[str, BeforeValidator(_shorten), StringConstraints(max_length=MAX_MESSAGE)]
"""Words for people. A longer text is cut: a status that the API server refuses would help nobody."""


def cel(*rules: tuple[str, str]) -> dict[str, Any]:
    """`json_schema_extra` with validation rules: pairs of a CEL expression and the message when it is false."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in rules]}


ADDED_LATER: Final = "x-added-later"


@dataclass(frozen=True)
class AddedLater:
    """Annotation of a field of which only the code knows the default, because operators without the field are about.

    A default in the definition stands in every object that is read, and earlier operators refuse fields that they do
    not know: they would stop with the new definitions, until they are replaced themselves.
    """

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The schema, with a mark for `stowage.api.structural`."""
        return {**handler(schema), ADDED_LATER: True}


@dataclass(frozen=True)
class Unique:
    """Annotation of a list whose items differ: in their field `key`, or, without one, as they are.

    Held here for files and by the API server through the list's type (map or set).
    """

    key: str | None = None

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check after the items have been read."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The schema of the list with its Kubernetes list type."""
        if self.key is None:
            return {**handler(schema), "x-kubernetes-list-type": "set"}
        return {**handler(schema), "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [self.key]}

    def _check(self, items: tuple[object, ...]) -> tuple[object, ...]:
        seen: set[object] = set()
        for item in items:
            identity = item if self.key is None else getattr(item, self.key)
            if identity in seen:
                raise ValueError(f"{self.key or 'item'} {identity} must not occur twice")
            seen.add(identity)
        return items


ATOMIC: Final[dict[str, Any]] = {"x-kubernetes-list-type": "atomic"}

NodeLabels = Annotated[dict[LabelKey, LabelValue], Field(max_length=32)]
"""Labels that must all be there with these values."""
