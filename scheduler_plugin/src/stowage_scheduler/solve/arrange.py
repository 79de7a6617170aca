"""The last wish of a plan: of all that place the same pods with the same moves, the one whose nodes look best.

Pods that come to a node anyway (they waited, or they move) are shifted to where they suit best: first by soft rules,
then by the policy's tail. Both are sums over nodes and domains that every step lowers, so the search ends: where no
pod can be shifted alone, and no two can change places, to the better. The work is counted and not timed: the same
input gives the same answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from stowage_scheduler.options import Tail
from stowage_scheduler.placement import Placement
from stowage_scheduler.power import Power
from stowage_scheduler.problem import PodClass
from stowage_scheduler.solve.taste import Taste
from stowage_scheduler.solve.wishes import NO_SOFT_RULES, SoftRules, Wishes

_LOOK = 10  # cells that a node counts anyway
_MOST_LOOKS = 20  # nodes, or partners, that are tried for one pod
_EXCHANGE_WORK = 1_000  # cells that a partner counts
_MOST_OPENED = 3  # empty nodes that are tried as the new home of all pods of another
_MOST_WORK = 20_000_000  # cells of arrays: some tenths of a second
_WORK_OF_NODE = 2_000  # more of them for each node
_Ints = npt.NDArray[np.int64]


def arranged(
    placement: Placement, tail: Tail, rules: SoftRules = NO_SOFT_RULES, power: Power | None = None
) -> Placement:
    """The placement with the same score, or a better one, whose arrivals suit soft rules and tail at least as well.

    Args:
        placement: a plan, not changed.
        tail: of the policy.
        rules: soft rules of the classes of which pods come.
        power: what nodes draw; without it `LeastPower` is `Consolidate`.
    """
    if not arriving(placement):
        return placement
    search = _Arrangement(placement.copy(), tail, rules, power)
    search.run()
    return search.placement if search.placement.score() >= placement.score() else placement


def arriving(placement: Placement) -> tuple[int, ...]:
    """Classes of which pods come to a node, but for gangs: where a gang stands was chosen for all of it."""
    return tuple(c.index for c in placement.problem.classes if c.gang is None and _arrivals(placement, c))


def _arrivals(placement: Placement, pod_class: PodClass) -> list[int]:
    """Nodes with more pods of a class than run there, once for each of those."""
    counts = placement.counts[pod_class.index]
    return [node for node in sorted(counts) for _ in range(counts[node] - pod_class.running.get(node, 0))]


class _Arrangement:
    """A placement whose arrivals are shifted."""

    def __init__(self, placement: Placement, tail: Tail, rules: SoftRules, power: Power | None) -> None:
        problem = placement.problem
        self.placement = placement
        self.taste = Taste(placement, tail, power)
        self.wishes = Wishes(placement, rules)
        self.room: _Ints = np.array(placement.room, dtype=np.int64).reshape(len(problem.nodes), len(problem.resources))
        self.coming = [problem.classes[index] for index in arriving(placement)]
        self.asking = [pod_class for pod_class in self.coming if self.wishes.concern(pod_class)]
        self.nodes: dict[frozenset[int], _Ints] = {}
        self.left = _MOST_WORK + _WORK_OF_NODE * len(problem.nodes)

    def run(self) -> None:
        """Shift until nothing helps; soft rules have the first claim on the work."""
        improved = True
        while improved and self.left > 0:
            improved = self._all_shifted(self.asking, with_tail=False) or self._all_exchanged()
            improved = improved or self._all_shifted(self.coming, with_tail=True)
            improved = improved or (self.taste.power is not None and self._any_emptied(self.taste.power))

    def _all_shifted(self, classes: Iterable[PodClass], *, with_tail: bool) -> bool:
        improved = False
        for pod_class in classes:
            for node in _arrivals(self.placement, pod_class):
                self.left -= self._work(pod_class, with_tail=with_tail)
                if self.left <= 0:
                    return improved
                improved |= self._shift(pod_class, node, with_tail=with_tail)
        return improved

    def _work(self, pod_class: PodClass, *, with_tail: bool) -> int:
        # beside the cost of nodes: which have room, and which of them the rules between pods leave
        return len(self.room) * (_LOOK + self.wishes.work(pod_class) + (self.taste.work if with_tail else 0))

    def _shift(self, pod_class: PodClass, source: int, *, with_tail: bool) -> bool:
        """Move one pod that comes to `source` to a node that suits better, if there is one and nobody moves for it."""
        leaving = self.placement.leaving(pod_class)
        self._add(pod_class, source, -1)
        for target in self._better(pod_class, source, with_tail=with_tail):
            if not self._admits(pod_class, target):
                continue
            self._add(pod_class, target, 1)
            if self.placement.relations_hold() and self.placement.leaving(pod_class) <= leaving:
                return True
            self._add(pod_class, target, -1)
        self._add(pod_class, source, 1)
        return False

    def _better(self, pod_class: PodClass, source: int, *, with_tail: bool) -> list[int]:
        """Nodes with room that suit one more pod of a class better than `source`, the best first."""
        nodes, soft, change = self._priced(pod_class, pod_class.eligible | {source}, with_tail=with_tail)
        order = np.lexsort((nodes, change, soft))
        here = int(np.flatnonzero(nodes == source)[0])
        suits = (soft < soft[here]) | ((soft == soft[here]) & (change < change[here]))
        return [int(node) for node in nodes[order[suits[order]]][:_MOST_LOOKS]]

    def _best(self, pod_class: PodClass) -> list[int]:
        """Nodes with room for one more pod of a class, the best first."""
        self.left -= self._work(pod_class, with_tail=True)
        nodes, soft, change = self._priced(pod_class, pod_class.eligible, with_tail=True)
        return [int(node) for node in nodes[np.lexsort((nodes, change, soft))]]

    def _priced(self, pod_class: PodClass, reach: frozenset[int], *, with_tail: bool) -> tuple[_Ints, _Ints, _Ints]:
        """Nodes with room for one more pod of a class, and what it costs there by soft rules and by the tail."""
        request = np.array(pod_class.requests, dtype=np.int64)
        nodes = self.nodes.get(reach)
        if nodes is None:
            nodes = self.nodes[reach] = np.array(sorted(reach), dtype=np.int64)
        room = self.room[nodes]
        fits = (room >= request).all(axis=1)
        nodes, room = nodes[fits], room[fits]
        soft = self.wishes.costs(pod_class)[nodes]
        change = self.taste.change(nodes, room, pod_class) if with_tail else np.zeros(len(nodes), dtype=np.int64)
        return nodes, soft, change

    def _all_exchanged(self) -> bool:
        improved = False
        for pod_class in self.asking:
            for node in sorted(set(_arrivals(self.placement, pod_class))):
                if self.left <= 0:
                    return improved
                if self.placement.counts[pod_class.index].get(node, 0) > pod_class.running.get(node, 0):
                    improved |= self._exchange(pod_class, node)
        return improved

    def _exchange(self, pod_class: PodClass, node: int) -> bool:
        """Let one pod that comes to `node` change places with another that comes, if soft rules are better off."""
        self._add(pod_class, node, -1)
        self.left -= self._work(pod_class, with_tail=False)
        costs = self.wishes.costs(pod_class)
        partners = [
            (int(costs[there]), there, other)
            for other in self.coming
            if other is not pod_class and node in other.eligible
            for there in sorted(set(_arrivals(self.placement, other)))
            if there != node and there in pod_class.eligible
        ]
        for _, there, other in sorted(partners, key=lambda one: (one[0], one[1], one[2].index))[:_MOST_LOOKS]:
            self.left -= _EXCHANGE_WORK
            if self._exchanged(pod_class, node, other, there):
                return True
        self._add(pod_class, node, 1)
        return False

    def _exchanged(self, one: PodClass, here: int, other: PodClass, there: int) -> bool:
        """Put a pod of `one`, which was taken from `here`, in the place of one of `other`, and that one there."""
        leaving = self.placement.leaving(one), self.placement.leaving(other)  # whoever comes leaves no home behind
        self._add(other, there, -1)
        gain = self.wishes.cost(one, here) + self.wishes.cost(other, there)
        gain -= self.wishes.cost(one, there) + self.wishes.cost(other, here)
        if gain > 0 and self._fits(one, there) and self._fits(other, here) and self._admits(one, there):
            self._add(one, there, 1)
            if self._admits(other, here):
                self._add(other, here, 1)
                kept = self.placement.leaving(one) <= leaving[0] and self.placement.leaving(other) <= leaving[1]
                if kept and self.placement.relations_hold():
                    return True
                self._add(other, here, -1)
            self._add(one, there, -1)
        self._add(other, there, 1)
        return False

    def _any_emptied(self, power: Power) -> bool:
        """Whether a node could be emptied: all that come to it go elsewhere, which no pod alone gains by."""
        for node, held in enumerate(self.placement.on_node):
            if held and not power.held[node] and self.left > 0:
                classes = [self.placement.problem.classes[index] for index in held]
                if all(c.gang is None and not c.running.get(node, 0) for c in classes) and self._emptied(node, classes):
                    return True
        return False

    def _emptied(self, node: int, classes: Sequence[PodClass]) -> bool:
        """Let all pods of a node go where they cost less together; the first may open an empty node for the others."""
        pods = [c for c in classes for _ in range(self.placement.counts[c.index][node])]
        pods.sort(key=lambda c: (-self._share(c, node), c.index))
        leaving = self.placement.leaving_of.copy()
        saved = self._sum(self._price(pod_class, node, taken=True) for pod_class in pods)
        for opener in (None, *self._cheap(pods[0], node)):
            done: list[tuple[PodClass, int]] = []
            spent = self._sum(self._settled(pods, node, opener, done))
            kept = all(now <= before for now, before in zip(self.placement.leaving_of, leaving, strict=True))
            if len(done) == len(pods) and spent < saved and kept and self.placement.relations_hold():
                return True
            for pod_class, target in reversed(done):
                self._add(pod_class, target, -1)
        for pod_class in pods:
            self._add(pod_class, node, 1)
        return False

    def _settled(
        self, pods: Sequence[PodClass], source: int, opener: int | None, done: list[tuple[PodClass, int]]
    ) -> Iterator[tuple[int, int]]:
        """Put pods on their best nodes but `source`, the first on `opener`; prices, and in `done` who went where."""
        for number, pod_class in enumerate(pods):
            first = opener is not None and number == 0
            targets = [opener] if first and opener is not None else self._best(pod_class)
            target = next((t for t in targets if t != source and self._admits(pod_class, t)), None)
            if target is None:
                return
            yield self._price(pod_class, target, taken=False)
            done.append((pod_class, target))

    def _price(self, pod_class: PodClass, node: int, *, taken: bool) -> tuple[int, int]:
        """What one pod costs on a node by soft rules and by the tail; it is taken away, or put there."""
        if taken:
            self._add(pod_class, node, -1)
        where = np.array([node], dtype=np.int64)
        price = self.wishes.cost(pod_class, node), int(self.taste.change(where, self.room[where], pod_class)[0])
        if not taken:
            self._add(pod_class, node, 1)
        return price

    @staticmethod
    def _sum(prices: Iterable[tuple[int, int]]) -> tuple[int, int]:
        soft, tail = zip(*prices, strict=True) if (prices := list(prices)) else ((), ())
        return sum(soft), sum(tail)

    def _cheap(self, pod_class: PodClass, node: int) -> list[int]:
        """Empty nodes that a pod could open."""
        empty = [n for n in self._best(pod_class) if not self.placement.on_node[n] and n != node]
        return empty[:_MOST_OPENED]

    def _share(self, pod_class: PodClass, node: int) -> int:
        free = self.placement.problem.free[node]
        return max((1000 * a // max(1, f) for a, f in zip(pod_class.requests, free, strict=True)), default=0)

    def _fits(self, pod_class: PodClass, node: int) -> bool:
        room: Sequence[int] = self.placement.room[node]
        return all(amount <= left for amount, left in zip(pod_class.requests, room, strict=True))

    def _admits(self, pod_class: PodClass, node: int) -> bool:
        """Whether the rules that need no look at the whole plan let one more pod of a class come to a node."""
        placement = self.placement
        if placement.counts[pod_class.index].get(node, 0) >= pod_class.limit(node):
            return False
        return placement.tallies.admits(pod_class, node) and not placement.clashes(pod_class, node)

    def _add(self, pod_class: PodClass, node: int, count: int) -> None:
        self.placement.add(pod_class, node, count)
        self.wishes.add(pod_class, node, count)
        self.room[node] = self.placement.room[node]
        self.taste.moved(node)
