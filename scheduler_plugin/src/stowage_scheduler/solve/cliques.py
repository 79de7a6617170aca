"""Classes of which no two may share a domain: by anti-affinity, be it theirs or that of the other, or by host ports.

Sets of classes are integers with a bit for each class. A set of which any two exclude each other (a clique) has at most
one of them in a domain, which says more than its pairs: of three classes that avoid each other the pairs allow one and
a half per domain.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from stowage_scheduler.problem import PodClass, Problem
from stowage_scheduler.relations import Apart

Topology = tuple[int, ...]
"""The domain of each node (`Relation.domain_of`)."""

_MOST_CLIQUES = 400  # of a topology
_ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - as it is written in a pod


def exclusions(problem: Problem) -> dict[Topology, list[int]]:
    """By topology and class, the classes (itself among them, if so) that must not share a domain with it."""
    hosts = tuple(range(len(problem.nodes)))
    found: dict[Topology, list[int]] = {}
    for relation in problem.relations:
        if not isinstance(relation, Apart):
            continue
        topology = hosts if relation.is_by_node else relation.domain_of
        of_class = found.setdefault(topology, [0] * len(problem.classes))
        obey = _set(index for index, role in relation.roles.items() if role.obeys)
        counted = _set(index for index, role in relation.roles.items() if role.counts)
        for index, role in relation.roles.items():
            of_class[index] |= (counted if role.obeys else 0) | (obey if role.counts else 0)
    if any(c.ports for c in problem.classes):
        of_class = found.setdefault(hosts, [0] * len(problem.classes))
        for together in _port_holders(problem.classes):
            for index in _members(together):
                of_class[index] |= together
    return found


def cliques(excluded: Sequence[int]) -> list[tuple[int, ...]]:
    """Sets of classes that exclude one another, such that each pair is in one of them, and who excludes itself.

    Args:
        excluded: by class, those that must not be beside it.
    """
    found: list[tuple[int, ...]] = []
    covered = [0] * len(excluded)
    for index, others in enumerate(excluded):
        left = others & ~covered[index]
        while left and len(found) < _MOST_CLIQUES:
            first = (left & -left).bit_length() - 1
            clique = 1 << index | 1 << first
            common = excluded[index] & excluded[first] & ~clique
            while common:
                fresh = common & left or common  # those first whose pair with `index` is in no clique yet
                one = (fresh & -fresh).bit_length() - 1
                clique |= 1 << one
                common &= excluded[one] & ~clique
            for member in _members(clique):
                covered[member] |= clique
            left &= ~clique
            found.append(tuple(_members(clique)))
    return found


def _port_holders(classes: Iterable[PodClass]) -> list[int]:
    """Sets of classes that all want one port of one address."""
    by_port: dict[tuple[str, int], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for pod_class in classes:
        for port in pod_class.ports:
            by_port[port.protocol, port.port][port.ip] |= 1 << pod_class.index
    return [held | addresses.get(_ANY_ADDRESS, 0) for addresses in by_port.values() for held in addresses.values()]


def _set(indices: Iterable[int]) -> int:
    found = 0
    for index in indices:
        found |= 1 << index
    return found


def _members(classes: int) -> list[int]:
    found = []
    while classes:
        found.append((classes & -classes).bit_length() - 1)
        classes &= classes - 1
    return found
