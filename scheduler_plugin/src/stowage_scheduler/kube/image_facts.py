"""Images of containers, and which of them nodes have: what kube-scheduler's plugin ImageLocality looks at.

Nobody needs the names, so facts have a digest of each. Dumps carry the same digests and no names, which tell more
about a company than its requests do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from stowage_scheduler.images import UNKNOWN, image_list
from stowage_scheduler.kube import objects
from stowage_scheduler.kube.sharing import REMEMBERED, shared

_MOST_BYTES = 2**50  # no image is larger; what says so must not make sums overflow
_HASH = re.compile(r"[0-9a-f]{16}")
_Document = dict[str, Any]


def image_id(name: str) -> int:
    """What stands for the name of an image; a name without tag and digest means the tag `latest`."""
    return _number(_hash(_tagged(name)))


def _tagged(name: str) -> str:
    return name if name.rfind(":") > name.rfind("/") else f"{name}:latest"


@lru_cache(maxsize=REMEMBERED)
def _hash(name: str) -> str:
    return blake2b(name.encode(), digest_size=8).hexdigest()


@lru_cache(maxsize=REMEMBERED)
def _number(text: str) -> int:
    """The number that a hash says; a text that is none is taken for a name."""
    known = text if _HASH.fullmatch(text) else _hash(text)
    return int.from_bytes(bytes.fromhex(known), signed=True)


def pod_images(spec: objects.PodSpec) -> tuple[int, ...]:
    """The image of each container, init containers among them; empty where no container tells any."""
    containers = (*(spec.init_containers or ()), *(spec.containers or ()))
    found = tuple(sorted(_image(container) for container in containers))
    return shared(found) if any(found) else ()


def _image(container: objects.Container) -> int:
    if container.image_hash:
        return _number(container.image_hash)
    return image_id(container.image) if container.image else UNKNOWN


def node_images(status: objects.NodeStatus) -> bytes:
    """The images that a node has, as `image_list`; the same object for equal ones, for nodes are alike in this."""
    return shared(image_list(_named(status.images))) if status.images else b""


def _named(images: Iterable[objects.ContainerImage]) -> Iterator[tuple[int, int]]:
    for image in images:
        hashes = image.name_hashes if image.name_hashes is not None else map(_hash, image.names or ())
        size = min(max(0, image.size_bytes or 0), _MOST_BYTES)
        yield from ((_number(one), size) for one in hashes)


def without_names(kind: str, document: _Document) -> None:
    """Put hashes in place of the names of images; changes `document`, which has only fields that Stowage reads."""
    if kind == "Pod":
        spec = document.get("spec", {})
        for container in (*spec.get("initContainers", ()), *spec.get("containers", ())):
            name = container.pop("image", "")
            if name:
                container.setdefault("imageHash", _hash(_tagged(name)))
    elif kind == "Node":
        _hide(document.get("status", {}).get("images", ()))


def _hide(images: Iterable[_Document]) -> None:
    for image in images:
        names = image.pop("names", ())
        image.setdefault("nameHashes", [_hash(name) for name in names])
