"""What nodes lack for a pod, over all nodes at once: clusters have thousands of them, and many pods ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from stowage_scheduler.cluster import Node, Pod

_MOST = 1 << 53  # an amount beyond the largest quantity is as good as that
_HEAVIEST = 1 << 55  # so that the weights of all resources together stay in 64 bits
_PARTS = 1000

Numbers = Sequence[int]
"""Nodes, by their place in the list."""


class Lacking(Struct, frozen=True):
    """What nodes lack.

    `nothing` are the nodes that have enough. `first` counts the others by the first resource, in the order of names,
    of which they have too little. `least` is the node that lacks the least, in thousandths of what the pod asks
    for; of equal ones the first.
    """

    nothing: Numbers
    first: Mapping[str, int]
    least: int | None


class Room:
    """Room that is left on nodes.

    Args:
        nodes: the nodes, with what they offer.
        used: what pods ask for, by name of their node.
    """

    def __init__(self, nodes: Sequence[Node], used: Mapping[str, Mapping[str, int]]) -> None:
        self._nodes = nodes
        self._used = used
        self._columns: dict[str, npt.NDArray[np.int64]] = {}

    def free(self, resource: str) -> npt.NDArray[np.int64]:
        """What is left of a resource on each node; negative where too much is asked for."""
        if resource not in self._columns:
            left = [node.allocatable.get(resource, 0) - self._used[node.name].get(resource, 0) for node in self._nodes]
            self._columns[resource] = np.array([max(-_MOST, min(_MOST, amount)) for amount in left], dtype=np.int64)
        return self._columns[resource]

    def total(self, resource: str) -> int:
        """What is left of a resource on all nodes together."""
        return sum(amount for amount in self.free(resource).tolist() if amount > 0)

    def holds(self, pod: Pod, numbers: Numbers, most: int) -> list[int]:
        """How many pods alike each of some nodes has room for, `most` at most."""
        where = np.array(numbers, dtype=np.int64)
        counts = np.full(len(where), most, dtype=np.int64)
        for resource, amount in pod.requests.items():
            if amount:
                np.minimum(counts, self.free(resource)[where] // amount, out=counts)
        found: list[int] = np.maximum(0, counts).tolist()
        return found

    def lacking(self, pod: Pod, numbers: Numbers) -> Lacking:
        """What each of some nodes lacks for a pod."""
        where = np.array(numbers, dtype=np.int64)
        weights = np.zeros(len(where), dtype=np.int64)
        lacks = np.zeros(len(where), dtype=bool)
        first: dict[str, int] = {}
        for resource, amount in sorted(pod.requests.items()):
            if not amount:
                continue
            missing = np.clip(amount - self.free(resource)[where], 0, _MOST)
            fresh = (missing > 0) & ~lacks
            if fresh.any():
                first[resource] = int(fresh.sum())
            lacks |= missing > 0
            weights += np.minimum(missing * _PARTS // amount, _HEAVIEST)
        least = None
        if lacks.any():
            least = int(where[int(np.where(lacks, weights, np.iinfo(np.int64).max).argmin())])
        return Lacking(where[~lacks].tolist(), first, least)
