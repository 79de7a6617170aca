"""Pods that more than room decides on, while exchanges move the others: who stays, and who may come where.

Pods of gangs stay where a gang was placed as a whole. Running pods stay if the order matters in which they and others
arrive, as for affinity and spread: in a full cluster many moves of them have no safe order. All others with rules or
host ports are moved like those without; but each exchange with one of them is looked at first, with the counts that
rules are made of (`relations`). Rules hold before the first exchange and after each, so whatever is found keeps them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import PodClass, Problem
from stowage_scheduler.relations import Relation

Change = tuple[int, int, int]  # class, the node that one of its pods leaves, and the one that it comes to
_Flags = npt.NDArray[np.bool_]
_Ints = npt.NDArray[np.int64]


def is_exchangeable(problem: Problem) -> bool:
    """Whether it is known here what may stand where."""
    return not problem.device_limits


def is_plain(problem: Problem) -> bool:
    """Whether room decides alone where a pod may stand: no gangs, no rules between pods, nothing that clashes."""
    if problem.device_limits:
        return False
    return not problem.gangs and not problem.relations and not any(c.ports or c.alone for c in problem.classes)


def rooted(start: Placement) -> dict[int, Mapping[int, int]]:
    """By class whose pods no exchange moves, how many of them stand on each node."""
    problem = start.problem
    found: dict[int, Mapping[int, int]] = {}
    for c in problem.classes:
        if c.gang is not None:
            found[c.index] = dict(start.counts[c.index])
        elif any(problem.relations[number].is_serial for number, _ in problem.roles_of[c.index]):
            found[c.index] = c.running
    return found


class Ruled:
    """What stands where, as far as rules between pods and host ports ask."""

    def __init__(self, problem: Problem) -> None:
        """Begin with what runs."""
        self.problem = problem
        self.outside = len(problem.nodes)  # where those are that have no place
        self.concerns = [bool(problem.roles_of[c.index] or c.ports) for c in problem.classes]
        self.domains: dict[int, _Ints] = {}
        self.standing = Placement(problem)

    def begin(self, classes: Iterable[int], homes: Iterable[int], nodes: Iterable[int]) -> bool:
        """Start again from what runs, with these pods elsewhere (-1: nowhere yet); whether all rules hold then."""
        self.standing = Placement(self.problem)
        for index, home, node in zip(classes, homes, nodes, strict=True):
            if home != node and self.concerns[index]:
                self.move(index, home, node)
        return self.standing.relations_hold()

    def move(self, index: int, source: int, target: int) -> None:
        """Move one pod of a class, whatever the rules say."""
        pod_class = self.problem.classes[index]
        if 0 <= source < self.outside:
            self.standing.add(pod_class, source, -1)
        if 0 <= target < self.outside:
            self.standing.add(pod_class, target, 1)

    def allows(self, changes: Sequence[Change]) -> bool:
        """Whether every rule holds and no host port is asked for twice after some changes at once."""
        mine = [change for change in changes if self.concerns[change[0]]]
        if not mine:
            return True
        for index, source, _ in mine:
            self.move(index, source, -1)
        clear = True
        for index, _, target in mine:
            clear = clear and not self._clashes(self.problem.classes[index], target)
            self.move(index, -1, target)
        numbers = {number for index, _, _ in mine for number, _ in self.problem.roles_of[index]}
        clear = clear and all(self.standing.holds(number) for number in numbers)
        for index, source, target in mine:
            self.move(index, target, source)
        return clear

    def _clashes(self, pod_class: PodClass, node: int) -> bool:
        return bool(pod_class.ports) and 0 <= node < self.outside and self.standing.clashes(pod_class, node)

    def open_to(self, index: int, source: int) -> _Flags:
        """Nodes to which the rules let a pod of a class come that now stands on `source`."""
        pod_class = self.problem.classes[index]
        found = np.ones(self.outside + 1, dtype=np.bool_)
        self.move(index, source, -1)
        for relation, admitted in self.standing.tallies.admitted(pod_class):
            listed = np.isin(self._domains(relation), list(admitted.domains))
            found[:-1] &= listed != admitted.but
        for node in np.flatnonzero(found[:-1]).tolist() if pod_class.ports else ():
            found[node] = not self._clashes(pod_class, node)
        self.move(index, -1, source)
        return found

    def _domains(self, relation: Relation) -> _Ints:
        """The domain of each node, as an array; relations on the same key share it."""
        key = id(relation.domain_of)  # it is as long as the cluster is large
        if key not in self.domains:
            self.domains[key] = np.array(relation.domain_of, dtype=np.int64)
        return self.domains[key]
