"""Custom resources as stored: read leniently, with a word about what is left out of them, or of the list."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from stowage.api.resource import InvalidObjectError, Resource

MOST_REMEMBERED = 1000

logger = logging.getLogger(__name__)
_told: dict[tuple[str, str], str] = {}  # by kind and name: the version that was spoken of
_Read = TypeVar("_Read", bound=Resource)


def read(model: type[_Read], item: Mapping[str, Any]) -> _Read:
    """What the API server holds; fields that this version does not know are logged, once, and left unread.

    Raises:
        InvalidObjectError: it cannot be used.
    """
    found = model.parse_stored(item)
    if found.unread:
        words = ", ".join(found.unread)
        _log_once(
            item, found.kind_name(), found.name, f"{found.kind_name()} {found.name}: unknown to this version: {words}"
        )
    return found


def readable(items: Sequence[Mapping[str, Any]], model: type[_Read]) -> tuple[_Read, ...]:
    """The items that can be read; the others are logged, each version once, and left out."""
    found = []
    for item in items:
        try:
            found.append(read(model, item))
        except InvalidObjectError as error:
            tell_once(item, error)
    return tuple(found)


def tell_once(item: Mapping[str, Any], error: InvalidObjectError) -> None:
    """Log that an object cannot be used, unless this version of it was spoken of already."""
    _log_once(item, error.kind, error.name, f"left out: {error}")


def _log_once(item: Mapping[str, Any], kind: str, name: str, words: str) -> None:
    metadata = item.get("metadata") or {}
    version = f"{metadata.get('uid')}/{metadata.get('generation')}"
    if _told.get((kind, name)) == version:
        return
    if len(_told) >= MOST_REMEMBERED:
        _told.clear()
    _told[kind, name] = version
    logger.warning("%s", words)
