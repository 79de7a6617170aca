"""A CP-SAT model that counts pods per class and node, over some or all nodes.

Nodes outside of the model keep what they have; what the model decides replaces everything on its own
nodes. The same class serves neighbourhoods of a few nodes and the exact model over all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

from msgspec import Struct
from ortools.sat.python import cp_model

from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import Problem
from stowage_scheduler.relations import Relation
from stowage_scheduler.rules.rule import Rule
from stowage_scheduler.solve.effort import Effort, apply_effort

Term = tuple[int, cp_model.IntVar]
_EXACT = 1 << 53  # weights beyond this lose precision in the solver's linear relaxation


class Level(Struct, frozen=True):
    """One level of a lexicographic objective: maximise `sum(coefficient * variable)`.

    `span` bounds how far the sum can vary; it decides which levels fit into one weighted sum.
    """

    terms: tuple[Term, ...]
    span: int


class CountModel:
    """The model; rules add their rows to it.

    `count[c, n]` are pods of class c on node n, `stay[c, n]` those of them that run there already,
    `lost[c]` running pods without a place. `placed_outside[c]` pods stand on nodes outside of the model.
    `whole[g]` says whether gang g has all its places; when it is false for a gang that stands in part on nodes
    outside, those places are given up as well (`Placement.without_halved_gangs`).
    """

    def __init__(
        self, placement: Placement, nodes: Sequence[int], growing: Iterable[int], rules: Sequence[Rule]
    ) -> None:
        """Model `nodes` with every class that stands or ran there; only classes of `growing` may grow."""
        self.problem: Problem = placement.problem
        self.spent = 0.0  # deterministic units of all solver calls
        self.placement = placement
        self.nodes = tuple(nodes)
        self.cp = cp_model.CpModel()
        inside = set(nodes)
        self.growing = frozenset(growing)
        chosen = set(self.growing)
        for node in nodes:
            chosen.update(placement.on_node[node])
            chosen.update(self.problem.running_on[node])
        self.classes = tuple(sorted(chosen))
        self.proven = False  # whether the last answer is known to be the best
        self.count: dict[tuple[int, int], cp_model.IntVar] = {}
        self.stay: dict[tuple[int, int], cp_model.IntVar] = {}
        self.lost: dict[int, cp_model.IntVar] = {}
        self.placed_outside: dict[int, int] = {}
        self._by_node: dict[int, list[tuple[int, cp_model.IntVar]]] = {node: [] for node in nodes}
        for index in self.classes:
            self._add_class(index)
        touched = {g for index in self.classes if (g := self.problem.classes[index].gang) is not None}
        self.whole = {number: self._whole(number) for number in sorted(touched)}
        self._inside = inside
        for rule in rules:
            rule.constrain(self)

    def _add_class(self, index: int) -> None:
        pod_class = self.problem.classes[index]
        where = self.placement.counts[index]
        outside = sum(count for node, count in where.items() if node not in self._by_node)
        self.placed_outside[index] = outside
        available = pod_class.total - outside
        if index not in self.growing:
            available = sum(where.values()) - outside
        here: list[cp_model.IntVar] = []
        for node in self.nodes:
            now = where.get(node, 0)
            # no more than fits: without this, products of large amounts leave the solver's range
            most = min(pod_class.limit(node), available, max(now, self.problem.fit(pod_class, node)))
            if most <= 0:
                continue
            variable = self.cp.new_int_var(0, most, "")
            self.count[index, node] = variable
            self._by_node[node].append((index, variable))
            self.cp.add_hint(variable, now)
            here.append(variable)
        for node, running in pod_class.running.items():
            if node not in self._by_node:
                continue
            stay = self.cp.new_int_var(0, running, "")
            self.stay[index, node] = stay
            now = where.get(node, 0)
            self.cp.add_hint(stay, min(running, now))
            if (index, node) in self.count:
                self.cp.add(stay <= self.count[index, node])
            else:
                self.cp.add(stay == 0)
        if len(here) > 1:  # one variable alone is bounded by its domain
            self.cp.add(cp_model.LinearExpr.sum(here) <= available)
        if pod_class.running:
            lost = self.cp.new_int_var(0, pod_class.running_total, "")
            self.cp.add(lost + cp_model.LinearExpr.sum(here) >= pod_class.running_total - outside)
            self.cp.add_hint(lost, self.placement.lost(pod_class))
            self.lost[index] = lost

    def _whole(self, gang: int) -> cp_model.IntVar:
        whole = self.cp.new_bool_var("")
        self.cp.add_hint(whole, any(self.placement.counts[index] for index in self.problem.gangs[gang].classes))
        return whole

    @cached_property
    def relations(self) -> list[tuple[int, Relation]]:
        """Rules between pods, by number, that pods of this model have a role in."""
        numbers = {number for index in self.classes for number, _ in self.problem.roles_of[index]}
        return [(number, self.problem.relations[number]) for number in sorted(numbers)]

    def outside(self, index: int) -> int:
        """Pods of a class on nodes outside of the model, be the class part of it or not."""
        if index in self.placed_outside:
            return self.placed_outside[index]
        return self.placement.placed(self.problem.classes[index])

    @cached_property
    def _leaving_outside(self) -> dict[int, int]:
        """Running pods outside of the model that do not stay, per class with any; limits that span all nodes ask."""
        found: dict[int, int] = {}
        for pod_class, leaving in zip(self.problem.classes, self.placement.leaving_of, strict=True):
            if not leaving:
                continue
            where = self.placement.counts[pod_class.index]
            found[pod_class.index] = sum(
                max(0, count - where.get(node, 0))
                for node, count in pod_class.running.items()
                if node not in self._inside
            )
        return found

    @property
    def disrupted_outside(self) -> int:
        """Running pods outside of the model that do not stay."""
        return sum(self._leaving_outside.values())

    def outside_budget(self, budget: int) -> tuple[int, int]:
        """(pods leaving, pods lost) under a budget that this model does not decide on."""
        leaving = lost = 0
        for pod_class in self.problem.covered_by[budget]:
            leaving += self._leaving_outside.get(pod_class.index, 0)
            if pod_class.index not in self.lost:
                lost += self.placement.lost(pod_class)
        return leaving, lost

    def on_node(self, node: int) -> list[tuple[int, cp_model.IntVar]]:
        """Classes with their variables on a node."""
        return self._by_node[node]

    def at_most(self, terms: Sequence[Term], bound: int) -> None:
        """Add `sum(coefficient * variable) <= bound`."""
        self.cp.add(_weighted(terms) <= bound)

    def at_least(self, terms: Sequence[Term], bound: int) -> None:
        """Add `sum(coefficient * variable) >= bound`."""
        self.cp.add(_weighted(terms) >= bound)

    def keep_placed(self) -> None:
        """Every class keeps as many pods placed on these nodes as it has there now."""
        by_class: dict[int, list[cp_model.IntVar]] = {}
        for (index, _), variable in self.count.items():
            by_class.setdefault(index, []).append(variable)
        for index, variables in by_class.items():
            now = sum(self.placement.counts[index].get(node, 0) for node in self.nodes)
            self.cp.add(cp_model.LinearExpr.sum(variables) == now)

    def tier_levels(self) -> list[Level]:
        """Pods placed, one level per priority from high to low."""
        levels: dict[int, list[tuple[int, cp_model.IntVar]]] = {}
        spans: dict[int, int] = {}
        for (index, _), variable in self.count.items():
            levels.setdefault(self.problem.classes[index].priority, []).append((1, variable))
        for index in self.classes:
            pod_class = self.problem.classes[index]
            spans[pod_class.priority] = spans.get(pod_class.priority, 0) + pod_class.total - self.placed_outside[index]
        for gang, whole in self.whole.items():
            for index in self.problem.gangs[gang].classes:
                priority, outside = self.problem.classes[index].priority, self.outside(index)
                if outside:
                    levels.setdefault(priority, []).append((outside, whole))
                    spans[priority] = spans.get(priority, 0) + outside
        return [Level(tuple(levels[p]), spans[p]) for p in sorted(levels, reverse=True)]

    def disruption_levels(self) -> list[Level]:
        """Fewest pods that lose their place, then the least cost of moves."""
        lost = tuple((-1, variable) for variable in self.lost.values())
        cost: list[tuple[int, cp_model.IntVar]] = []
        span = 0
        for (index, node), variable in self.stay.items():
            pod_class = self.problem.classes[index]
            cost.append((pod_class.move_cost, variable))
            span += pod_class.move_cost * pod_class.running[node]
        for index, variable in self.lost.items():
            cost.append((self.problem.classes[index].move_cost, variable))
        spans = sum(self.problem.classes[index].running_total for index in self.lost)
        return [Level(lost, spans), Level(tuple(cost), 2 * span)]

    def maximise(self, levels: Sequence[Level], effort: Effort) -> dict[int, dict[int, int]] | None:
        """Solve lexicographically; per node of the model the pods of each class, or None without an answer.

        Levels go into one weighted sum as long as it stays exact, else into one solve after the other,
        each frozen for the next.
        """
        answer: dict[int, dict[int, int]] | None = None
        self.proven = False
        proven = True
        for group in _groups(levels):
            objective, spans = group
            self.cp.maximize(objective)
            solver = cp_model.CpSolver()
            apply_effort(solver, effort)
            status = solver.solve(self.cp)
            self.spent += solver.response_proto.deterministic_time
            if status not in {cp_model.OPTIMAL, cp_model.FEASIBLE}:
                return answer
            answer = self.read(solver)
            proven = proven and status == cp_model.OPTIMAL
            if spans:
                self.cp.add(objective >= round(solver.objective_value))
        self.proven = proven
        return answer

    def read(self, solver: cp_model.CpSolver) -> dict[int, dict[int, int]]:
        """The counts of a solved model, per node."""
        answer: dict[int, dict[int, int]] = {}
        for node in self.nodes:
            held = {index: solver.value(variable) for index, variable in self._by_node[node]}
            answer[node] = {index: count for index, count in held.items() if count}
        return answer


def _weighted(terms: Sequence[Term]) -> cp_model.LinearExprT:
    return cp_model.LinearExpr.weighted_sum([v for _, v in terms], [k for k, _ in terms])


def _groups(levels: Sequence[Level]) -> list[tuple[cp_model.LinearExprT, bool]]:
    """Weighted sums that are equivalent to the levels, and whether more follow."""
    groups: list[list[Level]] = [[]]
    product = 1
    for level in levels:
        if not level.terms:
            continue
        if groups[-1] and product * (level.span + 1) > _EXACT:
            groups.append([])
            product = 1
        groups[-1].append(level)
        product *= level.span + 1
    result = []
    for position, group in enumerate(groups):
        weight = 1
        terms: list[Term] = []
        for level in reversed(group):
            terms.extend((coefficient * weight, variable) for coefficient, variable in level.terms)
            weight *= level.span + 1
        result.append((_weighted(terms), position + 1 < len(groups)))
    return result
