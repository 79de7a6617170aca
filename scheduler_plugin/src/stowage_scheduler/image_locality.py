"""Which nodes have the images of a pod, as kube-scheduler 1.36 values it (plugin ImageLocality)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from stowage_scheduler.cluster import Node, NodeImage, Pod

MAX_SCORE = 100
_MB = 1024 * 1024
_LEAST_BYTES = 23 * _MB
_MOST_BYTES_OF_CONTAINER = 1000 * _MB
_Ints = npt.NDArray[np.int64]


class ImageLocality:
    """Scores of nodes for pods.

    An image counts its size times the share of the cluster's nodes that have it: what is rare may stay rare, so that
    the few nodes which have it are not run hot.

    Args:
        nodes: of the whole cluster.
        wanted: images that somebody asks for, by digest; all others are passed over.
    """

    def __init__(self, nodes: Iterable[Node], wanted: frozenset[str]) -> None:
        self._known: dict[int, frozenset[str]] = {}  # by what nodes are told to have; many are told the same
        self._wanted = wanted
        holders: dict[str, int] = defaultdict(int)
        sizes: dict[str, int] = {}
        count = 0
        for node in nodes:
            count += 1
            for image in self._of(node):
                holders[image] += 1
            for image, size in self._sizes(node.images):
                sizes[image] = max(size, sizes.get(image, 0))
        self._scaled = {image: int(sizes[image] * (holders[image] / count)) for image in holders}

    def scores(self, pod: Pod, nodes: Sequence[Node]) -> _Ints:
        """0 to 100 for each node."""
        by_set: dict[frozenset[str], int] = {}
        found = np.zeros(len(nodes), dtype=np.int64)
        for number, node in enumerate(nodes):
            here = self._of(node)
            if here:
                if here not in by_set:
                    by_set[here] = _score(sum(self._scaled[i] for i in pod.images if i in here), len(pod.images))
                found[number] = by_set[here]
        return found

    def _of(self, node: Node) -> frozenset[str]:
        """The wanted images that a node has."""
        if not node.images:
            return frozenset()
        key = id(node.images)
        if key not in self._known:
            self._known[key] = frozenset(image for image, _ in self._sizes(node.images))
        return self._known[key]

    def _sizes(self, images: Iterable[NodeImage]) -> Iterable[tuple[str, int]]:
        return ((one, image.size_bytes) for image in images for one in image.ids if one in self._wanted)


def _score(size_bytes: int, containers: int) -> int:
    most = _MOST_BYTES_OF_CONTAINER * containers
    return MAX_SCORE * (min(max(size_bytes, _LEAST_BYTES), most) - _LEAST_BYTES) // (most - _LEAST_BYTES)


def wanted_images(pods: Mapping[int, Pod]) -> frozenset[str]:
    """Every image that one of several pods asks for."""
    return frozenset(image for pod in pods.values() for image in pod.images if image)
