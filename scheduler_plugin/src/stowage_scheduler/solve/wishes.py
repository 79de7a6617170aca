"""Soft rules in numbers: what a node costs a pod, given who else stands where.

A soft rule between pods is a *wish*. It counts pairs: in each domain, every pod that has the rule with every other pod
that it speaks of. Counted so, what one more pod changes is what kube-scheduler adds up for it (its own preferred terms
against those that stand, and the preferred terms of those against it), and the sum over all pods is one number that
every step of a search lowers. Costs are in thousandths of the weights that people write (1 to 100).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import PodClass

MILLI = 1000
Ints = npt.NDArray[np.int64]


class Wish(Struct, frozen=True, eq=False):
    """One soft rule between pods.

    `cost` is that of one pair in a domain (negative: the pair likes it). `domain_of[n]` is the domain of node `n`, -1
    for none. `having` and `counted` are classes that have the rule, and of which it speaks. `standing_having[d]` and
    `standing_counted[d]` are pods that no plan touches; the last entry is for no domain.
    """

    cost: int
    domain_of: Ints
    having: frozenset[int]
    counted: frozenset[int]
    standing_having: Ints
    standing_counted: Ints


class SoftRules(Struct, frozen=True, eq=False):
    """The soft rules of pods that come to a node: wishes, and by class what single nodes cost."""

    wishes: tuple[Wish, ...] = ()
    nodes: Mapping[int, Ints] = {}


NO_SOFT_RULES = SoftRules()


class Wishes:
    """What nodes cost by soft rules, kept up to date by who places pods.

    Args:
        placement: where pods stand at first.
        rules: the rules; what single nodes cost a class by `PodClass.dislikes` is added.
    """

    def __init__(self, placement: Placement, rules: SoftRules) -> None:
        self._rules = rules
        self._having = [wish.standing_having.copy() for wish in rules.wishes]
        self._counted = [wish.standing_counted.copy() for wish in rules.wishes]
        self._roles: list[list[tuple[int, bool, bool]]] = [[] for _ in placement.problem.classes]
        for number, wish in enumerate(rules.wishes):
            for index in wish.having | wish.counted:
                self._roles[index].append((number, index in wish.having, index in wish.counted))
        self._none: Ints = np.zeros(len(placement.room), dtype=np.int64)
        self._nodes: dict[int, Ints] = {}
        for pod_class in placement.problem.classes:
            for node, count in placement.counts[pod_class.index].items() if self._roles[pod_class.index] else ():
                self.add(pod_class, node, count)

    def concern(self, pod_class: PodClass) -> bool:
        """Whether any soft rule speaks of a class."""
        index = pod_class.index
        return bool(self._roles[index] or pod_class.dislikes or index in self._rules.nodes)

    def work(self, pod_class: PodClass) -> int:
        """How many arrays `costs` looks at."""
        return len(self._roles[pod_class.index])

    def add(self, pod_class: PodClass, node: int, count: int) -> None:
        """Count `count` more pods (fewer, when negative) of a class on a node."""
        for number, has, counts in self._roles[pod_class.index]:
            domain = self._rules.wishes[number].domain_of[node]
            if has:
                self._having[number][domain] += count
            if counts:
                self._counted[number][domain] += count

    def costs(self, pod_class: PodClass) -> Ints:
        """What one more pod of a class would cost on each node; not to be changed."""
        found = self._of_nodes(pod_class)
        for number, has, counts in self._roles[pod_class.index]:
            wish = self._rules.wishes[number]
            met = self._having[number] * counts + self._counted[number] * has
            met[-1] = 0
            found = found + wish.cost * met[wish.domain_of]
        return found

    def cost(self, pod_class: PodClass, node: int) -> int:
        """What one more pod of a class would cost on one node."""
        found = int(self._of_nodes(pod_class)[node])
        for number, has, counts in self._roles[pod_class.index]:
            wish = self._rules.wishes[number]
            domain = int(wish.domain_of[node])
            if domain >= 0:
                found += wish.cost * int(self._having[number][domain] * counts + self._counted[number][domain] * has)
        return found

    def _of_nodes(self, pod_class: PodClass) -> Ints:
        """What the rules that look at one node alone say."""
        index = pod_class.index
        if not pod_class.dislikes and index not in self._rules.nodes:
            return self._none
        if index not in self._nodes:
            costs = self._rules.nodes.get(index, self._none).copy()
            for node, weight in pod_class.dislikes.items():
                costs[node] += weight * MILLI
            self._nodes[index] = costs
        return self._nodes[index]
