"""The answer that is always there: pending pods by priority, each on the node that it fits best.

Nothing moves. Two orders are tried within a priority, large pods first and small pods first; the one
that places more wins (first-fit decreasing leaves fewer holes, small first places more pods).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import numpy.typing as npt

from stowage_scheduler.domain_sums import DomainSums
from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import PodClass, Problem
from stowage_scheduler.relations import Relation

_PARTS = 1_000_000  # shares of a node are counted in millionths, so that no float decides
_BITS = 40  # of an amount that decides
_NOTHING = np.iinfo(np.int64).max
_Ints = npt.NDArray[np.int64]


def greedy(problem: Problem) -> Placement:
    """The better of the two orders; never worse than what runs now."""
    size = sizes(problem)
    large_first = fill(Placement(problem), lambda c: -size[c.index])
    small_first = fill(Placement(problem), lambda c: size[c.index])
    return max(large_first, small_first, key=Placement.score)


def sizes(problem: Problem) -> list[int]:
    """Per class the largest share of the cluster's room in any resource that one pod takes, in millionths."""
    totals = [max(1, sum(row[r] for row in problem.free)) for r in range(len(problem.resources))]
    return [
        max((amount * _PARTS // totals[r] for r, amount in enumerate(c.requests)), default=0) for c in problem.classes
    ]


def fill(placement: Placement, order: Callable[[PodClass], int], leave: Collection[int] = ()) -> Placement:
    """Put every unplaced pod that fits somewhere on its best node; changes and returns `placement`.

    Classes of `leave`, by index, stay as they are, with those of their gangs.

    A gang takes its turn with the most urgent of its classes, and gets all its places or none.
    """
    problem = placement.problem
    left = {one.index for index in leave for one in problem.together_with(problem.classes[index])}
    waiting = [c for c in problem.classes if placement.unplaced(c) and c.index not in left]
    filling = _Filling(placement) if waiting else None
    before = placement.copy() if problem.relations and problem.gangs else None
    met: set[int] = set()
    for pod_class in sorted(waiting, key=lambda c: (-c.priority, order(c), c.index)):
        if filling is None or pod_class.gang in met:
            continue
        if pod_class.gang is None:
            filling.put(pod_class)
            continue
        met.add(pod_class.gang)
        filling.put_gang(sorted(problem.together_with(pod_class), key=lambda c: (order(c), c.index)))
    if before is not None and not placement.relations_hold():  # a gang that was taken back was company for others
        return before
    return placement


class _Filling:
    """Best nodes for one pod after the other, over all nodes at once.

    The best node is the one that is left with the least room, measured in the pod's own resources; of equal
    ones the first.
    """

    def __init__(self, placement: Placement) -> None:
        problem = placement.problem
        shape = len(problem.nodes), len(problem.resources)
        self.placement = placement
        self.free = np.array(problem.free, dtype=np.int64).reshape(shape)
        self.room = np.array(placement.room, dtype=np.int64).reshape(shape)
        largest = self.free.max(axis=0, initial=0)
        self.shifts = [max(0, int(amount).bit_length() - _BITS) for amount in largest]  # so that parts stay in 64 bits
        self.nodes: dict[frozenset[int], _Ints] = {}
        self.domains: dict[int, _Ints] = {}
        self.levels: dict[int, DomainSums] = {}

    def put_gang(self, together: Sequence[PodClass]) -> None:
        """Put all classes of a gang on nodes or none of them: in the fullest of its best domains that has the room.

        Where a gang needs fewer pods than wait, a domain that has room for all is sought first.
        """
        problem, number = self.placement.problem, together[0].gang or 0
        gang, least = problem.gangs[number], problem.least_of(number)
        if any(self.placement.placed(one) for one in together):  # it stands, and more of it come
            for one in together:
                self.put(one)
            return
        if self._put_whole(gang.levels, together):
            return
        for level in (gang.levels or ((None,),)) if gang.need is not None else ():
            most = sum((self._most(one, level) for one in together), start=np.zeros(len(level), dtype=np.int64))
            for domain in self._fullest(level, most >= least):
                for one in together:
                    self.put(one, domain)
                if sum(self.placement.placed(one) for one in together) >= least:
                    return
                self._take_back(together)

    def _put_whole(self, levels: Sequence[Sequence[frozenset[int] | None]], together: Sequence[PodClass]) -> bool:
        """Put every pod of the classes in the first domain that has room for all, if there is one."""
        for level in levels or ((None,),):
            holds = self._has_room(together, level)
            for one in together:
                holds &= self._most(one, level) >= self.placement.unplaced(one)
            for domain in self._fullest(level, holds):
                if all(self.put(one, domain) for one in together):
                    return True
                self._take_back(together)
        return False

    def _fullest(
        self, domains: Sequence[frozenset[int] | None], chosen: npt.NDArray[np.bool_]
    ) -> list[frozenset[int] | None]:
        """The chosen domains, by how much of their room is left, as a share; of equal ones the first."""
        if not chosen.any() or len(domains) == 1:
            return [domain for domain, one in zip(domains, chosen.tolist(), strict=True) if one]
        level = self._level(domains)
        left = np.stack([level.of(column) for column in self.room.T], axis=1) / np.maximum(1, self.free.sum(axis=0))
        order = np.lexsort((level.rank, left.sum(axis=1)))
        return [domains[number] for number in order.tolist() if chosen[number]]

    def _most(self, pod_class: PodClass, domains: Sequence[frozenset[int] | None]) -> _Ints:
        """How many waiting pods of a class each domain has room for, if nobody else came; or more."""
        waiting = self.placement.unplaced(pod_class)
        if domains == (None,):
            return np.array([waiting])
        nodes = self._eligible(pod_class)
        fits = np.full(len(nodes), pod_class.total, dtype=np.int64)
        for resource, amount in enumerate(pod_class.requests):
            if amount:
                np.minimum(fits, self.room[nodes, resource] // amount, out=fits)
        counts = np.zeros(len(self.room), dtype=np.int64)
        counts[nodes] = np.maximum(0, fits)
        return np.minimum(self._level(domains).of(counts), waiting)

    def _has_room(
        self, together: Sequence[PodClass], domains: Sequence[frozenset[int] | None]
    ) -> npt.NDArray[np.bool_]:
        """Which domains have as much room in all as the waiting pods of some classes ask for."""
        found = np.ones(len(domains), dtype=bool)
        if domains == (None,):
            return found
        for resource, here in enumerate(self.room.T):
            wanted = sum(self.placement.unplaced(one) * one.requests[resource] for one in together)
            if wanted:
                found &= self._level(domains).of(np.maximum(0, here)) >= wanted
        return found

    def _level(self, domains: Sequence[frozenset[int] | None]) -> DomainSums:
        key = id(domains)  # they are as many as the cluster is large
        if key not in self.levels:
            self.levels[key] = DomainSums([domain or frozenset() for domain in domains])
        return self.levels[key]

    def put(self, pod_class: PodClass, domain: frozenset[int] | None = None) -> bool:
        """Put the unplaced pods of a class on nodes, each on its best; whether all of them have one now."""
        nodes = self._fitting(pod_class, domain)
        left = self._left(pod_class, nodes)
        related = self.placement.problem.roles_of[pod_class.index]  # then each pod changes where the next may go
        disturbing = [number for number, role in related if not role.obeys]  # rules of others alone
        while self.placement.unplaced(pod_class):
            if not len(left):
                return False
            best = int(left.argmin())
            if left[best] == _NOTHING:
                return False
            node = int(nodes[best])
            if self.placement.clashes(pod_class, node):
                left[best] = _NOTHING
                continue
            self.placement.add(pod_class, node, 1)
            if disturbing and not all(self.placement.holds(number) for number in disturbing):
                self.placement.add(pod_class, node, -1)
                left[best] = _NOTHING
                continue
            self.room[node] = self.placement.room[node]
            if related:
                nodes = self._fitting(pod_class, domain)
                left = self._left(pod_class, nodes)
            else:
                left[best] = self._left(pod_class, nodes[best : best + 1])[0]
        return True

    def _take_back(self, together: Sequence[PodClass]) -> None:
        """Take the places of a gang away again; none of its pods ran."""
        for pod_class in together:
            for node, count in list(self.placement.counts[pod_class.index].items()):
                self.placement.add(pod_class, node, -count)
                self.room[node] = self.placement.room[node]

    def _fitting(self, pod_class: PodClass, domain: frozenset[int] | None) -> _Ints:
        """Nodes, of a domain or all, that have room for one more pod of a class."""
        if domain is None:
            nodes = self._eligible(pod_class)
        else:
            nodes = np.array(sorted(domain & pod_class.eligible), dtype=np.int64)
        for resource, amount in enumerate(pod_class.requests):
            if amount:
                nodes = nodes[self.room[nodes, resource] >= amount]
        for relation, admitted in self.placement.tallies.admitted(pod_class):
            listed = np.isin(self._domains(relation)[nodes], list(admitted.domains))
            nodes = nodes[listed != admitted.but]
        return nodes

    def _eligible(self, pod_class: PodClass) -> _Ints:
        nodes = self.nodes.get(pod_class.eligible)
        if nodes is None:
            nodes = self.nodes[pod_class.eligible] = np.array(sorted(pod_class.eligible), dtype=np.int64)
        return nodes

    def _domains(self, relation: Relation) -> _Ints:
        """The domain of each node, as an array; relations on the same key share it."""
        key = id(relation.domain_of)  # it is as long as the cluster is large
        if key not in self.domains:
            self.domains[key] = np.array(relation.domain_of, dtype=np.int64)
        return self.domains[key]

    def _left(self, pod_class: PodClass, nodes: _Ints) -> _Ints:
        """Shares of each node that are left beside one more pod; `_NOTHING` where it does not fit."""
        left = np.zeros(len(nodes), dtype=np.int64)
        lacks = np.zeros(len(nodes), dtype=bool)
        for resource, amount in enumerate(pod_class.requests):
            if amount:
                rest, shift = self.room[nodes, resource] - amount, self.shifts[resource]
                left += (rest >> shift) * _PARTS // np.maximum(1, self.free[nodes, resource] >> shift)
                lacks |= rest < 0
        left[lacks] = _NOTHING
        return left
