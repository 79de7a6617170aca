"""Which nodes have the images of a pod, as kube-scheduler 1.36 values it (plugin ImageLocality)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from stowage_scheduler.cluster import Node
from stowage_scheduler.images import Ints, listed_images

MAX_SCORE = 100
_MB = 1024 * 1024
_LEAST_BYTES = 23 * _MB
_MOST_BYTES_OF_CONTAINER = 1000 * _MB


class ImageLocality:
    """Scores of nodes for pods.

    An image counts its size times the share of the cluster's nodes that have it: what is rare may stay rare, so that
    the few nodes which have it are not run hot.

    Args:
        cluster: all nodes.
        nodes: those to score, in order.
        wanted: images that somebody asks for; all others are passed over.
    """

    def __init__(self, cluster: Sequence[Node], nodes: Iterable[Node], wanted: Collection[int]) -> None:
        place = {node.name: number for number, node in enumerate(nodes)}
        asked = np.array(sorted(wanted), dtype=np.int64)
        holders: dict[int, int] = defaultdict(int)
        sizes: dict[int, int] = {}
        places: dict[int, list[int]] = defaultdict(list)
        for node in cluster:
            if not node.images:
                continue
            ids, amounts = listed_images(node.images)
            known = np.isin(ids, asked)
            for image, size in dict(zip(ids[known].tolist(), amounts[known].tolist(), strict=True)).items():
                holders[image] += 1
                sizes[image] = max(size, sizes.get(image, 0))
                if node.name in place:
                    places[image].append(place[node.name])
        self._scaled = {image: int(sizes[image] * (holders[image] / len(cluster))) for image in holders}
        self._places = {image: np.array(where, dtype=np.int64) for image, where in places.items()}
        self._none: Ints = np.zeros(len(place), dtype=np.int64)
        self._known: dict[tuple[int, ...], Ints] = {}

    def scores(self, images: tuple[int, ...]) -> Ints:
        """0 to 100 for each node, for a pod with these images of its containers; not to be changed."""
        if images not in self._known:
            total = self._none.copy()
            for image in images:
                if image in self._places:
                    total[self._places[image]] += self._scaled[image]
            most = _MOST_BYTES_OF_CONTAINER * max(1, len(images))
            within = np.clip(total, _LEAST_BYTES, most) - _LEAST_BYTES
            self._known[images] = MAX_SCORE * within // (most - _LEAST_BYTES)
        return self._known[images]
