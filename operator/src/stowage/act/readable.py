"""Custom resources as listed: those that can be read, and a word about each of the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from stowage.api.resource import InvalidObjectError

MOST_REMEMBERED = 1000

logger = logging.getLogger(__name__)
_told: dict[tuple[str, str], str] = {}  # by kind and name: the version that was spoken of
_Read = TypeVar("_Read")


def readable(items: Sequence[Mapping[str, Any]], parse: Callable[[Mapping[str, Any]], _Read]) -> tuple[_Read, ...]:
    """The items that can be read; the others are logged, each version once, and left out."""
    found = []
    for item in items:
        try:
            found.append(parse(item))
        except InvalidObjectError as error:
            tell_once(item, error)
    return tuple(found)


def tell_once(item: Mapping[str, Any], error: InvalidObjectError) -> None:
    """Log that an object cannot be used, unless this version of it was spoken of already."""
    metadata = item.get("metadata") or {}
    key, version = (error.kind, error.name), f"{metadata.get('uid')}/{metadata.get('generation')}"
    if _told.get(key) == version:
        return
    if len(_told) >= MOST_REMEMBERED:
        _told.clear()
    _told[key] = version
    logger.warning("left out: %s", error)
