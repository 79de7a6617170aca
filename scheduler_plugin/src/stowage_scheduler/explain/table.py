"""What a pod lacks on each node, and what those who stand there could give: the table that conflicts are read from.

Each rule of the pod is a row: on each node a number that it lacks. Whoever stands in the way frees numbers of some
rows when it goes, and goes when no rule keeps it. A node is open while some rules hold when no row lacks more than
those who may go would free. So one question is a few sums of arrays, and the fewer rules hold the more nodes are open.

Rules between pods are looked at as they stand; a pod that is company to the one that waits stays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from functools import cached_property

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from stowage_scheduler.cluster import Pod
from stowage_scheduler.explain.clauses import (
    EVICTIONS_OFF,
    NEVER_PREEMPTS,
    NO_ROOM_ELSEWHERE,
    PRIORITY,
    Clause,
    ClauseKind,
)
from stowage_scheduler.explain.lacks import Row, rows_of
from stowage_scheduler.explain.situation import Amounts, Guard, Situation

Open = npt.NDArray[np.bool_]


class Way(Struct, frozen=True):
    """Pods that go when all rules of one of `unless` are given up, and what each node gains when they do.

    Of two sets the first lets them move, the second lose their place; a single one lets them leave by themselves.
    `holders` are the pods, with the number of their node; `freed[row][node]` what they free.
    """

    unless: tuple[frozenset[Clause], ...]
    holders: tuple[tuple[int, Pod], ...]
    freed: Amounts

    def goes(self, enforced: AbstractSet[Clause]) -> bool:
        """Whether nothing that is enforced keeps them."""
        return any(rules.isdisjoint(enforced) for rules in self.unless)


class Table:
    """What `pod` lacks.

    Args:
        situation: who stands where.
        pod: it waits.
        domain: numbers of the nodes that its gang is to be on, if that is decided.
    """

    def __init__(self, situation: Situation, pod: Pod, domain: frozenset[int] | None = None) -> None:
        self.situation = situation
        self.pod = pod
        found = list(rows_of(situation, pod, domain))
        self.facts = tuple(found)
        self.rows = tuple(row.clause for row in found)
        self.lacking = _stacked([row.lacking for row in found], len(situation.nodes))
        self.ways = tuple(self._ways(found))

    @cached_property
    def clauses(self) -> frozenset[Clause]:
        """All rules that have a say."""
        return frozenset(self.rows).union(*(rules for way in self.ways for rules in way.unless))

    def freed(self, enforced: AbstractSet[Clause]) -> Amounts:
        """By row and node, what those would free who may go."""
        total = np.zeros_like(self.lacking)
        for way in self.ways:
            if way.goes(enforced):
                total += way.freed
        return total

    def unmet(self, enforced: AbstractSet[Clause]) -> Open:
        """By row and node, whether a rule of the pod can not be met, be it enforced or not."""
        return np.asarray(self.lacking > self.freed(enforced))

    def open(self, enforced: AbstractSet[Clause]) -> Open:
        """By node, whether the pod could have a place there while only these rules hold."""
        asked = [number for number, clause in enumerate(self.rows) if clause in enforced]
        return np.asarray(~self.unmet(enforced)[asked].any(axis=0))

    def _ways(self, rows: list[Row]) -> Iterator[Way]:
        company = {uid for row in rows for uid in row.company}
        alike: dict[tuple[frozenset[Clause], ...], list[tuple[int, Pod]]] = defaultdict(list)
        freed: dict[tuple[frozenset[Clause], ...], Amounts] = {}
        for keep, holders in self.situation.kept.items():
            unless = self._unless(keep.guard, keep.priority)
            apart = [one for one in holders if one[1].uid in company] if company else []
            if unless not in freed:
                freed[unless] = np.zeros_like(self.lacking)
            for number, row in enumerate(rows):
                if row.resource:
                    freed[unless][number] += self.situation.amounts(keep, row.resource)
            alike[unless] += holders
            if apart:
                self._keep_company(rows, unless, apart, alike, freed)
        for number, row in enumerate(rows):
            self._add_marks(number, row, alike, freed)
        for unless, holders in alike.items():
            if freed[unless].any():
                yield Way(unless, tuple(holders), freed[unless])

    def _keep_company(
        self,
        rows: list[Row],
        unless: tuple[frozenset[Clause], ...],
        apart: list[tuple[int, Pod]],
        alike: dict[tuple[frozenset[Clause], ...], list[tuple[int, Pod]]],
        freed: dict[tuple[frozenset[Clause], ...], Amounts],
    ) -> None:
        """Company goes only when the pod does without it."""
        affinity = frozenset(clause for clause in self.rows if clause.kind is ClauseKind.POD_AFFINITY)
        stricter = tuple(rules | affinity for rules in unless)
        freed.setdefault(stricter, np.zeros_like(self.lacking))
        for node, pod in apart:
            alike[unless].remove((node, pod))
            alike[stricter].append((node, pod))
            for number, row in enumerate(rows):
                amount = pod.requests.get(row.resource, 0) if row.resource else 0
                freed[unless][number, node] -= amount
                freed[stricter][number, node] += amount

    def _add_marks(
        self,
        number: int,
        row: Row,
        alike: dict[tuple[frozenset[Clause], ...], list[tuple[int, Pod]]],
        freed: dict[tuple[frozenset[Clause], ...], Amounts],
    ) -> None:
        """What pods free of rules that count pods."""
        if not row.marks:
            return
        for unless, holders in alike.items():
            for _, pod in holders:
                if pod.uid in row.marks:
                    np.add.at(freed[unless][number], row.marks[pod.uid], 1)

    def _unless(self, guard: Guard, priority: int) -> tuple[frozenset[Clause], ...]:
        """The sets of rules each of which, when given up, lets pods go: they move, or lose their place."""
        if guard.holds_room:
            return (guard.always,)
        first = {NEVER_PREEMPTS} if self.pod.preemption_policy == "Never" else set[Clause]()
        lost = {PRIORITY} if priority >= self.pod.priority else set[Clause]()
        if not self.situation.outcome.options.evict_lower_priority:
            lost.add(EVICTIONS_OFF)
        always = guard.always.union(first)
        return always if guard.has_room else always | {NO_ROOM_ELSEWHERE}, always | guard.evicted | lost


def _stacked(rows: Iterable[Amounts], nodes: int) -> Amounts:
    found = list(rows)
    return np.stack(found) if found else np.zeros((0, nodes), dtype=np.int64)
