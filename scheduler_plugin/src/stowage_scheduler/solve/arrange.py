"""The last wish of a plan: of all that place the same pods with the same moves, the one whose nodes look best.

Pods that come to a node anyway (they waited, or they move) are shifted one by one to the node where they suit best:
first by the soft rules of the pod itself, then by the policy's tail. How much a node is liked is a number of its own,
so one look at all nodes costs a product of arrays. The work is counted and not timed: the same input gives the same
answer.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stowage_scheduler.options import Tail
from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import PodClass

_PARTS = 1_000  # shares of a node are counted in thousandths
_MOST_KINDS = 40  # classes that fragmentation looks at, those with most pods
_LOOK = 10  # cells that a node counts anyway
_MOST_LOOKS = 20  # nodes that are tried for one pod
_MOST_WORK = 20_000_000  # cells of arrays: some tenths of a second
_Ints = npt.NDArray[np.int64]


def arranged(placement: Placement, tail: Tail) -> Placement:
    """The placement with the same score, or a better one, whose arrivals suit soft rules and tail at least as well.

    Fragmentation is that of Weng et al. (USENIX ATC'23), over the pods of the problem as the typical ones: the room
    that a typical pod can not use, in shares of the node's scarcest resource. `Spread` evens out the largest shares in
    use, `Consolidate` does the opposite.
    """
    problem = placement.problem
    if not any(_arrivals(placement, c) for c in problem.classes):
        return placement
    best = placement.copy()
    taste = _Taste(best, tail)
    work = 0
    improved = True
    while improved and work < _MOST_WORK:
        improved = False
        for pod_class in problem.classes:
            if pod_class.gang is not None:
                continue  # where a gang stands was chosen for all of it
            for node in _arrivals(best, pod_class):
                work += taste.work
                if work >= _MOST_WORK:
                    break
                improved |= _shift(best, taste, pod_class, node)
    return best if best.score() >= placement.score() else placement


def _arrivals(placement: Placement, pod_class: PodClass) -> list[int]:
    """Nodes with more pods of a class than run there, once for each of those."""
    counts = placement.counts[pod_class.index]
    return [node for node in sorted(counts) for _ in range(counts[node] - pod_class.running.get(node, 0))]


def _shift(placement: Placement, taste: _Taste, pod_class: PodClass, source: int) -> bool:
    """Move one pod that comes to `source` to a node that suits better, if there is one and nobody moves for it."""
    leaving = placement.leaving(pod_class)
    _add(placement, taste, pod_class, source, -1)
    for target in taste.better(pod_class, source):
        if placement.counts[pod_class.index].get(target, 0) >= pod_class.limit(target):
            continue
        if not placement.tallies.admits(pod_class, target) or placement.clashes(pod_class, target):
            continue
        _add(placement, taste, pod_class, target, 1)
        if placement.relations_hold() and placement.leaving(pod_class) <= leaving:
            return True
        _add(placement, taste, pod_class, target, -1)
    _add(placement, taste, pod_class, source, 1)
    return False


def _add(placement: Placement, taste: _Taste, pod_class: PodClass, node: int, count: int) -> None:
    placement.add(pod_class, node, count)
    taste.room[node] = placement.room[node]


class _Taste:
    """What makes one node better than another for one more pod."""

    def __init__(self, placement: Placement, tail: Tail) -> None:
        problem = placement.problem
        shape = len(problem.nodes), len(problem.resources)
        self.tail = tail
        self.room: _Ints = np.array(placement.room, dtype=np.int64).reshape(shape)
        self.nodes: dict[frozenset[int], _Ints] = {}
        self.dislikes: dict[int, _Ints] = {}
        self.none: _Ints = np.zeros(shape[0], dtype=np.int64)
        self.capacity = np.maximum(1, np.array(problem.capacity or problem.free, dtype=np.int64).reshape(shape))
        kinds = sorted(problem.classes, key=lambda c: (-c.total, c.index))[:_MOST_KINDS]
        self.requests: _Ints = np.array([c.requests for c in kinds], dtype=np.int64).reshape(-1, shape[1])
        self.weights: _Ints = np.array([c.total for c in kinds], dtype=np.int64)
        # beside the cost of nodes: which have room, and which of them the rules between pods leave
        self.work = shape[0] * (_LOOK + shape[1] * (len(kinds) if tail is Tail.LEAST_FRAGMENTATION else 1))

    def better(self, pod_class: PodClass, source: int) -> list[int]:
        """Nodes with room that suit one more pod of a class better than `source`, the best first."""
        request = np.array(pod_class.requests, dtype=np.int64)
        reach = pod_class.eligible | {source}
        nodes = self.nodes.get(reach)
        if nodes is None:
            nodes = self.nodes[reach] = np.array(sorted(reach), dtype=np.int64)
        room = self.room[nodes]
        fits = (room >= request).all(axis=1)
        nodes, room = nodes[fits], room[fits]
        capacity = self.capacity[nodes]
        change = self._cost(room - request, capacity) - self._cost(room, capacity)
        dislike = self._dislikes(pod_class)[nodes]
        order = np.lexsort((nodes, change, dislike))
        here = int(np.flatnonzero(nodes == source)[0])
        mine = int(dislike[here]), int(change[here])
        suits = (dislike < mine[0]) | ((dislike == mine[0]) & (change < mine[1]))
        return [int(node) for node in nodes[order[suits[order]]][:_MOST_LOOKS]]

    def _dislikes(self, pod_class: PodClass) -> _Ints:
        """What its soft rules say against each node."""
        if pod_class.index not in self.dislikes:
            weights = np.zeros(len(self.room), dtype=np.int64)
            for node, weight in pod_class.dislikes.items():
                weights[node] = weight
            self.dislikes[pod_class.index] = weights if pod_class.dislikes else self.none
        return self.dislikes[pod_class.index]

    def _cost(self, room: _Ints, capacity: _Ints) -> _Ints:
        """How little each node with this room is liked."""
        if self.tail is Tail.LEAST_FRAGMENTATION:
            return self._fragmentation(room, capacity)
        used: _Ints = ((capacity - room) * _PARTS // capacity).max(axis=1, initial=0)
        squares: _Ints = used * used
        return squares if self.tail is Tail.SPREAD else -squares

    def _fragmentation(self, room: _Ints, capacity: _Ints) -> _Ints:
        share = (room * _PARTS // capacity).min(axis=1, initial=_PARTS)
        useless = (room[:, None, :] < self.requests[None, :, :]).any(axis=2)
        wasted: _Ints = share * (useless * self.weights[None, :]).sum(axis=1)
        return wasted
