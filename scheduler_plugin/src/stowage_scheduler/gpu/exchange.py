"""Room for one more pod by one move or one exchange: exact searches over all running pods, as arrays.

Both answer in milliseconds for thousands of pods. What needs more moves is for `repack`.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from stowage_scheduler.gpu.devices import DEVICE_MILLI, Demand
from stowage_scheduler.gpu.fragmentation import Ints, Room

_MOST_SHARES = 1500  # of either side of an exchange; beyond, those that come closest


class Running(Struct, frozen=True):
    """Pods that may move, as arrays over them.

    `node[p]`; `device[p]` and `share_milli[p]` of a share (-1 and 0 otherwise); `whole[p]` devices that it has alone;
    `accepts[p, m]` whether model m will do, as `Room.model` counts them.
    """

    node: Ints
    device: Ints
    share_milli: Ints
    whole: Ints
    cpu_milli: Ints
    memory_mib: Ints
    accepts: NDArray[np.bool_]


class Exchange(Struct, frozen=True):
    """Two shares change places: `out` leaves the device that the new pod gets, `into` comes there."""

    out: int
    into: int


def would_help(room: Room, running: Running, demand: Demand, allowed: NDArray[np.bool_]) -> Ints:
    """The running pods whose leaving would let the new pod onto their node, whatever becomes of them.

    Args:
        room: what is free now.
        running: pods that may leave.
        demand: the new pod.
        allowed: whether a node is of a kind that the new pod accepts; shape [nodes].
    """
    node = running.node
    ok = allowed[node] & (room.cpu_milli[node] + running.cpu_milli >= demand.cpu_milli)
    ok &= room.memory_mib[node] + running.memory_mib >= demand.memory_mib
    if demand.gpu_count:
        left = _left_behind(room, running)
        if demand.shared:
            roomiest = np.maximum(room.free_milli.max(axis=1)[node], np.where(running.whole > 0, DEVICE_MILLI, left))
            ok &= roomiest >= demand.gpu_milli
        else:
            empty = (room.free_milli == DEVICE_MILLI).sum(axis=1)[node] + running.whole
            ok &= empty + (left == DEVICE_MILLI) >= demand.gpu_count
    return np.flatnonzero(ok)


def _left_behind(room: Room, running: Running) -> Ints:
    """What a share's device would have free without it; 0 for pods that are no shares."""
    is_share = running.device >= 0
    free = room.free_milli[running.node, np.maximum(running.device, 0)]
    return np.where(is_share, free + running.share_milli, 0)


def find_exchange(room: Room, running: Running, demand: Demand, allowed: NDArray[np.bool_]) -> Exchange | None:
    """Two running shares that make room for a new one by changing places; the tightest on the other device.

    A larger share leaves for where less room was free than the new one needs, and a smaller one comes back. None: no
    two shares do, or the new pod is not a share.
    """
    if not demand.shared:
        return None
    shares = np.flatnonzero(running.device >= 0)
    node = running.node[shares]
    hole = room.free_milli[node, running.device[shares]]
    size = running.share_milli[shares]
    need = demand.gpu_milli - hole
    out = _first(np.flatnonzero(allowed[node] & (need > 0) & (need < size)), need)
    if not len(out):
        return None
    into = _first(np.flatnonzero(hole >= need[out].min()), -hole)
    grows = size[out][:, None] - size[into]
    first, second = np.nonzero((grows >= need[out][:, None]) & (grows <= hole[into]))
    if not len(first):
        return None
    leaving, coming = out[first], into[second]
    good = _balances(room, running, demand, shares[leaving], shares[coming])
    if not good.any():
        return None
    left = np.where(good, hole[coming] - grows[first, second], DEVICE_MILLI + 1)
    best = int(left.argmin())
    return Exchange(int(shares[leaving[best]]), int(shares[coming[best]]))


def _first(chosen: Ints, rank: Ints) -> Ints:
    """Those of the lowest rank, if there are very many."""
    return chosen if len(chosen) <= _MOST_SHARES else chosen[np.argsort(rank[chosen], kind="stable")[:_MOST_SHARES]]


def _balances(room: Room, running: Running, demand: Demand, out: Ints, into: Ints) -> NDArray[np.bool_]:
    """Whether both nodes of each pair have the CPU and memory, the new pod included, and models that will do."""
    here, there = running.node[out], running.node[into]
    same = here == there
    good: NDArray[np.bool_] = ~(same & (running.device[out] == running.device[into]))
    good &= running.accepts[out, room.model[there]] & running.accepts[into, room.model[here]]
    for free, asked, wanted in (
        (room.cpu_milli, running.cpu_milli, demand.cpu_milli),
        (room.memory_mib, running.memory_mib, demand.memory_mib),
    ):
        more = np.where(same, 0, asked[out] - asked[into])
        good &= (free[here] + more >= wanted) & (same | (free[there] >= more))
    return good
