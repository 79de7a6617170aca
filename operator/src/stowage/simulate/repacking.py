"""Moves running pods when one does not fit: at most so many moves per pod placed.

Tried in turn: one pod that finds another place; two shares that change places; a few nodes with CP-SAT. The first two
look at all nodes and are cheap. The last sees only a few, so it is given up after some failures in a row.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from msgspec import Struct

from stowage.simulate.gpu_cluster import Choice, GpuCluster, devices_for
from stowage.simulate.policies import NO_PLACE, ByScore
from stowage.simulate.residents import Residents
from stowage_scheduler.gpu.devices import DEVICE_MILLI, Demand
from stowage_scheduler.gpu.exchange import find_exchange, would_help
from stowage_scheduler.gpu.repack import Held, Node, Repacking, make_room

_NODES = 3
_MOST_MOVES = 4
_UNITS = 0.05
_SCARCE = 8.0  # devices that a node's worth of CPU or memory counts as
_PATIENCE = 10  # failures of CP-SAT in a row after which it is not asked for the rest of the run


class Moved(Struct, frozen=True):
    """How often each kind of search made room, and the moves of all."""

    single: int = 0
    exchanges: int = 0
    searches: int = 0
    moves: int = 0


class Repacker:
    """Makes room on one cluster."""

    def __init__(self, policy: ByScore, residents: Residents, *, most_percent: float) -> None:
        """`policy` chooses new places for pods that move; `most_percent` of the pods placed may be moves."""
        self.single = self.exchanges = self.searches = self.moves = 0
        self._policy = policy
        self._residents = residents
        self._cluster: GpuCluster = residents.cluster
        self._most_percent = most_percent
        self._failed: dict[Demand, int] = {}
        self._failures = 0

    @property
    def moved(self) -> Moved:
        """What was done so far."""
        return Moved(self.single, self.exchanges, self.searches, self.moves)

    def make_room(self, pod: Demand, rng: np.random.Generator) -> Choice | None:
        """A place for a pod that fits nowhere now, after moving others; None: nothing was moved."""
        state = len(self._cluster.changes)
        if self._failed.get(pod) == state:
            return None
        left = int(self._most_percent * self._residents.count / 100) - self.moves
        choice = self._single(pod, rng) if left >= 1 else None
        if choice is None and left >= 2:  # an exchange is two moves
            choice = self._exchange(pod)
        if choice is None and left >= _MOST_MOVES and self._failures < _PATIENCE:
            choice = self._search(pod)
            self._failures = 0 if choice is not None else self._failures + 1
        if choice is None:
            self._failed[pod] = state
        return choice

    def _single(self, pod: Demand, rng: np.random.Generator) -> Choice | None:
        numbers, running = self._residents.running()
        by_demand: dict[Demand, list[int]] = defaultdict(list)
        for index in would_help(self._cluster.room, running, pod, self._cluster.allows(pod)):
            demand = self._residents.demands[int(numbers[index])]
            if not _asks_no_less(demand, pod):  # else it fits nowhere either
                by_demand[demand].append(int(numbers[index]))
        for demand in sorted(by_demand, key=lambda one: (one.total_milli, one.cpu_milli, one.memory_mib)):
            value, device = self._policy.scores(self._cluster, demand)
            open_to_it = np.flatnonzero(value != NO_PLACE)
            movable = (n for n in by_demand[demand] if (open_to_it != self._home(n).node).any())
            number = next(movable, None)
            if number is not None:
                elsewhere = open_to_it[open_to_it != self._home(number).node]
                node = int(elsewhere[value[elsewhere].argmax()])
                free = self._cluster.room.free_milli[node]
                self._move({number: Choice(node, devices_for(free, demand, int(device[node])))})
                self.single += 1
                return self._policy.choose(self._cluster, pod, rng)
        return None

    def _home(self, number: int) -> Choice:
        choice = self._residents.choices[number]
        if choice is None:
            raise ValueError(f"pod {number} has no place")
        return choice

    def _exchange(self, pod: Demand) -> Choice | None:
        numbers, running = self._residents.running()
        found = find_exchange(self._cluster.room, running, pod, self._cluster.allows(pod))
        if found is None:
            return None
        out, into = int(numbers[found.out]), int(numbers[found.into])
        here, there = self._home(out), self._home(into)
        self._move({out: there, into: here})
        self.exchanges += 1
        return here

    def _search(self, pod: Demand) -> Choice | None:
        ids = self._neighbourhood(pod)
        pods = [self._residents.on(node) for node in ids]
        nodes = [self._node(node, numbers) for node, numbers in zip(ids, pods, strict=True)]
        answer = make_room(nodes, pod, most_moves=_MOST_MOVES, units=_UNITS)
        if answer is None:
            return None
        self._move(_targets(answer, ids, pods))
        self.searches += 1
        return Choice(ids[answer.place.node], answer.place.devices)

    def _neighbourhood(self, pod: Demand) -> list[int]:
        """The node that lacks least for the pod, and those with most room beside."""
        room = self._cluster.room
        present = np.arange(room.free_milli.shape[1]) < room.devices[:, None]
        held = np.sort(np.where(present, DEVICE_MILLI - room.free_milli, 8 * DEVICE_MILLI), axis=1)
        if pod.shared:
            gpu = np.maximum(0, held[:, 0] - (DEVICE_MILLI - pod.gpu_milli))
        else:
            gpu = held[:, : pod.gpu_count].sum(axis=1)
        most = self._cluster.capacity
        lack = gpu / DEVICE_MILLI
        lack += np.maximum(0, pod.cpu_milli - room.cpu_milli) / max(1.0, most.cpu_milli.mean()) * _SCARCE
        lack += np.maximum(0, pod.memory_mib - room.memory_mib) / max(1.0, most.memory_mib.mean()) * _SCARCE
        lack[~self._cluster.allows(pod) | (room.devices < pod.gpu_count)] = np.inf
        target = int(lack.argmin())
        beside = np.where(room.free_milli < DEVICE_MILLI, room.free_milli, 0).max(axis=1) / DEVICE_MILLI
        beside += room.cpu_milli / max(1, most.cpu_milli.max())
        beside[target] = -1
        return [target, *(int(node) for node in np.argsort(-beside, kind="stable")[: _NODES - 1])]

    def _node(self, node: int, numbers: list[int]) -> Node:
        room = self._cluster.room
        return Node(
            cpu_milli=int(room.cpu_milli[node]),
            memory_mib=int(room.memory_mib[node]),
            free_milli=tuple(int(free) for free in room.free_milli[node][: room.devices[node]]),
            model=self._cluster.nodes[node].model,
            held=tuple(Held(self._residents.demands[number], self._home(number).devices) for number in numbers),
        )

    def _move(self, targets: dict[int, Choice]) -> None:
        for number in targets:
            self._residents.leave(number)
        for number, choice in targets.items():
            self._residents.arrive(number, self._residents.demands[number], choice)
        self.moves += len(targets)


def _asks_no_less(one: Demand, other: Demand) -> bool:
    """Whether wherever the one fits, the other fits too."""
    return (
        one.cpu_milli >= other.cpu_milli
        and one.memory_mib >= other.memory_mib
        and one.gpu_milli >= other.gpu_milli
        and one.gpu_count >= other.gpu_count
        and not other.models
    )


def _targets(answer: Repacking, ids: list[int], pods: list[list[int]]) -> dict[int, Choice]:
    return {pods[move.node][move.pod]: Choice(ids[move.target.node], move.target.devices) for move in answer.moves}
