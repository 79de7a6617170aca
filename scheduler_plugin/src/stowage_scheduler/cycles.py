"""Cycles among moves: groups of nodes that wait for each other's pods to leave."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from msgspec import Struct


class Moving(Protocol):
    """Something that goes from one node to another."""

    @property
    def source(self) -> int:
        """Where it leaves."""

    @property
    def target(self) -> int:
        """Where it arrives."""


class Cycle(Struct, frozen=True):
    """Moves among nodes that reach each other: each of the moves lies on a cycle.

    `closed`: no move leaves these nodes, so nothing else can make room on them.
    """

    moves: tuple[int, ...]
    nodes: frozenset[int]
    closed: bool


def cycles(moves: Mapping[int, Moving]) -> list[Cycle]:
    """Strongly connected groups of nodes with the moves within them, in the order of `moves`.

    Args:
        moves: by a number that names each.
    """
    group = _groups(moves.values())
    within: dict[int, list[int]] = defaultdict(list)
    left: set[int] = set()
    nodes: dict[int, set[int]] = defaultdict(set)
    for number, move in moves.items():
        if group[move.source] == group[move.target]:
            within[group[move.source]].append(number)
            nodes[group[move.source]] |= {move.source, move.target}
        else:
            left.add(group[move.source])
    return [Cycle(tuple(inner), frozenset(nodes[key]), key not in left) for key, inner in within.items()]


def nth_best(ranked: Sequence[int], group_of: Mapping[int, object], helps: Callable[[int], bool], number: int) -> int:
    """The member of that number (0: the first) when within each group those that help come before the others.

    Args:
        ranked: the groups one after the other; within a group, the order of those that are alike.
        group_of: by member.
        helps: asked only as far as needed, for an answer is dear.
        number: less than there are members.
    """
    start = number
    while start and group_of[ranked[start - 1]] == group_of[ranked[number]]:
        start -= 1
    useless = []
    for member in ranked[start:]:
        if group_of[member] != group_of[ranked[number]]:
            break
        if not helps(member):
            useless.append(member)
        elif start == number:
            return member
        else:
            start += 1
    return useless[number - start]


def _groups(moves: Collection[Moving]) -> dict[int, int]:
    """The strongly connected component of each node, named by one of its nodes (Kosaraju's two passes)."""
    onward: dict[int, list[int]] = defaultdict(list)
    back: dict[int, list[int]] = defaultdict(list)
    for source, target in dict.fromkeys((move.source, move.target) for move in moves):
        onward[source].append(target)
        back[target].append(source)
    nodes = sorted(set(onward) | set(back))
    finished: list[int] = []
    seen: set[int] = set()
    for node in nodes:
        finished += _finishing_order(node, onward, seen)
    group: dict[int, int] = {}
    for root in reversed(finished):
        todo = [root] if root not in group else []
        while todo:
            node = todo.pop()
            if node not in group:
                group[node] = root
                todo += [other for other in back.get(node, ()) if other not in group]
    return group


def _finishing_order(root: int, onward: Mapping[int, Sequence[int]], seen: set[int]) -> list[int]:
    """Nodes first reached from `root`, those whose successors are all reached first; adds them to `seen`."""
    if root in seen:
        return []
    seen.add(root)
    order: list[int] = []
    path = [(root, iter(onward.get(root, ())))]
    while path:
        node, successors = path[-1]
        follow = next((other for other in successors if other not in seen), None)
        if follow is None:
            order.append(node)
            path.pop()
        else:
            seen.add(follow)
            path.append((follow, iter(onward.get(follow, ()))))
    return order
