"""The linear programme over fillings: a plan gives each node one, and pods of each class are placed or lost.

It is solved by column generation (Dantzig-Wolfe decomposition), as in `solve.patterns`. Its prices give a bound by
themselves (Lagrangian relaxation, in integers: no rounding can make it wrong), whatever fillings it knows. Where those
come from is left to `solve.prices` (a table of all) and `solve.columns` (made as they are needed).

Rules that span nodes, such as budgets and gangs, are left out here: a bound without them is a bound with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from math import gcd

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from ortools.linear_solver import pywraplp

from stowage_scheduler.problem import Problem

Ints = npt.NDArray[np.int64]
SCALE = 1_000_000  # prices are integers in such parts
_HIGHEST = 1 << 48  # price; sums over the pods of a node stay in 64 bits


class Objective(Struct, frozen=True):
    """What to minimise besides what fillings cost: costs of each pod placed and of each lost, by class."""

    placing: list[int]
    losing: list[int]
    lost: int | None  # most pods that may lose their place, None: any number


class Duals(Struct, frozen=True):
    """Prices of the rows, in parts: of pods on nodes and of running pods by class, of targets, of losses."""

    worth: Ints
    kept: Ints
    rewards: Ints
    fine: int

    def towards(self, other: Duals, share: float) -> Duals:
        """A point between two."""

        def between(mine: Ints, theirs: Ints) -> Ints:
            step: Ints = np.rint((theirs - mine) * share).astype(np.int64)
            return mine + step

        fine = self.fine + round((other.fine - self.fine) * share)
        return Duals(
            between(self.worth, other.worth),
            between(self.kept, other.kept),
            between(self.rewards, other.rewards),
            fine,
        )


class Relaxation:
    """The linear programme for plans that reach `targets`, pods placed by priority or higher."""

    def __init__(self, problem: Problem, targets: Mapping[int, int]) -> None:
        """State it without any filling. Costs of moves count in units of `unit`."""
        self.problem = problem
        self.targets = [(priority, count - problem.fixed_from(priority)) for priority, count in targets.items()]
        self.unit = reduce(gcd, (c.move_cost for c in problem.classes if c.running), 0) or 1
        self.costs = [c.move_cost // self.unit if c.running else 0 for c in problem.classes]
        self.moves = np.array(self.costs, dtype=np.int64)
        self.running = np.zeros((len(problem.nodes), len(problem.classes)), dtype=np.int64)
        for pod_class in problem.classes:
            for node, count in pod_class.running.items():
                self.running[node, pod_class.index] = count
        self.losable = [c.running_total if problem.may_evict else 0 for c in problem.classes]
        # so that it has an answer before it has all fillings: what is missing costs more than any plan
        self.dear = 4.0 * (
            1 + sum(c.total + cost * c.running_total for cost, c in zip(self.costs, problem.classes, strict=True))
        )
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
        self.missing = []
        for row, sign in [*((row, 1) for row in (*self.reached, *self.accounted)), (self.losses, -1)]:
            variable = self.solver.NumVar(0, infinity, "")
            row.SetCoefficient(variable, sign)
            self.missing.append(variable)
        self._charge(self.dear)

    def _charge(self, amount: float) -> None:
        """What each place costs that the targets ask for and fillings do not have."""
        for variable in self.missing:
            self.objective.SetCoefficient(variable, amount)

    def _aim_at(self, aim: Objective) -> None:
        for variables, costs in ((self.placed, aim.placing), (self.lost, aim.losing)):
            for variable, cost in zip(variables, costs, strict=True):
                self.objective.SetCoefficient(variable, cost)

    def _add_filling(self, node: int, row: Ints, cost: int) -> pywraplp.Variable:
        """Let a node have a filling, pods by class."""
        variable = self.solver.NumVar(0, self.solver.infinity(), "")
        self.chosen[node].SetCoefficient(variable, 1)
        self.objective.SetCoefficient(variable, cost)
        for index in row.nonzero()[0].tolist():
            self.covered[index].SetCoefficient(variable, int(row[index]))
        return variable

    def _duals(self, aim: Objective) -> tuple[Ints, int]:
        """Prices by class, and what the relaxation costs but for its fillings."""
        duals = self._read(aim)
        return duals.worth, self._fixed(aim, duals)

    def _read(self, aim: Objective) -> Duals:
        return Duals(
            worth=np.array([_price_of(row) for row in self.covered], dtype=np.int64),
            kept=np.array([_price_of(row) for row in self.accounted], dtype=np.int64),
            rewards=np.array([_price_of(row) for row in self.reached], dtype=np.int64),
            fine=0 if aim.lost is None else -min(_HIGHEST, max(0, round(-self.losses.dual_value() * SCALE))),
        )

    def _fixed(self, aim: Objective, duals: Duals) -> int:
        """What the relaxation costs but for its fillings; any prices that are not negative give a bound."""
        worth, kept, rewards, fine = duals.worth.tolist(), duals.kept.tolist(), duals.rewards.tolist(), duals.fine
        fixed: int = fine * (aim.lost or 0)
        fixed += sum(reward * count for reward, (_, count) in zip(rewards, self.targets, strict=True))
        for pod_class, losable in zip(self.problem.classes, self.losable, strict=True):
            index = pod_class.index
            due = sum(r for r, (p, _) in zip(rewards, self.targets, strict=True) if pod_class.priority >= p)
            fixed += kept[index] * pod_class.running_total
            placing, losing = aim.placing[index] * SCALE, aim.losing[index] * SCALE
            fixed += min(0, placing + worth[index] - due - kept[index]) * pod_class.total
            fixed += min(0, losing - kept[index] - fine) * losable
        return fixed


def _price_of(row: pywraplp.Constraint) -> int:
    """A price of a row that asks for at least something; any that is not negative gives a bound."""
    price: float = row.dual_value()
    return min(_HIGHEST, max(0, round(price * SCALE)))
