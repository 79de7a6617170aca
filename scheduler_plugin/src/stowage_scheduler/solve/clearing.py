"""What it takes to make room on a node: the cheapest of the pods that run there to go elsewhere.

That is a covering problem with a row per resource. Its bound for all nodes at once is the linear relaxation of one
resource after the other, which a sorted prefix sum solves; a single node is solved exactly by trying pods in turn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from stowage_scheduler.greedy import sizes
from stowage_scheduler.placement import Placement

_MOST_STEPS = 2_000  # of the search on one node
_ROUNDING = 1e-6  # what the sums of floats may be off, by far
NEVER = 1 << 60  # the cost where not even an emptied node has the room
Ints = npt.NDArray[np.int64]


class Cleared(Struct, frozen=True):
    """Running pods that leave a node, by class, what their moves cost, and whether none cost less."""

    cost: int
    leaving: dict[int, int]
    proven: bool


class _Pod(Struct, frozen=True):
    """A pod that may leave, or several that are alike."""

    index: int
    requests: tuple[int, ...]
    cost: int
    share: int  # of the cluster's room: of equal costs the smaller pods leave, for they find a place more easily


class Clearing:
    """The running pods of some nodes, by what they free and what their moves cost.

    Args:
        placement: of all pods; those that run where they stand may leave.
        nodes: numbers of the nodes, in the order of all answers.
        size: `sizes` of the problem, if they are known.
    """

    def __init__(self, placement: Placement, nodes: Sequence[int], size: Sequence[int] | None = None) -> None:
        problem = placement.problem
        self.nodes = list(nodes)
        self.room: Ints = np.array([placement.room[node] for node in nodes], dtype=np.int64)
        self.room = self.room.reshape(len(self.nodes), len(problem.resources))
        self.pods: list[list[_Pod]] = []
        size = sizes(problem) if size is None else size
        kinds: dict[int, _Pod] = {}
        for node in nodes:
            here: list[_Pod] = []
            for index, count in sorted(placement.on_node[node].items()):
                pod_class = problem.classes[index]
                running = min(count, pod_class.running.get(node, 0))
                if running:
                    if index not in kinds:
                        kinds[index] = _Pod(index, pod_class.requests, pod_class.move_cost, size[index])
                    here += [kinds[index]] * running
            self.pods.append(here)
        self._sums = [self._prefixes(resource) for resource in range(len(problem.resources))]

    def _prefixes(self, resource: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Per node, what its first pods free of a resource and cost in all; the cheapest per unit come first."""
        most = max((len(here) for here in self.pods), default=0)
        freed = np.zeros((len(self.nodes), most + 1))
        costs = np.zeros((len(self.nodes), most + 1))
        for row, here in enumerate(self.pods):
            for column, pod in enumerate(here, start=1):
                freed[row, column], costs[row, column] = pod.requests[resource], pod.cost
        rate = np.where(freed > 0, costs / np.maximum(freed, 1), np.inf)
        rate[:, 0] = -1.0
        costs[freed <= 0] = 0.0
        order = np.argsort(rate, axis=1, kind="stable")
        return (
            np.cumsum(np.take_along_axis(freed, order, axis=1), axis=1),
            np.cumsum(np.take_along_axis(costs, order, axis=1), axis=1),
        )

    def bounds(self, wanted: Sequence[int]) -> Ints:
        """Per node, a cost below which no `wanted` room (per resource) can be had; `NEVER` where it never can."""
        found: Ints = np.zeros(len(self.nodes), dtype=np.int64)
        rows = np.arange(len(self.nodes))
        for resource, amount in enumerate(wanted):
            short = np.maximum(0, amount - self.room[:, resource])
            if not amount or not short.any():
                continue
            freed, costs = self._sums[resource]
            enough = freed >= short[:, None]
            last = enough.argmax(axis=1)
            before = np.maximum(0, last - 1)
            part = (short - freed[rows, before]) / np.maximum(1, freed[rows, last] - freed[rows, before])
            least = costs[rows, before] + part * (costs[rows, last] - costs[rows, before])
            least = np.where(last > 0, np.ceil(least * (1 - 1e-12) - _ROUNDING), 0.0)
            np.maximum(found, least.astype(np.int64), out=found)
            found[~enough.any(axis=1)] = NEVER
        return found

    def cheapest(self, row: int, wanted: Sequence[int]) -> Cleared | None:
        """The cheapest pods to leave the node of a row so that `wanted` fits; None when nothing helps."""
        short = [max(0, amount - int(left)) for amount, left in zip(wanted, self.room[row], strict=True)]
        scarce = [resource for resource, amount in enumerate(short) if amount]
        if not scarce:
            return Cleared(0, {}, proven=True)
        search = _Cover(self.pods[row], scarce)
        search.run([short[resource] for resource in scarce])
        if search.best is None:
            return None
        leaving: dict[int, int] = {}
        for pod in search.best:
            leaving[pod.index] = leaving.get(pod.index, 0) + 1
        return Cleared(search.least[0], leaving, proven=search.steps < _MOST_STEPS)


class _Cover:
    """Which pods of one node free enough: branch and bound, the cheapest pods first."""

    def __init__(self, pods: Sequence[_Pod], scarce: Sequence[int]) -> None:
        helping = [pod for pod in pods if any(pod.requests[r] for r in scarce)]
        self.pods = sorted(helping, key=lambda pod: (pod.cost, pod.share, pod.index))
        self.frees = [[pod.requests[r] for r in scarce] for pod in self.pods]
        # of this pod and those after it: what all of them free, and what the largest does
        self.rest = [[0] * len(scarce)]
        self.largest = [[0] * len(scarce)]
        for frees in reversed(self.frees):
            self.rest.append([a + b for a, b in zip(self.rest[-1], frees, strict=True)])
            self.largest.append([max(a, b) for a, b in zip(self.largest[-1], frees, strict=True)])
        self.rest.reverse()
        self.largest.reverse()
        self.steps = 0
        self.least = (NEVER, NEVER)
        self.best: tuple[_Pod, ...] | None = None

    def run(self, short: Sequence[int]) -> None:
        """Look for the pods that free what is short at the least cost; of those the smallest."""
        self._go(0, short, 0, 0, ())

    def _go(self, at: int, short: Sequence[int], cost: int, share: int, taken: tuple[_Pod, ...]) -> None:
        if all(amount <= 0 for amount in short):
            if (cost, share) < self.least:
                self.least, self.best = (cost, share), taken
            return
        self.steps += 1
        if self.steps >= _MOST_STEPS or at == len(self.pods):
            return
        needed = 1
        for amount, rest, largest in zip(short, self.rest[at], self.largest[at], strict=True):
            if amount > rest:
                return
            if amount > 0:
                needed = max(needed, -(-amount // largest))
        pod = self.pods[at]  # none of those that follow costs less
        if (cost + needed * pod.cost, share) >= self.least:
            return
        less = [amount - freed for amount, freed in zip(short, self.frees[at], strict=True)]
        self._go(at + 1, less, cost + pod.cost, share + pod.share, (*taken, pod))
        after = at + 1
        while after < len(self.pods) and self.pods[after].index == pod.index:
            after += 1  # of pods that are alike the first ones go
        self._go(after, short, cost, share, taken)
