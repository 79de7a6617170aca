"""Images of containers, and which of them nodes have: what kube-scheduler's plugin ImageLocality looks at.

Nobody needs the names, so facts have a digest of each. Dumps carry the same digests and no names, which tell more
about a company than its requests do.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from stowage_scheduler.images import NodeImage
from stowage_scheduler.kube import objects
from stowage_scheduler.kube.sharing import REMEMBERED, shared

_MOST_BYTES = 2**50  # no image is larger; what says so must not make sums overflow
_Document = dict[str, Any]


@lru_cache(maxsize=REMEMBERED)
def image_id(name: str) -> str:
    """What stands for the name of an image; a name without tag and digest means the tag `latest`."""
    tagged = name if name.rfind(":") > name.rfind("/") else f"{name}:latest"
    return _digest(tagged)


@lru_cache(maxsize=REMEMBERED)
def _digest(name: str) -> str:
    return blake2b(name.encode(), digest_size=8).hexdigest()


def pod_images(spec: objects.PodSpec) -> tuple[str, ...]:
    """The image of each container, init containers among them; empty where a container tells none."""
    containers = (*(spec.init_containers or ()), *(spec.containers or ()))
    found = tuple(sorted(one.image_hash or (image_id(one.image) if one.image else "") for one in containers))
    return shared(found) if any(found) else ()


def node_images(status: objects.NodeStatus) -> tuple[NodeImage, ...]:
    """The images that a node has; the same object for equal ones, for nodes are alike in this."""
    return shared(tuple(_node_image(image) for image in status.images or ()))


def _node_image(raw: objects.ContainerImage) -> NodeImage:
    ids = raw.name_hashes if raw.name_hashes is not None else tuple(map(_digest, raw.names or ()))
    return shared(NodeImage(ids, min(max(0, raw.size_bytes or 0), _MOST_BYTES)))


def without_names(kind: str, document: _Document) -> None:
    """Put digests in place of the names of images; changes `document`, which has only fields that Stowage reads."""
    if kind == "Pod":
        spec = document.get("spec", {})
        for container in (*spec.get("initContainers", ()), *spec.get("containers", ())):
            name = container.pop("image", "")
            if name:
                container.setdefault("imageHash", image_id(name))
    elif kind == "Node":
        _hide(document.get("status", {}).get("images", ()))


def _hide(images: Iterable[_Document]) -> None:
    for image in images:
        names = image.pop("names", ())
        image.setdefault("nameHashes", [_digest(name) for name in names])
