"""Upper bounds from the aggregated problem: all nodes as one, plus one row per set of eligible nodes.

With identical nodes this relaxation is as strong as the linear relaxation of the full problem and has
one integer per class, so it takes milliseconds; when a placement meets it, optimality is proven
without an exact solve (reference: packing notes 5.1).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from ortools.sat.python import cp_model

from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import PodClass, Problem
from stowage_scheduler.solve.effort import Aim, Clockwork, apply_effort
from stowage_scheduler.solve.whole import whole_or_none

_MOST_SETS = 64  # of nodes that bound some class; each costs a row per resource and a comparison with all others
_LARGEST = 1 << 62
_FIRST = 64  # nodes


class Bounds(Struct, frozen=True):
    """Per priority, no lexicographically best plan places more pods of that priority or higher."""

    by_priority: dict[int, int]

    def met_by(self, placement: Placement) -> bool:
        """Whether a placement is proven optimal in every tier."""
        return placement.placed_by_priority() == self.by_priority

    def most_missed_by(self, placement: Placement) -> int:
        """Pods between a placement and the bound, in the tier where it is most."""
        placed = placement.placed_by_priority()
        return max((bound - placed[p] for p, bound in self.by_priority.items()), default=0)

    def tightened(self, other: Bounds) -> Bounds:
        """The lower one of two bounds in each tier."""
        return Bounds({p: min(bound, other.by_priority[p]) for p, bound in self.by_priority.items()})

    def raised(self, placement: Placement) -> Bounds:
        """Never below what a placement reaches: one that misses a higher tier may have more in a lower one."""
        placed = placement.placed_by_priority()
        return Bounds({p: max(bound, placed[p]) for p, bound in self.by_priority.items()})


def aggregated_bounds(placement: Placement, limit: Clockwork, share: float) -> Bounds:
    """Bound each tier, within `share` seconds or units; tiers that are not reached get a trivial bound.

    A tier is bounded given what the tiers above reach, as long as those are proven: beyond the first
    tier that is not, the best plan may have more there and less below.
    """
    problem = placement.problem
    most = _most(problem)
    model = cp_model.CpModel()
    counts = [model.new_int_var(0, most[c.index], "") for c in problem.classes]
    for gang in problem.gangs:
        whole_or_none(model, problem, gang, counts)
    _capacity_rows(model, problem, counts, most)
    return tier_bounds(model, counts, most, placement, limit, share)


def tier_bounds(
    model: cp_model.CpModel,
    counts: Sequence[cp_model.IntVar],
    most: Sequence[int],
    placement: Placement,
    limit: Clockwork,
    share: float,
    known: Mapping[int, int] | None = None,
) -> Bounds:
    """Bound each tier of a model that every plan with the same or better tiers satisfies.

    Args:
        model: gets a row for each tier that is proven.
        counts: by class, its pods that have a place.
        most: by class, how many that can be at most.
        placement: what is reached.
        limit: of the search.
        share: seconds or units.
        known: other bounds, by priority.
    """
    problem = placement.problem
    placed = placement.placed_by_priority()
    bounds: dict[int, int] = {}
    until = limit.left() - share
    classes: list[PodClass] = []
    proven = True
    for priority in problem.priorities:
        fixed = problem.fixed_from(priority)
        classes += [c for c in problem.classes if c.priority == priority]
        expression = cp_model.LinearExpr.sum([counts[c.index] for c in classes])
        trivial = sum(most[c.index] for c in classes)
        if known is not None:
            trivial = max(placed[priority] - fixed, min(trivial, known[priority] - fixed))
        bounds[priority] = trivial + fixed
        left = limit.left() - until
        if placed[priority] < trivial + fixed and left > 0:
            model.maximize(expression)
            solver = cp_model.CpSolver()
            # presolve takes long on rows that are nearly met, and does not count that as work
            apply_effort(solver, limit.effort(left, until, 0, Aim.CHOOSE))
            if solver.solve(model) in {cp_model.OPTIMAL, cp_model.FEASIBLE}:
                bounds[priority] = fixed + min(trivial, int(solver.best_objective_bound + 1e-6))
            limit.spent += solver.response_proto.deterministic_time
        if proven:
            model.add(expression >= placed[priority] - fixed)
        proven = proven and bounds[priority] == placed[priority]
    return Bounds(bounds)


def _most(problem: Problem) -> list[int]:
    """Per class, most pods that all nodes could hold if each were empty but for fixed pods."""
    free = np.array(problem.free, dtype=np.int64).reshape(len(problem.nodes), len(problem.resources))
    numbers: dict[frozenset[int], npt.NDArray[np.int64]] = {}
    result = []
    for pod_class in problem.classes:
        nodes = numbers.get(pod_class.eligible)
        if nodes is None:
            nodes = numbers[pod_class.eligible] = np.array(sorted(pod_class.eligible), dtype=np.int64)
        if pod_class.eligible.issuperset(pod_class.running):
            most = 0
        else:
            most = sum(count for node, count in pod_class.running.items() if node not in pod_class.eligible)
        most += _fits(free, nodes[:_FIRST], pod_class)  # in a large cluster a few nodes nearly always say enough
        if most < pod_class.total:
            most += _fits(free, nodes[_FIRST:], pod_class)
        result.append(min(pod_class.total, most))
    return result


def _fits(free: npt.NDArray[np.int64], nodes: npt.NDArray[np.int64], pod_class: PodClass) -> int:
    """How many pods of a class these nodes could hold."""
    fits = np.full(len(nodes), 1 if pod_class.ports or pod_class.alone else pod_class.total, dtype=np.int64)
    for resource, amount in enumerate(pod_class.requests):
        if amount:
            np.minimum(fits, free[nodes, resource] // amount, out=fits)
    return int(fits.sum())


def _capacity_rows(model: cp_model.CpModel, problem: Problem, counts: list[cp_model.IntVar], most: list[int]) -> None:
    """For each set of nodes that bounds some class: what fits only there must fit there together."""
    by_reach: dict[frozenset[int], list[PodClass]] = defaultdict(list)
    for pod_class in problem.classes:
        eligible = pod_class.eligible
        own = eligible.issuperset(pod_class.running)  # most classes share their eligible nodes
        by_reach[eligible if own else eligible.union(pod_class.running)].append(pod_class)
    every = frozenset(range(len(problem.nodes)))
    largest = sorted(by_reach, key=lambda nodes: (-len(by_reach[nodes]), sorted(nodes)))[:_MOST_SETS]
    for nodes in [every, *(nodes for nodes in largest if nodes != every)]:
        inside = [c for reach, classes in by_reach.items() if reach <= nodes for c in classes]
        for resource in range(len(problem.resources)):
            terms = [(c.requests[resource], c.index) for c in inside if c.requests[resource]]
            room = sum(problem.free[node][resource] for node in nodes)
            wanted = sum(amount * most[index] for amount, index in terms)
            if room < wanted < _LARGEST:  # else it bounds nothing, or is beyond the solver's range
                row = cp_model.LinearExpr.weighted_sum([counts[i] for _, i in terms], [k for k, _ in terms])
                model.add(row <= room)
