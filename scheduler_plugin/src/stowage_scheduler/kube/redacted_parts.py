"""Parts of stored objects that stay when an object is cut down: of documents in which anything may be anything."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

Document = dict[str, Any]

POD_SPEC: Final = ("nodeSelector", "schedulerName", "priorityClassName", "terminationGracePeriodSeconds")
"""Fields of a template's pods that decisions are made from, its containers aside."""


def only(part: Mapping[str, Any], keys: tuple[str, ...]) -> Document:
    """Those fields of a part that it has."""
    return {key: part[key] for key in keys if key in part}


def object_of(value: object) -> Document:
    """The value where it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def objects_of(value: object) -> list[Document]:
    """The objects among the items of a list; none where it is no list."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def without(value: Any, names: Collection[str]) -> Any:  # noqa: ANN401 - any value of JSON
    """The value without the fields of these names, at any depth."""
    if isinstance(value, dict):
        return {key: without(part, names) for key, part in value.items() if key not in names}
    return [without(part, names) for part in value] if isinstance(value, list) else value
