"""How many pods a plan can place, and how little disruption it can do: bounds, by prices of pods on nodes.

A plan gives each node one of its fillings. A linear programme over fillings (Dantzig-Wolfe decomposition, solved by
column generation as in `solve.patterns`, but with every filling in a table) prices each pod; the prices
give a bound by themselves (Lagrangian relaxation, in integers: no rounding can make it wrong). They also say
how much a plan loses against the bound by giving a node one filling rather than another, so that few fillings
are left to choose from (`solve.least`).

Rules that span nodes, such as budgets and gangs, are left out here: a bound without them is a bound with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from math import gcd

import numpy as np
from msgspec import Struct
from ortools.linear_solver import pywraplp

from stowage_scheduler.problem import Problem
from stowage_scheduler.solve.effort import Clockwork
from stowage_scheduler.solve.fillings import Fillings, Ints

SCALE = 1_000_000  # prices are integers in such parts
_HIGHEST = 1 << 48  # price; sums over the pods of a node stay in 64 bits
_ROUND_UNITS = 0.0005  # what a round counts in deterministic units
_NOTHING_LEFT = 1e-6  # of a row of the linear programme that could not be met


class Priced(Struct, frozen=True):
    """No plan costs less than `bound` parts; with filling `f` on node `n` none less than `excess[n][f]` more."""

    bound: int
    excess: tuple[Ints, ...]

    @property
    def least(self) -> int:
        """The bound in whole units of cost."""
        return -(-self.bound // SCALE)


class _Objective(Struct, frozen=True):
    """What to minimise: costs of fillings by node, of each pod placed and of each lost, by class."""

    fillings: list[Ints]
    placing: list[int]
    losing: list[int]
    lost: int | None  # most pods that may lose their place, None: any number


class Prices:
    """The linear programme for plans that reach `targets`, pods placed by priority or higher.

    Its objectives: most pods of a priority or higher (`most_placed`), fewest pods that lose their place
    (`least_lost`), and the least cost of moves, in units of `unit`, when not more than a given number lose theirs
    (`least_moves`).
    """

    def __init__(self, problem: Problem, table: Fillings, targets: Mapping[int, int]) -> None:
        """State it, with one filling per node."""
        self.problem = problem
        self.table = table
        self.targets = [(priority, count - problem.fixed_from(priority)) for priority, count in targets.items()]
        self.unit = reduce(gcd, (c.move_cost for c in problem.classes if c.running), 0) or 1
        self.costs = [c.move_cost // self.unit if c.running else 0 for c in problem.classes]
        self.running = np.zeros((len(problem.nodes), len(problem.classes)), dtype=np.int64)
        for pod_class in problem.classes:
            for node, count in pod_class.running.items():
                self.running[node, pod_class.index] = count
        self.losable = [c.running_total if problem.may_evict else 0 for c in problem.classes]
        moves = np.array(self.costs, dtype=np.int64)
        # what each filling of each node costs in departures
        self.leaving = [
            np.maximum(0, self.running[node] - table.of(node)) @ moves for node in range(len(problem.nodes))
        ]
        self._state()

    def _state(self) -> None:
        self.solver = pywraplp.Solver.CreateSolver("GLOP")
        infinity = self.solver.infinity()
        self.objective = self.solver.Objective()
        self.objective.SetMinimization()
        classes = self.problem.classes
        self.covered = [self.solver.Constraint(0, infinity) for _ in classes]  # by fillings, minus placed
        self.chosen = [self.solver.Constraint(1, 1) for _ in self.problem.nodes]
        self.reached = [self.solver.Constraint(count, infinity) for _, count in self.targets]
        self.accounted = [self.solver.Constraint(c.running_total, infinity) for c in classes]  # placed or lost
        self.losses = self.solver.Constraint(-infinity, infinity)
        self.placed, self.lost = [], []
        for pod_class, losable in zip(classes, self.losable, strict=True):
            placed = self.solver.NumVar(0, pod_class.total, "")
            lost = self.solver.NumVar(0, losable, "")
            self.covered[pod_class.index].SetCoefficient(placed, -1)
            self.accounted[pod_class.index].SetCoefficient(placed, 1)
            self.accounted[pod_class.index].SetCoefficient(lost, 1)
            self.losses.SetCoefficient(lost, 1)
            self.placed.append(placed)
            self.lost.append(lost)
            for (priority, _), row in zip(self.targets, self.reached, strict=True):
                if pod_class.priority >= priority:
                    row.SetCoefficient(placed, 1)
        # so that it has an answer before it has all fillings: what is missing costs more than any plan
        dear = 4.0 * (1 + sum(pod.total + c * pod.running_total for c, pod in zip(self.costs, classes, strict=True)))
        self.missing = []
        for row, sign in [*((row, 1) for row in (*self.reached, *self.accounted)), (self.losses, -1)]:
            variable = self.solver.NumVar(0, infinity, "")
            row.SetCoefficient(variable, sign)
            self.objective.SetCoefficient(variable, dear)
            self.missing.append(variable)
        self.columns: dict[tuple[int, int], pywraplp.Variable] = {}
        for node, leaving in enumerate(self.leaving):
            self._add(node, int(leaving.argmin()), 0)

    def _add(self, node: int, filling: int, cost: int) -> bool:
        if (node, filling) in self.columns:
            return False
        variable = self.columns[node, filling] = self.solver.NumVar(0, self.solver.infinity(), "")
        self.chosen[node].SetCoefficient(variable, 1)
        self.objective.SetCoefficient(variable, cost)
        row = self.table.of(node)[filling]
        for index in row.nonzero()[0].tolist():
            self.covered[index].SetCoefficient(variable, int(row[index]))
        return True

    def most_placed(self, priority: int, limit: Clockwork, until: float) -> int | None:
        """Bound the pods placed of a priority or higher; None when the targets can not be reached or time is up."""
        placing = [-1 if c.priority >= priority else 0 for c in self.problem.classes]
        priced = self._price(_Objective(self._free_of_charge(), placing, [0] * len(placing), None), limit, until)
        return None if priced is None else -priced.least + self.problem.fixed_from(priority)

    def least_lost(self, limit: Clockwork, until: float) -> Priced | None:
        """Bound how many pods lose their place; None as for `most_placed`."""
        each = [1] * len(self.costs)
        return self._price(_Objective(self._free_of_charge(), [0] * len(each), each, None), limit, until)

    def least_moves(self, lost: int, limit: Clockwork, until: float) -> Priced | None:
        """Bound the cost of moves where at most `lost` pods lose their place; None as for `most_placed`."""
        self.losses.SetBounds(-self.solver.infinity(), lost)
        # who loses its place leaves its node without a move
        losing = [-cost for cost in self.costs]
        return self._price(_Objective(self.leaving, [0] * len(losing), losing, lost), limit, until)

    def _free_of_charge(self) -> list[Ints]:
        return [np.zeros_like(leaving) for leaving in self.leaving]

    def _price(self, aim: _Objective, limit: Clockwork, until: float) -> Priced | None:
        for (node, filling), variable in self.columns.items():
            self.objective.SetCoefficient(variable, int(aim.fillings[node][filling]))
        for variables, costs in ((self.placed, aim.placing), (self.lost, aim.losing)):
            for variable, cost in zip(variables, costs, strict=True):
                self.objective.SetCoefficient(variable, cost)
        best: Priced | None = None
        while limit.left() > until:
            limit.spent += _ROUND_UNITS
            if self.solver.Solve() != pywraplp.Solver.OPTIMAL:
                return None
            worth, fixed = self._duals(aim)
            margins = [round(row.dual_value() * SCALE) - len(worth) for row in self.chosen]
            met = all(variable.solution_value() < _NOTHING_LEFT for variable in self.missing)
            products = [table @ worth for table in self.table.tables]
            excess: list[Ints] = []
            improved = False
            for node, costing in enumerate(aim.fillings):
                value = costing * SCALE - products[self.table.kind_of[node]]
                cheapest = int(value.argmin())
                lowest = int(value[cheapest])
                fixed += lowest
                excess.append(value - lowest)
                if lowest < margins[node]:
                    improved |= self._add(node, cheapest, int(costing[cheapest]))
            if best is None or fixed > best.bound:
                best = Priced(fixed, tuple(excess))
            if not improved:
                return best if met else None
        return None

    def _duals(self, aim: _Objective) -> tuple[Ints, int]:
        """Prices by class, and what the relaxation costs but for its fillings."""
        worth = np.array([_price_of(row) for row in self.covered], dtype=np.int64)
        rewards = [_price_of(row) for row in self.reached]
        kept = [_price_of(row) for row in self.accounted]
        fine = 0 if aim.lost is None else -min(_HIGHEST, max(0, round(-self.losses.dual_value() * SCALE)))
        fixed = fine * (aim.lost or 0)
        fixed += sum(reward * count for reward, (_, count) in zip(rewards, self.targets, strict=True))
        for pod_class, losable in zip(self.problem.classes, self.losable, strict=True):
            index = pod_class.index
            due = sum(r for r, (p, _) in zip(rewards, self.targets, strict=True) if pod_class.priority >= p)
            fixed += kept[index] * pod_class.running_total
            placing, losing = aim.placing[index] * SCALE, aim.losing[index] * SCALE
            fixed += min(0, placing + int(worth[index]) - due - kept[index]) * pod_class.total
            fixed += min(0, losing - kept[index] - fine) * losable
        return worth, fixed


def _price_of(row: pywraplp.Constraint) -> int:
    """A price of a row that asks for at least something; any that is not negative gives a bound."""
    price: float = row.dual_value()
    return min(_HIGHEST, max(0, round(price * SCALE)))
