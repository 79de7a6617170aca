"""Parts of other resources that are handed on as they are: their kind's own API server code checks what is in them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

UNKNOWN_KEPT: Final[dict[str, Any]] = {"x-kubernetes-preserve-unknown-fields": True}
"""`json_schema_extra` of an object whose other fields are kept as they are written."""


@dataclass(frozen=True)
class AtMostBytes:
    """Annotation of a field that holds JSON values: the text of it may have so many bytes.

    No schema can say that of an object whose fields it does not know: it is held here, and by the webhook.
    """

    most: int

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check what was written, before anything is read from it."""
        return core_schema.no_info_before_validator_function(self._check, handler(source))

    def _check(self, value: object) -> object:
        if isinstance(value, dict):
            size = size_bytes(value)
            if size > self.most:
                raise ValueError(f"must have at most {self.most} bytes as JSON; it has {size}")
        return value


Shape = type | Mapping[str, "Shape"] | tuple["Shape"]
"""Of a JSON value: a type, an object by the fields that matter, or a list of one shape. Null is of any shape, but no
object of a list."""

_WORDS: Final[Mapping[type, str]] = {int: "a whole number", str: "a text", dict: "an object", list: "a list"}


def misshapen(value: object, shape: Shape, path: str) -> Iterator[str]:
    """What is not of the shape that our code reads, one sentence each; fields that the shape does not name are free.

    Args:
        value: as it was written.
        shape: to have.
        path: of the value, for people.
    """
    if value is None:
        return
    kind = shape if isinstance(shape, type) else dict if isinstance(shape, Mapping) else list
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        yield f"{path} must be {_WORDS[kind]}"
    elif isinstance(shape, tuple) and isinstance(value, list):
        for number, one in enumerate(value):
            if one is None:
                yield f"{path}[{number}] must not be null"
            yield from misshapen(one, shape[0], f"{path}[{number}]")
    elif isinstance(shape, Mapping) and isinstance(value, dict):
        for field, of_field in shape.items():
            yield from misshapen(value.get(field), of_field, f"{path}.{field}" if path else field)


def size_bytes(value: dict[str, Any]) -> int:
    """Bytes of `value` as JSON without spaces, in UTF-8; values that are no JSON count as their text does."""
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str).encode(errors="replace"))


_ONE_KIND: Final = {"minProperties": 1, "maxProperties": 1, **UNKNOWN_KEPT}

VolumeSource = Annotated[
    dict[str, Any], Field(min_length=1, max_length=1, json_schema_extra=_ONE_KIND), AtMostBytes(16 * 1024)
]
"""The source of a volume as pods have it, such as `persistentVolumeClaim: {claimName: NAME}`: exactly one."""
