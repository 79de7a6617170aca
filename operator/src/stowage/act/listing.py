"""Names of the custom resources of a kind, without reading what they hold."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from stowage.transport import Api, NotFound


class _Named(Struct):
    namespace: str
    name: str


class _Listed(Struct):
    metadata: _Named


class _Found(Struct):
    items: tuple[_Listed, ...] | None = None
    """The API server writes an empty list of metadata as null."""


_read = msgspec.json.Decoder(_Found).decode


async def keys_in(api: Api, collection: str) -> tuple[str, ...]:
    """`namespace/name` of all objects of a namespaced collection, those that cannot be used among them.

    There are none where their definition is not installed: an upgrade may have left it out.
    """
    try:
        found = _read(await api.get_bytes(collection, metadata_only=True))
    except NotFound:
        return ()
    return tuple(f"{one.metadata.namespace}/{one.metadata.name}" for one in found.items or ())
