"""Upper bounds from the aggregated problem: all nodes as one, plus one row per set of eligible nodes.

With identical nodes this relaxation is as strong as the linear relaxation of the full problem and has
one integer per class, so it takes milliseconds; when a placement meets it, optimality is proven
without an exact solve (reference: packing notes 5.1).
"""

from __future__ import annotations

from msgspec import Struct
from ortools.sat.python import cp_model

from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import PodClass, Problem
from stowage_scheduler.solve.model import Effort, apply_effort


class Bounds(Struct, frozen=True):
    """Per priority, no plan places more pods of that priority or higher."""

    by_priority: dict[int, int]

    def met_by(self, placement: Placement) -> bool:
        """Whether a placement is proven optimal in every tier."""
        return placement.placed_by_priority() == self.by_priority

    def tightened(self, other: Bounds) -> Bounds:
        """The lower one of two bounds in each tier."""
        return Bounds({p: min(bound, other.by_priority[p]) for p, bound in self.by_priority.items()})


def aggregated_bounds(problem: Problem, placed: dict[int, int], effort: Effort) -> Bounds:
    """Bound each tier, given that the tiers above reach at least `placed` (pods by priority or higher).

    With the optimum of the tiers above the result bounds the lexicographic optimum; with less it is
    still a bound, only weaker.
    """
    most = {c.index: min(c.total, sum(_fit(problem, c, n) for n in range(len(problem.nodes)))) for c in problem.classes}
    model = cp_model.CpModel()
    counts = {c.index: model.new_int_var(0, most[c.index], "") for c in problem.classes}
    _capacity_rows(model, problem, counts)
    bounds: dict[int, int] = {}
    fixed = 0
    classes: list[PodClass] = []
    for priority in problem.priorities:
        fixed += problem.fixed.get(priority, 0)
        classes += [c for c in problem.classes if c.priority == priority]
        expression = cp_model.LinearExpr.sum([counts[c.index] for c in classes])
        trivial = sum(most[c.index] for c in classes)
        if placed[priority] - fixed >= trivial:
            bounds[priority] = trivial + fixed
        else:
            model.maximize(expression)
            solver = cp_model.CpSolver()
            apply_effort(solver, effort)
            status = solver.solve(model)
            proven = status in {cp_model.OPTIMAL, cp_model.FEASIBLE}
            best = int(solver.best_objective_bound + 1e-6) if proven else trivial
            bounds[priority] = max(placed[priority], fixed + min(trivial, best))
        model.add(expression >= placed[priority] - fixed)
    return Bounds(bounds)


def _fit(problem: Problem, pod_class: PodClass, node: int) -> int:
    """Most pods of a class that a node could hold if it were empty but for fixed pods."""
    most = pod_class.limit(node)
    for resource, amount in enumerate(pod_class.requests):
        if amount:
            most = min(most, problem.free[node][resource] // amount)
    return most


def _capacity_rows(model: cp_model.CpModel, problem: Problem, counts: dict[int, cp_model.IntVar]) -> None:
    """For each set of nodes that bounds some class: what fits only there must fit there together."""
    reach = {c.index: c.eligible | set(c.running) for c in problem.classes}
    for nodes in {frozenset(range(len(problem.nodes))), *map(frozenset, reach.values())}:
        inside = [c for c in problem.classes if reach[c.index] <= nodes]
        for resource in range(len(problem.resources)):
            terms = [(c.requests[resource], counts[c.index]) for c in inside if c.requests[resource]]
            if terms:
                room = sum(problem.free[node][resource] for node in nodes)
                row = cp_model.LinearExpr.weighted_sum([v for _, v in terms], [k for k, _ in terms])
                model.add(row <= room)
