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

from msgspec import Struct
from ortools.linear_solver import pywraplp
from ortools.sat.python import cp_model

from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import PodClass, Problem
from stowage_scheduler.solve.bound import Bounds
from stowage_scheduler.solve.effort import Aim, Clockwork, apply_effort

_SCALE = 10_000_000  # prices are integers in such parts
_MOST_KINDS = 12  # of nodes; each is priced in each round
_MOST_CLASSES = 150
_MOST_PODS_PER_NODE = 12  # beyond it little room is lost, and there are too many patterns
_ROUND_UNITS = 0.002  # what a round's linear programme counts in deterministic units
_PRICING_SHARE = 0.1  # seconds or units of one pattern


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
    if len(problem.classes) > _MOST_CLASSES or _is_crowded(placement):
        return bounds
    kinds = node_kinds(problem)
    if len(kinds) > _MOST_KINDS:
        return bounds
    placed = placement.placed_by_priority()
    found = dict(bounds.by_priority)
    until = limit.left() - share
    for priority in problem.priorities:
        if placed[priority] < found[priority]:
            tier = _Tier(placement, kinds, priority)
            found[priority] = min(found[priority], tier.bound(found[priority], limit, until))
        if placed[priority] < found[priority]:
            break
    return Bounds(found)


def _is_crowded(placement: Placement) -> bool:
    standing = sum(placement.placed(c) for c in placement.problem.classes)
    return standing > _MOST_PODS_PER_NODE * len(placement.problem.nodes)


class _Tier:
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
        self.pricing = [_Pricing(kind, self.classes) for kind in kinds]
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
        for pod_class, row in zip(self.classes, self.covered, strict=True):
            variable = self.solver.NumVar(0, pod_class.total, "")
            self.objective.SetCoefficient(variable, 1)
            row.SetCoefficient(variable, -1)
            for (tier, _), kept in zip(self.above, self.kept, strict=True):
                if pod_class.priority >= tier:
                    kept.SetCoefficient(variable, 1)
        for number, kind in enumerate(self.kinds):
            for node in kind.nodes:
                held = placement.on_node[node]
                self._add(number, [held.get(c.index, 0) for c in self.classes])

    def _add(self, kind: int, pattern: Sequence[int]) -> None:
        variable = self.solver.NumVar(0, self.solver.infinity(), "")
        self.used[kind].SetCoefficient(variable, 1)
        for row, count in zip(self.covered, pattern, strict=True):
            if count:
                row.SetCoefficient(variable, count)

    def bound(self, known: int, limit: Clockwork, until: float) -> int:
        """The lowest bound that the time allows, not below what is placed; `known` is another one."""
        best = known
        while best > self.placed and limit.left() > until:
            limit.spent += _ROUND_UNITS
            if self.solver.Solve() != pywraplp.Solver.OPTIMAL:
                return best
            # what one more pod of a class on nodes would be worth, and one more place asked of a tier above
            prices = [max(0, round(-row.dual_value() * _SCALE)) for row in self.covered]
            fines = [max(0, round(-row.dual_value() * _SCALE)) for row in self.kept]
            margins = [round(row.dual_value() * _SCALE) for row in self.used]  # read before the programme changes
            total = 0
            improved = False
            for number, (kind, pricing) in enumerate(zip(self.kinds, self.pricing, strict=True)):
                worth, pattern = pricing.best(prices, limit, until)
                total += worth * len(kind.nodes)
                if pattern is not None:
                    value = sum(p * count for p, count in zip(prices, pattern, strict=True))
                    if value > margins[number] + len(self.classes):
                        self._add(number, pattern)
                        improved = True
            best = min(best, self.fixed + self._lagrangian(prices, fines, total) // _SCALE)
            if not improved:
                return max(best, self.placed)
        return max(best, self.placed)

    def _lagrangian(self, prices: Sequence[int], fines: Sequence[int], patterns: int) -> int:
        """Bound, in scaled integers, that any prices and fines of no less than 0 give."""
        total = patterns
        for pod_class, price in zip(self.classes, prices, strict=True):
            gain = _SCALE + sum(
                fine for (tier, _), fine in zip(self.above, fines, strict=True) if pod_class.priority >= tier
            )
            total += pod_class.total * max(0, gain - price)
        return total - sum(fine * count for (_, count), fine in zip(self.above, fines, strict=True))


class _Pricing:
    """The most valuable filling of one node."""

    def __init__(self, kind: NodeKind, classes: Sequence[PodClass]) -> None:
        self.model = cp_model.CpModel()
        self.most = [kind.most[c.index] for c in classes]
        self.counts = [self.model.new_int_var(0, most, "") for most in self.most]
        for resource, room in enumerate(kind.free):
            terms = [(c.requests[resource], v) for c, v in zip(classes, self.counts, strict=True)]
            terms = [(amount, variable) for amount, variable in terms if amount]
            if terms:
                row = cp_model.LinearExpr.weighted_sum([v for _, v in terms], [k for k, _ in terms])
                self.model.add(row <= room)

    def best(self, prices: Sequence[int], limit: Clockwork, until: float) -> tuple[int, list[int] | None]:
        """An upper bound of what a filling is worth, and a good filling, None when none was found."""
        self.model.maximize(cp_model.LinearExpr.weighted_sum(self.counts, list(prices)))
        solver = cp_model.CpSolver()
        apply_effort(solver, limit.effort(_PRICING_SHARE, until, 0, Aim.PLACE))
        status = solver.solve(self.model)
        limit.spent += solver.response_proto.deterministic_time
        if status not in {cp_model.OPTIMAL, cp_model.FEASIBLE}:
            return sum(price * most for price, most in zip(prices, self.most, strict=True)), None
        return _ceiling(solver.best_objective_bound), [solver.value(variable) for variable in self.counts]


def _ceiling(bound: float) -> int:
    """A bound of an integer objective, which the solver gives as a float."""
    return int(bound + 0.5) if bound == int(bound) else int(bound) + 1
