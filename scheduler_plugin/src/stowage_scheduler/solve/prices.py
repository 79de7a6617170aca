"""How many pods a plan can place, and how little disruption it can do: bounds, where every filling is in a table.

The prices of the relaxation (`solve.relaxation`) also say how much a plan loses against the bound by giving a node one
filling rather than another, so that few fillings are left to choose from (`solve.least`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from msgspec import Struct
from ortools.linear_solver import pywraplp

from stowage_scheduler.problem import Problem
from stowage_scheduler.solve.effort import Clockwork
from stowage_scheduler.solve.fillings import Fillings
from stowage_scheduler.solve.relaxation import SCALE, Ints, Objective, Relaxation

_ROUND_UNITS = 0.0005  # what a round counts in deterministic units
_NOTHING_LEFT = 1e-6  # of a row of the linear programme that could not be met


class Menu(Struct, frozen=True):
    """What a node may be given: fillings (pods by class), what each costs, and what it loses against the bound.

    `complete`: no plan of that cost gives the node another one, but for those that are part of one.
    """

    rows: Ints
    costs: Ints
    excess: Ints
    complete: bool = True


class Priced(Struct, frozen=True):
    """No plan costs less than `bound` parts; with filling `f` on node `n` none less than `excess[n][f]` more."""

    bound: int
    excess: tuple[Ints, ...]

    @property
    def least(self) -> int:
        """The bound in whole units of cost."""
        return -(-self.bound // SCALE)


class Prices(Relaxation):
    """The linear programme for plans that reach `targets`, pods placed by priority or higher.

    Its objectives: most pods of a priority or higher (`most_placed`), fewest pods that lose their place
    (`least_lost`), and the least cost of moves, in units of `unit`, when not more than a given number lose theirs
    (`least_moves`).
    """

    def __init__(self, problem: Problem, table: Fillings, targets: Mapping[int, int]) -> None:
        """State it, with one filling per node."""
        super().__init__(problem, targets)
        self.table = table
        # what each filling of each node costs in departures
        self.leaving = [
            np.maximum(0, self.running[node] - table.of(node)) @ self.moves for node in range(len(problem.nodes))
        ]
        self.columns: dict[tuple[int, int], pywraplp.Variable] = {}
        for node, leaving in enumerate(self.leaving):
            self._add(node, int(leaving.argmin()), 0)

    def _add(self, node: int, filling: int, cost: int) -> bool:
        if (node, filling) in self.columns:
            return False
        self.columns[node, filling] = self._add_filling(node, self.table.of(node)[filling], cost)
        return True

    def most_placed(self, priority: int, limit: Clockwork, until: float) -> int | None:
        """Bound the pods placed of a priority or higher; None when the targets can not be reached or time is up."""
        placing = [-1 if c.priority >= priority else 0 for c in self.problem.classes]
        priced = self._price(Objective(placing, [0] * len(placing), None), self._free_of_charge(), limit, until)
        return None if priced is None else -priced.least + self.problem.fixed_from(priority)

    def least_lost(self, limit: Clockwork, until: float) -> Priced | None:
        """Bound how many pods lose their place; None as for `most_placed`."""
        each = [1] * len(self.costs)
        return self._price(Objective([0] * len(each), each, None), self._free_of_charge(), limit, until)

    def least_moves(self, lost: int, limit: Clockwork, until: float) -> Priced | None:
        """Bound the cost of moves where at most `lost` pods lose their place; None as for `most_placed`."""
        self.losses.SetBounds(-self.solver.infinity(), lost)
        # who loses its place leaves its node without a move
        losing = [-cost for cost in self.costs]
        return self._price(Objective([0] * len(losing), losing, lost), self.leaving, limit, until)

    def menus(self, priced: Priced, gap: int) -> list[Menu]:
        """By node, the fillings of plans that cost at most `gap` parts more than the bound on moves."""
        found = []
        for node, excess in enumerate(priced.excess):
            left = np.flatnonzero(excess <= gap)
            found.append(Menu(self.table.of(node)[left], self.leaving[node][left], excess[left]))
        return found

    def _free_of_charge(self) -> list[Ints]:
        return [np.zeros_like(leaving) for leaving in self.leaving]

    def _price(self, aim: Objective, fillings: list[Ints], limit: Clockwork, until: float) -> Priced | None:
        for (node, filling), variable in self.columns.items():
            self.objective.SetCoefficient(variable, int(fillings[node][filling]))
        self._aim_at(aim)
        best: Priced | None = None
        while limit.left() > until:
            limit.spent += _ROUND_UNITS
            if self.solver.Solve() != self.solver.OPTIMAL:
                return None
            worth, fixed = self._duals(aim)
            margins = [round(row.dual_value() * SCALE) - len(worth) for row in self.chosen]
            met = all(variable.solution_value() < _NOTHING_LEFT for variable in self.missing)
            products = [table @ worth for table in self.table.tables]
            excess: list[Ints] = []
            improved = False
            for node, costing in enumerate(fillings):
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
