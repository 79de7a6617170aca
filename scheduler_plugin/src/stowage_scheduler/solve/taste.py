"""How well the nodes of a placement suit a policy's tail."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stowage_scheduler.options import Tail
from stowage_scheduler.placement import Placement
from stowage_scheduler.power import Power
from stowage_scheduler.problem import PodClass
from stowage_scheduler.solve.gpu_taste import gpu_taste

_PARTS = 1_000  # shares of a node are counted in thousandths
_MOST_KINDS = 40  # classes that fragmentation looks at, those with most pods
_MILLION = 1_000_000
_CLEARLY = 4 * _PARTS**2  # one milliwatt is worth more than all that two nodes can gain by being fuller
_Ints = npt.NDArray[np.int64]


class Taste:
    """What a node costs by the tail, from its room alone; the sum over all nodes is what a plan's tail costs.

    Fragmentation is that of Weng et al. (USENIX ATC'23), over the pods of the problem as the typical ones: the room
    that a typical pod can not use, in shares of the node's scarcest resource. Where pods ask for GPUs, free GPU that
    they can not use comes first (`gpu_taste`). `Spread` evens out the largest shares in
    use, `Consolidate` does the opposite; so does `LeastPower` among nodes that draw the same.
    """

    def __init__(self, placement: Placement, tail: Tail, power: Power | None = None) -> None:
        problem = placement.problem
        shape = len(problem.nodes), len(problem.resources)
        self._tail = tail
        self.power = power if tail is Tail.LEAST_POWER else None
        self._free: _Ints = np.array(problem.free, dtype=np.int64).reshape(shape)
        self._capacity = np.maximum(1, np.array(problem.capacity or problem.free, dtype=np.int64).reshape(shape))
        kinds = sorted(problem.classes, key=lambda c: (-c.total, c.index))[:_MOST_KINDS]
        self._requests: _Ints = np.array([c.requests for c in kinds], dtype=np.int64).reshape(len(kinds), shape[1])
        self._weights: _Ints = np.array([c.total for c in kinds], dtype=np.int64)
        self.work = shape[1] * (len(kinds) if tail is Tail.LEAST_FRAGMENTATION else 1)  # cells for one node
        self._more = 2 * _PARTS * int(self._weights.sum()) + 1  # than two nodes can gain by any other measure
        self.gpus = gpu_taste(placement) if tail is Tail.LEAST_FRAGMENTATION else None
        self.work += 0 if self.gpus is None else self.gpus.work

    def moved(self, node: int) -> None:
        """Say that pods came to a node, or left it."""
        if self.gpus is not None:
            self.gpus.moved(node)

    def change(self, nodes: _Ints, room: _Ints, pod_class: PodClass) -> _Ints:
        """What one more pod changes on each of some nodes: `room[i, r]` is what `nodes[i]` has left without it."""
        capacity, request = self._capacity[nodes], np.array(pod_class.requests, dtype=np.int64)
        change = self._cost(room - request, capacity) - self._cost(room, capacity)
        if self.gpus is not None:  # what GPUs lose comes first
            return change + self.gpus.change(nodes, room, pod_class) * self._more
        if self.power is None:
            return change
        opened = ~self.power.held[nodes] & (room == self._free[nodes]).all(axis=1)
        drawn: _Ints = opened * self.power.idle_milliwatts[nodes] + self._drawn(self.power, nodes, request)
        return change + drawn * _CLEARLY

    def _drawn(self, power: Power, nodes: _Ints, request: _Ints) -> _Ints:
        """What one more pod draws on each node that is in use, in milliwatts; always the same for the same pod."""
        shares = request * _MILLION // self._capacity[nodes]
        used = np.where(
            power.has_gpus[nodes],
            shares[:, power.gpus].max(axis=1, initial=0),
            shares[:, power.cpus].max(axis=1, initial=0),
        )
        drawn: _Ints = power.span_milliwatts[nodes] * used // _MILLION
        return drawn

    def _cost(self, room: _Ints, capacity: _Ints) -> _Ints:
        """How little each node with this room is liked."""
        if self._tail is Tail.LEAST_FRAGMENTATION:
            return self._fragmentation(room, capacity)
        used: _Ints = ((capacity - room) * _PARTS // capacity).max(axis=1, initial=0)
        squares: _Ints = used * used
        return squares if self._tail is Tail.SPREAD else -squares

    def _fragmentation(self, room: _Ints, capacity: _Ints) -> _Ints:
        share = (room * _PARTS // capacity).min(axis=1, initial=_PARTS)
        useless = (room[:, None, :] < self._requests[None, :, :]).any(axis=2)
        wasted: _Ints = share * (useless * self._weights[None, :]).sum(axis=1)
        return wasted
