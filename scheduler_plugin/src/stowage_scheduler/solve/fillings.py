"""Every filling of a node, listed: what can stand on it together, up to one pod more.

With few pods per node there are a few hundred to a few ten thousand of them, and a table of all makes
questions about whole nodes a product of matrices (`solve.prices`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from stowage_scheduler.problem import Problem
from stowage_scheduler.solve.patterns import NodeKind, node_kinds

Ints = npt.NDArray[np.int64]
_MOST = 50_000  # fillings of one kind of nodes, partial ones included: about 40 ms
_MOST_IN_ALL = 200_000  # of all kinds: in a cluster each node may be a kind of its own
_MOST_CELLS = 500_000  # fillings times nodes; each has a cost


class Fillings(Struct, frozen=True):
    """`tables[kind_of[n]]` has a row per filling of node `n`: pods by class."""

    kind_of: tuple[int, ...]
    tables: tuple[Ints, ...]

    def of(self, node: int) -> Ints:
        """The fillings of a node."""
        return self.tables[self.kind_of[node]]


def fillings(problem: Problem) -> Fillings | None:
    """The fillings to which no pod can be added, of each node; None when they are too many.

    A smaller filling is not needed: in a plan made of fillings, a pod too many can be left out on a node where
    it does not run, for no class runs more pods than it has.
    """
    kinds = node_kinds(problem)
    kind_of = [0] * len(problem.nodes)
    tables: list[Ints] = []
    left = _MOST_IN_ALL
    for number, kind in enumerate(kinds):
        table, listed = _table(problem, kind, min(_MOST, left))
        if table is None:
            return None
        left -= listed
        if listed * (len(kinds) - number - 1) > left:  # kinds differ little in how much they can hold
            return None
        tables.append(table)
        for node in kind.nodes:
            kind_of[node] = number
    if sum(len(table) * len(kind.nodes) for table, kind in zip(tables, kinds, strict=True)) > _MOST_CELLS:
        return None
    return Fillings(tuple(kind_of), tuple(tables))


def _table(problem: Problem, kind: NodeKind, most_listed: int) -> tuple[Ints | None, int]:
    """The fillings to which nothing can be added, None when too many; and how many there are with all others."""
    requests = np.array([c.requests for c in problem.classes], dtype=np.int64)
    most = np.array(kind.most, dtype=np.int64)
    room = np.array([kind.free], dtype=np.int64)
    table = np.zeros((1, len(problem.classes)), dtype=np.int64)
    whole = np.maximum(1, room[0])
    # large pods first: the table grows late
    for index in sorted(range(len(most)), key=lambda i: -float((requests[i] / whole).max(initial=0.0))):
        tables, rooms = [table], [room]
        for _ in range(int(most[index])):
            left = rooms[-1] - requests[index]
            fits = (left >= 0).all(axis=1)
            if not fits.any():
                break
            more = tables[-1][fits]
            more[:, index] += 1
            tables.append(more)
            rooms.append(left[fits])
            if sum(map(len, tables)) > most_listed:
                return None, 0
        table, room = np.concatenate(tables), np.concatenate(rooms)
    extensible = np.zeros(len(table), dtype=bool)
    for index, amounts in enumerate(requests):
        extensible |= (table[:, index] < most[index]) & (room >= amounts).all(axis=1)
    return table[~extensible], len(table)
