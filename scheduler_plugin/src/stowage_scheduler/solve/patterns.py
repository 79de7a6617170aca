"""Upper bounds from patterns: what one node can hold as a whole, and how often each such filling is used.

The aggregated bound lets pods be cut over nodes; here they are not. With few pods per node, where much room is
lost because nothing fits into it, that proves what the aggregated bound can not. The relaxation is the
one of Gilmore and Gomory for cutting stock (Operations Research 9, 1961), solved by column generation. Each
round's prices give a bound by themselves (Lagrangian relaxation, in integers: no rounding can make it
wrong), so it may be stopped at any time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from ortools.linear_solver import pywraplp

from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import Problem
from stowage_scheduler.solve.bound import Bounds
from stowage_scheduler.solve.branching import is_out_of_reach
from stowage_scheduler.solve.effort import Clockwork
from stowage_scheduler.solve.knapsacks import Ints, Knapsacks, Valued

_SCALE = 10_000_000  # prices are integers in such parts
_MOST_KINDS = 12  # of nodes; each is priced in each round
_MOST_CLASSES = 150
_MOST_PODS_PER_NODE = 12  # beyond it little room is lost, and there are too many patterns
_ROUND_UNITS = 0.002  # what a round's linear programme counts in deterministic units
_UNITS_PER_FILLING = 6e-8  # looked at
_FEW, _MANY = 250, 200_000  # patterns in the making: per kind of nodes at first, in all at last
_MORE = 4
_ROUNDING = 1e-6
_PER_KIND = 30  # new patterns of a kind in one round


class NodeKind(Struct, frozen=True):
    """Nodes that are alike: room by resource, and most pods of each class on one of them."""

    free: tuple[int, ...]
    most: tuple[int, ...]
    nodes: tuple[int, ...]


def node_kinds(problem: Problem) -> list[NodeKind]:
    """Nodes grouped by what they can hold."""
    alike: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = defaultdict(list)
    for node, free in enumerate(problem.free):
        most = tuple(min(c.limit(node), c.total, max(0, problem.fit(c, node))) for c in problem.classes)
        alike[free, most].append(node)
    return [NodeKind(free, most, tuple(nodes)) for (free, most), nodes in alike.items()]


def pattern_bounds(placement: Placement, bounds: Bounds, limit: Clockwork, share: float) -> Bounds:
    """Lower the bounds of tiers that `placement` does not meet, within `share` seconds or units in all.

    A tier is bounded given what the tiers above reach, so it stops at the first one that stays unproven.
    """
    problem = placement.problem
    kinds = _few_kinds(placement)
    if kinds is None:
        return bounds
    placed = placement.placed_by_priority()
    found = dict(bounds.by_priority)
    until = limit.left() - share
    for priority in problem.priorities:
        if placed[priority] < found[priority]:
            tier = PatternTier(placement, kinds, priority)
            found[priority] = min(found[priority], tier.bound(found[priority], limit, until))
            if found[priority] == placed[priority] + 1 and is_out_of_reach(tier, found[priority], limit, until):
                found[priority] = placed[priority]
        if placed[priority] < found[priority]:
            break
    return Bounds(found)


def tier_of(placement: Placement, priority: int) -> PatternTier | None:
    """The relaxation for one tier; None where there are too many patterns."""
    kinds = _few_kinds(placement)
    return None if kinds is None else PatternTier(placement, kinds, priority)


def _few_kinds(placement: Placement) -> list[NodeKind] | None:
    if len(placement.problem.classes) > _MOST_CLASSES or _is_crowded(placement):
        return None
    kinds = node_kinds(placement.problem)
    return kinds if len(kinds) <= _MOST_KINDS else None


def _is_crowded(placement: Placement) -> bool:
    standing = sum(placement.placed(c) for c in placement.problem.classes)
    return standing > _MOST_PODS_PER_NODE * len(placement.problem.nodes)


class PatternTier:
    """Most pods of a priority or higher, when each tier above keeps what it has."""

    def __init__(self, placement: Placement, kinds: Sequence[NodeKind], priority: int) -> None:
        problem = placement.problem
        self.kinds = kinds
        self.fixed = problem.fixed_from(priority)
        self.placed = placement.placed_by_priority()[priority]
        self.classes = [c for c in problem.classes if c.priority >= priority]
        self.above = [
            (tier, placement.placed_by_priority()[tier] - problem.fixed_from(tier))
            for tier in problem.priorities
            if tier > priority
        ]
        chosen = [c.index for c in self.classes]
        most = np.array([[kind.most[index] for index in chosen] for kind in kinds], dtype=np.int64)
        requests = np.array([c.requests for c in self.classes], dtype=np.int64).reshape(len(chosen), -1)
        rooms = np.array([kind.free for kind in kinds], dtype=np.int64).reshape(len(kinds), -1)
        self.patterns: list[tuple[int, tuple[int, ...]]] = []  # the kind, and pods by class
        self.sacks = Knapsacks(requests, rooms, most, np.zeros_like(most))
        self.is_solved = False  # whether the programme has an answer
        self.box = [(0, c.total) for c in self.classes]  # fewest and most pods of each class
        self.number = np.array([len(kind.nodes) for kind in kinds], dtype=np.int64)
        self._state_master(placement)

    def _state_master(self, placement: Placement) -> None:
        """The linear programme: how many of each class, how often each pattern; patterns come later."""
        self.solver = pywraplp.Solver.CreateSolver("GLOP")
        infinity = self.solver.infinity()
        self.objective = self.solver.Objective()
        self.objective.SetMaximization()
        self.covered = [self.solver.Constraint(0, infinity) for _ in self.classes]  # patterns minus count
        self.used = [self.solver.Constraint(-infinity, len(kind.nodes)) for kind in self.kinds]
        self.kept = [self.solver.Constraint(count, infinity) for _, count in self.above]
        self.wanted = [self.solver.NumVar(0, c.total, "") for c in self.classes]
        for pod_class, row, variable in zip(self.classes, self.covered, self.wanted, strict=True):
            self.objective.SetCoefficient(variable, 1)
            row.SetCoefficient(variable, -1)
            for (tier, _), kept in zip(self.above, self.kept, strict=True):
                if pod_class.priority >= tier:
                    kept.SetCoefficient(variable, 1)
        for number, kind in enumerate(self.kinds):
            for node in kind.nodes:
                held = placement.on_node[node]
                self._add(number, [held.get(c.index, 0) for c in self.classes])

    def keep_to(self, box: Sequence[tuple[int, int]]) -> None:
        """Bound only plans with so many pods of each class: fewest and most."""
        self.box = list(box)
        for variable, (fewest, most) in zip(self.wanted, box, strict=True):
            variable.SetBounds(fewest, most)

    def _add(self, kind: int, pattern: Sequence[int]) -> None:
        self.patterns.append((kind, tuple(pattern)))
        variable = self.solver.NumVar(0, self.solver.infinity(), "")
        self.used[kind].SetCoefficient(variable, 1)
        for row, count in zip(self.covered, pattern, strict=True):
            if count:
                row.SetCoefficient(variable, count)

    def bound(self, known: int, limit: Clockwork, until: float) -> int:
        """The lowest bound that the time allows, not below what is placed; `known` is another one."""
        best = known
        kept, most_kept = _FEW, _MANY // len(self.kinds)
        nothing = np.zeros(len(self.classes), dtype=np.int64)
        while best > self.placed and limit.left() > until:
            limit.spent += _ROUND_UNITS
            self.is_solved = self.solver.Solve() == pywraplp.Solver.OPTIMAL
            if not self.is_solved:
                return best
            if self.fixed + int(self.objective.Value() + _ROUNDING) >= best:
                return best  # no prices can lower it
            # what one more pod of a class on nodes would be worth, and one more place asked of a tier above
            prices = np.array([max(0, round(-row.dual_value() * _SCALE)) for row in self.covered], dtype=np.int64)
            fines = [max(0, round(-row.dual_value() * _SCALE)) for row in self.kept]
            margins = np.array([round(row.dual_value() * _SCALE) for row in self.used], dtype=np.int64)
            wanted = np.maximum(0, margins + len(self.classes))
            valued = self.sacks.value(prices, nothing, wanted, kept)
            limit.spent += _UNITS_PER_FILLING * valued.looked_at
            total = int((valued.most * self.number).sum())
            best = min(best, self.fixed + self._lagrangian(prices.tolist(), fines, total) // _SCALE)
            if not self._ask(valued, wanted):
                soon = limit.units_for(_UNITS_PER_FILLING * valued.looked_at * _MORE)
                if valued.complete.all() or kept >= most_kept or limit.left() - soon < until:
                    return max(best, self.placed)
                kept = min(kept * _MORE, most_kept)
        return max(best, self.placed)

    def _ask(self, valued: Valued, wanted: Ints) -> bool:
        """Learn the best new patterns of each kind; whether there were any."""
        order = np.lexsort((-valued.worth, valued.nodes))
        order = order[valued.worth[order] > wanted[valued.nodes[order]]]
        first = np.searchsorted(valued.nodes[order], valued.nodes[order])
        chosen = order[np.arange(len(order)) - first < _PER_KIND]
        for number in chosen.tolist():
            self._add(int(valued.nodes[number]), valued.rows[number].tolist())
        return len(chosen) > 0

    def _lagrangian(self, prices: Sequence[int], fines: Sequence[int], patterns: int) -> int:
        """Bound, in scaled integers, that any prices and fines of no less than 0 give."""
        total = patterns
        for pod_class, price, (fewest, most) in zip(self.classes, prices, self.box, strict=True):
            gain = _SCALE + sum(
                fine for (tier, _), fine in zip(self.above, fines, strict=True) if pod_class.priority >= tier
            )
            total += (most if gain > price else fewest) * (gain - price)
        return total - sum(fine * count for (_, count), fine in zip(self.above, fines, strict=True))
