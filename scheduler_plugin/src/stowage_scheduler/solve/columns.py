"""The least cost of moves, where nodes' fillings are too many to list: they are made as prices ask for them.

Column generation over `solve.relaxation`, with all nodes priced at once by `solve.knapsacks`. Two things keep
the prices from swinging. A place that is missing costs little at first, so no pod is worth more than that; the charge
rises while places are missing at the end. And fillings are asked for between the prices that gave the best bound and
those of the last programme (Wentges, International Transactions in Operational Research 4, 1997).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace
from ortools.linear_solver import pywraplp

from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import Problem
from stowage_scheduler.solve.effort import Clockwork
from stowage_scheduler.solve.knapsacks import Knapsacks, Valued
from stowage_scheduler.solve.prices import Menu
from stowage_scheduler.solve.relaxation import SCALE, Duals, Ints, Objective, Relaxation

_MOST_CELLS = 4_000  # nodes times classes
_ROUND_UNITS = 0.002  # what a round counts in deterministic units
_UNITS_PER_FILLING = 1.5e-7  # looked at
_BACK = 0.5  # share of the way back to the best prices at which fillings are asked for
_FEW, _MANY = 60, 6_000  # fillings in the making per node, at first and at last
_MOST = 32_000  # of all nodes
_MORE = 4  # times as many, or times the charge
_CHOSEN_FROM = 1_000  # fillings in the making per node, where one of them is to be chosen
_MOST_CHOICES = 3_000  # of all nodes; each of them is a Boolean
_MOST_KNOWN = 800  # the same, of fillings that the bound has asked for
_PER_NODE = 5  # fillings of a node in one round
_SCARCE = 4  # such fillings per node
_CHARGE = 1.5  # times the dearest move, for a place that is missing
_NOTHING_LEFT = 1e-6


class Bounded(Struct, frozen=True):
    """No plan costs less than `bound` parts; `lowest[n]` is what node `n` has of it at these prices.

    `value`: parts that the programme with the known fillings costs, where it misses nothing; the bound may rise so far.
    """

    bound: int
    lowest: Ints
    duals: Duals
    value: float | None = None

    @property
    def least(self) -> int:
        """The bound in whole units of cost."""
        return max(0, -(-self.bound // SCALE))


def is_countable(problem: Problem) -> bool:
    """Whether so many nodes and classes are priced in a few milliseconds."""
    return 0 < len(problem.nodes) * len(problem.classes) <= _MOST_CELLS


class Columns(Relaxation):
    """The relaxation with the fillings of some plans, and those that its prices ask for."""

    def __init__(self, problem: Problem, targets: Mapping[int, int], plans: Iterable[Placement]) -> None:
        """State it with the fillings of `plans`."""
        super().__init__(problem, targets)
        nodes, classes = len(problem.nodes), len(problem.classes)
        requests = np.array([c.requests for c in problem.classes], dtype=np.int64).reshape(classes, -1)
        rooms = np.array(problem.free, dtype=np.int64).reshape(nodes, -1)
        most = np.array(
            [[min(c.limit(n), c.total, max(0, problem.fit(c, n))) for c in problem.classes] for n in range(nodes)],
            dtype=np.int64,
        )
        self.sacks = Knapsacks(requests, rooms, most, np.minimum(self.running, most))
        self.most = max(_FEW, min(_MANY, _MOST // nodes))  # fillings in the making per node
        self.everybody = self.running @ self.moves  # cost of a node that all leave
        self.known: set[tuple[int, bytes]] = set()
        self.rows: npt.NDArray[np.int16] = np.zeros((0, classes), dtype=np.int16)
        self.at: Ints = np.zeros(0, dtype=np.int64)
        self.cost: Ints = np.zeros(0, dtype=np.int64)
        for plan in plans:
            held = np.zeros((nodes, classes), dtype=np.int16)
            for node, counts in enumerate(plan.on_node):
                for index, count in counts.items():
                    held[node, index] = count
            self._learn(np.arange(nodes), held)

    def _learn(self, nodes: Ints, rows: npt.NDArray[np.int16]) -> bool:
        """Let nodes have these fillings, one each; whether any is new."""
        costs = np.maximum(0, self.running[nodes] - rows) @ self.moves
        fresh = []
        for number, (node, row) in enumerate(zip(nodes.tolist(), rows, strict=True)):
            key = node, row.tobytes()
            if key not in self.known:
                self.known.add(key)
                self._add_filling(node, row, int(costs[number]))
                fresh.append(number)
        self.rows = np.concatenate([self.rows, rows[fresh]])
        self.at = np.concatenate([self.at, nodes[fresh]])
        self.cost = np.concatenate([self.cost, costs[fresh]])
        return bool(fresh)

    def least_moves(self, lost: int, enough: int, limit: Clockwork, until: float) -> Bounded:
        """Bound the cost of moves where at most `lost` pods lose their place, as far as the time allows.

        Args:
            lost: pods.
            enough: units of cost; a bound that reaches it is not raised further.
            limit: of the whole search.
            until: seconds or units of it that must be left over.
        """
        self.losses.SetBounds(-self.solver.infinity(), lost)
        aim = Objective([0] * len(self.costs), [-cost for cost in self.costs], lost)
        self._aim_at(aim)
        charge = min(self.dear, _CHARGE * max(self.costs, default=1))
        self._charge(charge)
        kept = _FEW
        value: float | None = None
        best, _ = self._bounded(aim, self._simple_prices(), kept, limit)
        back = _BACK if best.bound > 0 else 0.0
        while limit.left() > until and best.least < enough:
            limit.spent += _ROUND_UNITS
            if self.solver.Solve() != pywraplp.Solver.OPTIMAL:
                break
            here = self._read(aim)
            margins = np.array([round(row.dual_value() * SCALE) for row in self.chosen], dtype=np.int64)
            missing = any(variable.solution_value() > _NOTHING_LEFT for variable in self.missing)
            value = None if missing else self.objective.Value() * SCALE
            point = here.towards(best.duals, back) if back else here
            found, valued = self._bounded(aim, point, kept, limit)
            if found.bound > best.bound:
                best = found
            if not valued.complete.all() and len(valued.rows) < _SCARCE * len(margins):
                kept = min(self.most, 2 * kept)  # few are better by now, and more must be built to find or exclude them
            if self._ask(valued, here, margins):
                back = _BACK
            elif back:
                back = 0.0
            elif not valued.complete.all() and kept < self.most:
                kept = min(self.most, kept * _MORE)
            elif missing and charge < self.dear:
                charge = min(self.dear, charge * _MORE)
                self._charge(charge)
                back = _BACK
            else:
                break
        return replace(best, value=value)

    def _simple_prices(self) -> Duals:
        """A pod of a class that waits is worth a move, others nothing: so much is paid where nobody fits beside all."""
        cheapest = min((cost for cost, c in zip(self.costs, self.problem.classes, strict=True) if c.running), default=0)
        waits = np.array([c.pending > 0 for c in self.problem.classes])
        rewards = np.zeros(len(self.targets), dtype=np.int64)
        rewards[-1:] = cheapest * SCALE
        return Duals(worth=waits * cheapest * SCALE, kept=np.zeros(len(waits), dtype=np.int64), rewards=rewards, fine=0)

    def _bounded(self, aim: Objective, duals: Duals, kept: int, limit: Clockwork) -> tuple[Bounded, Valued]:
        """The bound that prices give, and fillings that are better at these prices than all that are known."""
        dearest = self.cost * SCALE - self.rows.astype(np.int64) @ duals.worth
        lowest = np.full(len(self.everybody), np.iinfo(np.int64).max)
        np.minimum.at(lowest, self.at, dearest)
        valued = self.sacks.value(duals.worth, self.moves * SCALE, self.everybody * SCALE - lowest, kept)
        limit.spent += _UNITS_PER_FILLING * valued.looked_at
        lowest = np.minimum(lowest, self.everybody * SCALE - valued.most)
        return Bounded(self._fixed(aim, duals) + int(lowest.sum()), lowest, duals), valued

    def _ask(self, valued: Valued, duals: Duals, margins: Ints) -> bool:
        """Learn the best new fillings of each node; whether there were any."""
        left = np.maximum(0, self.running[valued.nodes] - valued.rows) @ self.moves
        gain = margins[valued.nodes] - left * SCALE + valued.rows.astype(np.int64) @ duals.worth
        order = np.lexsort((-gain, valued.nodes))
        order = order[gain[order] > len(self.costs)]
        nodes = valued.nodes[order]
        first = np.searchsorted(nodes, nodes)
        chosen = order[np.arange(len(nodes)) - first < _PER_NODE]
        return self._learn(valued.nodes[chosen], valued.rows[chosen])

    def menus(self, bounded: Bounded, gap: int, limit: Clockwork) -> list[Menu]:
        """By node, the fillings of plans that cost at most `gap` parts more than the bound, as far as found."""
        wanted = self.everybody * SCALE - bounded.lowest - gap
        valued = self.sacks.value(bounded.duals.worth, self.moves * SCALE, wanted, min(_CHOSEN_FROM, self.most))
        limit.spent += _UNITS_PER_FILLING * valued.looked_at
        found = []
        for node, complete in enumerate(valued.complete.tolist()):
            rows = np.concatenate([valued.rows[valued.nodes == node], self.rows[self.at == node]])
            rows = np.unique(rows, axis=0).astype(np.int64)
            found.append(self._menu(node, rows[~self.sacks.has_room(node, rows)], bounded, gap, complete=complete))
        return _best_of(found, _MOST_CHOICES)

    def known_menus(self, bounded: Bounded, gap: int) -> list[Menu]:
        """The same of the fillings that the bound has asked for: fewer, and none of them at random."""
        nodes = range(len(bounded.lowest))
        found = [self._menu(n, self.rows[self.at == n].astype(np.int64), bounded, gap, complete=False) for n in nodes]
        return _best_of(found, _MOST_KNOWN)

    def _menu(self, node: int, rows: Ints, bounded: Bounded, gap: int, *, complete: bool) -> Menu:
        costs = np.maximum(0, self.running[node] - rows) @ self.moves
        excess = costs * SCALE - rows @ bounded.duals.worth - int(bounded.lowest[node])
        left = excess <= gap
        return Menu(rows[left], costs[left], excess[left], complete)


def _best_of(menus: list[Menu], most_choices: int) -> list[Menu]:
    """Those that lose least, where there are more than can be chosen from."""
    excess = np.concatenate([menu.excess for menu in menus])
    if len(excess) <= most_choices:
        return menus
    most = int(np.partition(excess, most_choices)[most_choices])
    found = []
    for menu in menus:
        left = menu.excess < max(1, most)
        found.append(Menu(menu.rows[left], menu.costs[left], menu.excess[left], menu.complete and bool(left.all())))
    return found
