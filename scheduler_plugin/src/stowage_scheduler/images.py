"""Images of containers, as facts."""

from __future__ import annotations

from msgspec import Struct


class NodeImage(Struct, frozen=True, gc=False):
    """An image that a node has, by digests of its names."""

    ids: tuple[str, ...]
    size_bytes: int
