"""Plans with given tiers and the least disruption, for small problems: one filling per node.

The prices of `solve.prices` leave out all fillings that no plan as good as the bound can hold (variable fixing by
reduced costs). Of a table of 8 times 500 fillings about 100 are left, and CP-SAT chooses among them in
milliseconds. Where nothing is found, a plan may cost a little more than the bound, and more fillings come back.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from ortools.sat.python import cp_model

from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import PodClass, Problem
from stowage_scheduler.relations import Apart
from stowage_scheduler.solve.effort import Aim, Clockwork, apply_effort
from stowage_scheduler.solve.fillings import Fillings
from stowage_scheduler.solve.prices import Menu, Prices
from stowage_scheduler.solve.relaxation import SCALE, Relaxation
from stowage_scheduler.solve.whole import whole_or_none

_STEPS = (0, 1, 3, 7)  # of the cheapest moves above the bound that are tried
_MOST_LOST = 2  # pods above the bound on those that lose their place that are tried
_MOST_CHOICES = 6_000  # fillings in one model; more take longer to build than they are worth

Choice = dict[int, dict[int, int]]  # per node the pods of each class


class Least(Struct, frozen=True):
    """A plan, and whether none with its tiers does less."""

    placement: Placement
    proven: bool


def is_listable(problem: Problem) -> bool:
    """Whether fillings say all about a node: no ports that clash, no rules over nodes, nobody takes only free room."""
    if not all(isinstance(relation, Apart) and relation.is_of_one_class for relation in problem.relations):
        return False
    if problem.device_limits:
        return False
    return not any(c.ports or (c.pending and not c.preempts) for c in problem.classes)


def least_disruption(
    placement: Placement, table: Fillings, targets: Mapping[int, int], limit: Clockwork, share: float
) -> Least | None:
    """The plan that reaches `targets`, pods by priority or higher, with the least disruption.

    Args:
        placement: of the problem; it is the answer where it reaches the targets and nothing does less.
        table: the problem's fillings.
        targets: not above what is possible, or there is no answer.
        limit: of the whole search.
        share: seconds or units of it that this may take.

    Returns:
        None when nothing was found in time or what was found breaks a limit that spans nodes.
    """
    until = max(0.0, limit.left() - share)
    prices = Prices(placement.problem, table, targets)
    reached = all(count >= targets[p] for p, count in placement.placed_by_priority().items())
    most_lost, most_moves = placement.disruption()
    cheapest = min(
        (c for c, pod in zip(prices.costs, placement.problem.classes, strict=True) if pod.running), default=1
    )
    fewest = more = 0
    if not _all_placed(placement.problem, targets) and any(prices.losable):
        more = _MOST_LOST
        priced = prices.least_lost(limit, until)
        if priced is None:
            return None
        fewest = max(0, priced.least)
    for lost in range(fewest, fewest + more + 1):
        priced = prices.least_moves(lost, limit, until)
        if priced is None:
            if limit.left() <= until:
                return None
            continue  # so few can not be lost, or not yet
        if reached and lost == fewest and (lost, priced.least * prices.unit) >= (most_lost, most_moves):
            return Least(placement, proven=True)
        for step in _STEPS:
            cost = priced.least + step * cheapest
            gap = cost * SCALE - priced.bound
            chosen, settled = Choosing(prices, prices.menus(priced, gap), gap, lost, cost).solve(limit, until)
            if chosen is not None:
                return _least(placement, targets, chosen, proven=settled and lost == fewest)
            if not settled:
                return None
    return None


def tightest(
    problem: Problem, table: Fillings, known: Mapping[int, int], limit: Clockwork, share: float
) -> dict[int, int]:
    """Bounds on pods placed by priority or higher, each given that the tiers above meet theirs.

    A plan that meets them all is lexicographically best. Where none does, those below the first tier that is missed
    say nothing.

    Args:
        problem: what to pack.
        table: its fillings.
        known: other such bounds.
        limit: of the whole search.
        share: seconds or units of it that this may take.
    """
    until = max(0.0, limit.left() - share)
    found: dict[int, int] = {}
    for priority, bound in known.items():
        most = Prices(problem, table, found).most_placed(priority, limit, until)
        found[priority] = bound if most is None else min(bound, most)
    return found


def _all_placed(problem: Problem, targets: Mapping[int, int]) -> bool:
    lowest = problem.priorities[-1]
    return targets[lowest] - problem.fixed_from(lowest) == sum(c.total for c in problem.classes)


def _least(placement: Placement, targets: Mapping[int, int], chosen: Choice, *, proven: bool) -> Least | None:
    found = placement.copy()
    for node, held in chosen.items():
        found.replace(node, held)
    placed = found.placed_by_priority()
    if not found.within_limits() or any(placed[priority] < count for priority, count in targets.items()):
        return None
    return Least(found, proven)


class Choosing:
    """The choice of one filling per node, within a cost."""

    def __init__(self, prices: Relaxation, menus: list[Menu], gap: int, lost: int, cost: int) -> None:
        """At most `lost` pods lose their place, moves cost at most `cost` units, `gap` parts above the bound."""
        self.prices = prices
        self.problem = prices.problem
        self.cp = cp_model.CpModel()
        self.menus = menus
        self.is_small = sum(len(menu.rows) for menu in self.menus) <= _MOST_CHOICES
        if self.is_small:
            self._choose(gap)
            self._place(lost, cost)

    def _choose(self, gap: int) -> None:
        """One filling per node; together they may not exceed the gap, which is known of each alone."""
        self.chosen: list[list[cp_model.IntVar]] = []
        self.cost: list[tuple[int, cp_model.IntVar]] = []
        self.covering: list[list[tuple[int, cp_model.IntVar]]] = [[] for _ in self.problem.classes]
        excesses: list[tuple[int, cp_model.IntVar]] = []
        for menu in self.menus:
            here = [self.cp.new_bool_var("") for _ in menu.rows]
            self.chosen.append(here)
            self.cp.add_exactly_one(here)
            self.cost += zip(menu.costs.tolist(), here, strict=True)
            excesses += zip(menu.excess.tolist(), here, strict=True)
            for row, variable in zip(menu.rows, here, strict=True):
                for index in row.nonzero()[0].tolist():
                    self.covering[index].append((int(row[index]), variable))
        self.cp.add(_sum(excesses) <= gap)

    def _place(self, lost: int, cost: int) -> None:
        """Who is placed, who loses its place, and what it costs."""
        placed, losing = [], []
        for pod_class, covering in zip(self.problem.classes, self.covering, strict=True):
            count = self.cp.new_int_var(0, pod_class.total, "")
            self.cp.add(_sum(covering) >= count)
            placed.append(count)
            if pod_class.running:
                gone = self.cp.new_int_var(0, min(lost, self.prices.losable[pod_class.index]), "")
                self.cp.add(count + gone >= pod_class.running_total)
                losing.append((1, gone))
                self.cost.append((-self.prices.costs[pod_class.index], gone))
        self.placed = placed
        for gang in self.problem.gangs:
            whole_or_none(self.cp, self.problem, gang, placed)
        for priority, wanted in self.prices.targets:
            self.cp.add(_sum([(1, placed[c.index]) for c in self.problem.classes if c.priority >= priority]) >= wanted)
        self.cp.add(_sum(losing) <= lost)
        self.cp.add(_sum(self.cost) <= cost)
        self.cp.minimize(_sum(self.cost))

    def solve(self, limit: Clockwork, until: float) -> tuple[Choice | None, bool]:
        """What was chosen, if anything, and whether that is settled: the best, or that there is nothing."""
        if not self.is_small or limit.left() <= until:
            return None, False
        solver = cp_model.CpSolver()
        apply_effort(solver, limit.effort(limit.left() - until, until, 0, Aim.CHOOSE))
        status = solver.solve(self.cp)
        limit.spent += solver.response_proto.deterministic_time
        settled = status in {cp_model.OPTIMAL, cp_model.INFEASIBLE}
        if status not in {cp_model.OPTIMAL, cp_model.FEASIBLE}:
            return None, settled
        choice: Choice = {node: {} for node in range(len(self.problem.nodes))}
        for node, (menu, here) in enumerate(zip(self.menus, self.chosen, strict=True)):
            row = next(row for row, variable in zip(menu.rows, here, strict=True) if solver.value(variable))
            choice[node] = {index: int(row[index]) for index in row.nonzero()[0].tolist()}
        for pod_class in self.problem.classes:
            wanted = pod_class.total if pod_class.gang is None else solver.value(self.placed[pod_class.index])
            _leave_out(choice, pod_class, wanted)
        return choice, settled


def _leave_out(choice: Choice, pod_class: PodClass, wanted: int) -> None:
    """Take away pods beyond `wanted` on nodes where they do not run."""
    index = pod_class.index
    surplus = sum(held.get(index, 0) for held in choice.values()) - wanted
    for node, held in choice.items():
        spare = min(max(0, surplus), held.get(index, 0) - pod_class.running.get(node, 0))
        if spare > 0:
            surplus -= spare
            held[index] -= spare
            if not held[index]:
                del held[index]


def _sum(terms: list[tuple[int, cp_model.IntVar]]) -> cp_model.LinearExprT:
    return cp_model.LinearExpr.weighted_sum([variable for _, variable in terms], [factor for factor, _ in terms])
