"""Repair of a large cluster in which few pods wait: only what must change becomes a choice.

Nodes are chosen for the pods that no free room takes, so that the moves which make that room cost the least: a node
has a cost for each set of waiting pods that it could take (`solve.clearing`), and a dynamic programme over the sets
that are still to be placed picks nodes. It looks at lower bounds first and solves exactly only nodes that it picks.
Whoever has to leave goes to free room elsewhere. No plan that places the same pods costs less than the choice of nodes
alone, so where all of them find free room and nobody waits any more, nothing better exists.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from math import prod

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from stowage_scheduler.domain_sums import DomainSums
from stowage_scheduler.greedy import fill, sizes
from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import PodClass, Problem
from stowage_scheduler.relations import Within
from stowage_scheduler.solve.clearing import NEVER, Cleared, Clearing
from stowage_scheduler.solve.effort import Clockwork

_MOST_WAITING = 64  # pods without a place; more leave so little unchanged that the search does better
_MOST_GROUPS = 4
_NODES_PER_POD = 8  # that waits, at least; where fewer share the cluster, room is made in other ways as well
_MOST_SETS = 256  # of waiting pods that a node could take
_SHARE = 0.1  # of the budget that is left
_MOST_WORK = 50_000_000  # cells of tables that are looked at: half a second
_UNITS_PER_CELL = 6e-9  # deterministic
# cells that take as long
_ONE_LOOK = 2_000  # at one node for one set
_ONE_POD = 1_000  # that may leave
_ONE_NODE = 50  # for the bounds of one set, or to see what the domains have
_ONE_DOMAIN = 20_000  # that is looked at
_MOST_DOMAINS = 64  # of a level, those with the most free room
_Costs = npt.NDArray[np.int64]


class Repaired(Struct, frozen=True):
    """A placement, and whether no plan places more pods, or as many with less disruption."""

    placement: Placement
    proven: bool


class _Work(Struct):
    """How much may still be looked at."""

    limit: Clockwork
    until: float
    left: int = _MOST_WORK

    def is_too_much(self, cells: int) -> bool:
        """Whether so many cells are more than may be looked at; else they count as looked at."""
        if cells > self.left or self.limit.left() <= self.until:
            return True
        self.left -= cells
        self.limit.spent += cells * _UNITS_PER_CELL
        return False


def repaired(start: Placement, limit: Clockwork, *, small: bool) -> Repaired:
    """A plan with room made for what waits in `start`, the greedy answer; `start` where that is no better.

    Args:
        start: it moves nobody.
        limit: of the whole search, of which this takes a tenth at most.
        small: there are better ways for a small problem; then nothing is tried.
    """
    problem = start.problem
    if not any(start.unplaced(c) for c in problem.classes):
        return Repaired(start, proven=True)
    groups = [] if small else _groups(start)
    now = Placement(problem) if groups else start
    work = _Work(limit, limit.left() * (1 - _SHARE))
    leasts: list[int | None] = []
    for group in groups:
        choice = _cheapest(now, group, work)
        if choice is not None:
            _carry_out(now, group, choice)
            leasts.append(choice.least)
    if not leasts:
        return Repaired(start, proven=False)
    size = sizes(problem)
    found = fill(now, lambda c: -size[c.index])
    if not found.within_limits() or found.score() < start.score():
        return Repaired(start, proven=False)
    whole = not any(found.unplaced(c) and not _is_hopeless(problem, c) for c in problem.classes)
    # the least that the first one needs; what others need beyond that is not known
    return Repaired(found, proven=whole and found.disruption() == (0, leasts[0]))


def _groups(start: Placement) -> list[tuple[PodClass, ...]]:
    """What no free room takes, if it is little: all of it as one, or by gangs where some ask for domains."""
    problem = start.problem
    found: dict[int, tuple[PodClass, ...]] = {}
    for pod_class in problem.classes:
        if start.unplaced(pod_class):
            group = problem.together_with(pod_class)
            if all(_is_plain(problem, c) for c in group) and not _is_hopeless(problem, pod_class):
                found[group[0].index] = group
    units = sorted(found.values(), key=lambda group: (-max(c.priority for c in group), group[0].index))
    joint = tuple(c for group in units for c in group)
    waiting = sum(c.pending for c in joint)
    if waiting > _MOST_WAITING or waiting * _NODES_PER_POD > len(problem.nodes):
        return []
    if any(_levels(problem, group) for group in units):
        return units if len(units) <= _MOST_GROUPS else []
    return [joint] if joint else []


def _carry_out(placement: Placement, group: Sequence[PodClass], choice: _Choice) -> None:
    """Give the pods of a group their places, and take those away that are in the way."""
    for node, chosen in choice.nodes.items():
        for index, count in chosen.cleared.leaving.items():
            placement.add(placement.problem.classes[index], node, -count)
        for pod_class, count in zip(group, chosen.takes, strict=True):
            placement.add(pod_class, node, count)


def _is_hopeless(problem: Problem, pod_class: PodClass) -> bool:
    """Whether not even empty nodes would hold the pods of a class, or all of its gang."""
    if pod_class.gang is not None:
        return not problem.might_hold(pod_class.gang, len(problem.nodes))
    return not any(problem.fit(pod_class, node) for node in pod_class.eligible)


def _is_plain(problem: Problem, pod_class: PodClass) -> bool:
    """Whether room is all that a node must have for waiting pods of a class, and nobody else cares for them."""
    roles = (problem.relations[number] for number, _ in problem.roles_of[pod_class.index])
    return pod_class.preempts and not pod_class.ports and all(isinstance(relation, Within) for relation in roles)


def _levels(problem: Problem, group: Sequence[PodClass]) -> tuple[tuple[frozenset[int], ...], ...]:
    """The domains in one of which all of a gang has to stand, or should: the best level first."""
    gang = group[0].gang
    return () if gang is None else problem.gangs[gang].levels


class _Chosen(Struct, frozen=True):
    """What a node takes, per class of the group, and who leaves it for that."""

    takes: tuple[int, ...]
    cleared: Cleared


class _Choice(Struct, frozen=True):
    """Nodes for a group, the cost of all moves away from them (`NEVER` without nodes), and the least it can be."""

    nodes: dict[int, _Chosen]
    cost: int
    least: int | None  # None: not known


_NOWHERE = _Choice({}, NEVER, NEVER)


def _cheapest(placement: Placement, group: Sequence[PodClass], work: _Work) -> _Choice | None:
    """The cheapest choice, in one domain if the group has any; None when there is none or it takes too long."""
    land = _Land(placement, group)
    levels = _levels(placement.problem, group)
    if work.is_too_much(sum(len(domain) for level in levels for domain in level) * _ONE_NODE):
        return None
    roomy: list[Sequence[frozenset[int] | None]] = [land.roomiest(level) for level in levels] or [[None]]
    best, proven = _NOWHERE, all(len(level) <= _MOST_DOMAINS for level in roomy)
    for domain in (domain for level in roomy for domain in level[:_MOST_DOMAINS]):
        if domain is not None and work.is_too_much(_ONE_DOMAIN):
            proven = False
            break
        found = _Room(land, domain, work).choice()
        proven = proven and found is not None and found.least is not None
        if found is not None and found.cost < best.cost:
            best = found
    return _Choice(best.nodes, best.cost, best.cost if proven else None) if best.nodes else None


class _Land:
    """What all domains share: the group that waits, and what nodes have.

    Args:
        placement: of all pods.
        group: the classes that wait together.
    """

    def __init__(self, placement: Placement, group: Sequence[PodClass]) -> None:
        problem = placement.problem
        shape = len(problem.nodes), len(problem.resources)
        self.placement = placement
        self.group = group
        self.counts = tuple(placement.unplaced(c) for c in group)
        self.reach: frozenset[int] = frozenset().union(*(c.eligible for c in group))
        self.free = np.array(problem.free, dtype=np.int64).reshape(shape)
        self.requests = np.array([c.requests for c in group], dtype=np.int64).reshape(len(group), shape[1])
        self.size = sizes(problem)

    def roomiest(self, level: Sequence[frozenset[int]]) -> list[frozenset[int]]:
        """The domains whose sums allow for the group if all others left; those with the most free room come first."""
        sums = DomainSums(level)
        possible = np.ones(len(level), dtype=bool)
        for pod_class, asked, count in zip(self.group, self.requests, self.counts, strict=True):
            fits = np.full(len(self.free), count, dtype=np.int64)
            for resource in np.flatnonzero(asked).tolist():
                np.minimum(fits, self.free[:, resource] // asked[resource], out=fits)
            holds = np.zeros(len(fits), dtype=np.int64)
            eligible = sorted(pod_class.eligible)
            holds[eligible] = np.maximum(0, fits[eligible])
            possible &= sums.of(holds) >= count
        for here, wanted in zip(self.free.T, (np.array(self.counts) @ self.requests).tolist(), strict=True):
            if wanted:
                possible &= sums.of(np.maximum(0, here)) >= wanted
        room = np.array(self.placement.room, dtype=np.int64).reshape(self.free.shape)
        shares = np.zeros(len(level))
        for here, whole in zip(room.T, self.free.sum(axis=0).tolist(), strict=True):
            shares += sums.of(here) / max(1, whole)
        return [level[number] for number in np.lexsort((sums.rank, -shares)).tolist() if possible[number]]


class _Room:
    """What each node of a domain could take of a group, and at what cost."""

    def __init__(self, land: _Land, domain: frozenset[int] | None, work: _Work) -> None:
        self.land = land
        self.placement = land.placement
        self.problem = land.placement.problem
        self.group = land.group
        self.work = work
        self.counts = land.counts
        self.requests = land.requests
        candidates = np.array(sorted(land.reach if domain is None else land.reach & domain), dtype=np.int64)
        free = land.free[candidates]
        holds = np.zeros(len(candidates), dtype=bool)
        for asked in self.requests:
            holds |= (free >= asked).all(axis=1)
        self.nodes: list[int] = candidates[holds].tolist()
        self.sets = list(islice(self._sets((), free[holds].max(axis=0, initial=-1)), 1, _MOST_SETS + 2))
        self.costs: _Costs = np.full((len(self.sets), len(self.nodes)), NEVER, dtype=np.int64)
        self.cleared: dict[tuple[int, int], Cleared | None] = {}

    def _sets(self, takes: tuple[int, ...], room: _Costs) -> Iterator[tuple[int, ...]]:
        """The sets of waiting pods, by class, that go with `takes` of the first classes into `room`; nobody first."""
        if len(takes) == len(self.group):
            yield takes
            return
        asked = self.requests[len(takes)]
        for count in range(self.counts[len(takes)] + 1):
            left = room - count * asked
            if count and (left < 0).any():
                return
            yield from self._sets((*takes, count), left)

    def choice(self) -> _Choice | None:
        """The cheapest nodes, by bounds until all that is chosen is known exactly; None where it takes too long."""
        pods = sum(len(self.placement.on_node[node]) for node in self.nodes)
        looks = len(self.sets) * len(self.nodes)
        if len(self.sets) > _MOST_SETS or self.work.is_too_much(pods * _ONE_POD + looks * _ONE_NODE):
            return None
        clearing = Clearing(self.placement, self.nodes, self.land.size)
        for number, takes in enumerate(self.sets):
            self.costs[number] = clearing.bounds(self._wanted(takes))
            for count, pod_class in zip(takes, self.group, strict=True):
                if count:
                    closed = [not self._admits(pod_class, node, count) for node in self.nodes]
                    self.costs[number, np.array(closed, dtype=bool)] = NEVER
        while True:
            picked = self._picked()
            if not picked:
                return picked if picked is None else _NOWHERE
            unknown = [pair for pair in picked if pair not in self.cleared]
            if not unknown:
                break
            for number, row in unknown:
                found = clearing.cheapest(row, self._wanted(self.sets[number]))
                self.cleared[number, row] = found
                self.costs[number, row] = NEVER if found is None else found.cost
        nodes: dict[int, _Chosen] = {}
        for number, row in picked:
            cleared = self.cleared[number, row]
            if cleared is not None:  # or its cost would have been `NEVER`
                nodes[self.nodes[row]] = _Chosen(self.sets[number], cleared)
        cost = sum(chosen.cleared.cost for chosen in nodes.values())
        proven = all(cleared is None or cleared.proven for cleared in self.cleared.values())
        return _Choice(nodes, cost, cost if proven else None)

    def _admits(self, pod_class: PodClass, node: int, count: int) -> bool:
        """Whether rules other than room let so many pods of a class come to a node."""
        if node not in pod_class.eligible or count > pod_class.limit(node):
            return False
        return not self.problem.roles_of[pod_class.index] or self.placement.tallies.admits(pod_class, node)

    def _wanted(self, takes: Iterable[int]) -> list[int]:
        """The room for a set of waiting pods, per resource."""
        wanted: list[int] = (np.array(tuple(takes), dtype=np.int64) @ self.requests).tolist()
        return wanted

    def _picked(self) -> list[tuple[int, int]] | None:
        """Sets and the rows of nodes that take them, cheapest in all; empty when never all fit, None for too much."""
        rows = self._promising()
        shape = tuple(count + 1 for count in self.counts)
        if self.work.is_too_much((prod(shape) + _ONE_LOOK) * len(self.sets) * len(rows)):
            return None
        table = np.full(shape, NEVER, dtype=np.int64)  # by pods that have a place
        table[(0,) * len(shape)] = 0
        choices = np.full((len(rows), *shape), -1, dtype=np.int16)
        for place, row in enumerate(rows):
            better = table.copy()
            for number in np.flatnonzero(self.costs[:, row] < NEVER).tolist():
                takes = self.sets[number]
                after = tuple(slice(count, None) for count in takes)
                before = tuple(slice(None, size - count) for size, count in zip(shape, takes, strict=True))
                cost = table[before] + self.costs[number, row]
                wins = cost < better[after]
                better[after][wins] = cost[wins]
                choices[place][after][wins] = number
            table = better
        left = self.counts
        if table[left] >= NEVER:
            return []
        picked = []
        for place in range(len(rows) - 1, -1, -1):
            number = int(choices[(place, *left)])
            if number >= 0:
                picked.append((number, rows[place]))
                left = tuple(count - taken for count, taken in zip(left, self.sets[number], strict=True))
        return picked

    def _promising(self) -> list[int]:
        """Rows that matter: the cheapest for each set, as many as there are pods. Others can be exchanged for them."""
        most = sum(self.counts)
        found: set[int] = set()
        for costs in self.costs:
            order = np.argsort(costs, kind="stable")[:most]
            found.update(int(row) for row in order if costs[row] < NEVER)
        return sorted(found)
