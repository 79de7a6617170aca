"""More pods by whole patterns: CP-SAT chooses how often each pattern of `solve.patterns` is used.

Where nodes are alike, it does not matter which of them has which pattern, so there is one integer per pattern instead
of one per class and node. Which node gets which is decided afterwards, so that few pods leave (assignment).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from ortools.graph.python import linear_sum_assignment
from ortools.sat.python import cp_model

from stowage_scheduler.greedy import fill
from stowage_scheduler.placement import Placement
from stowage_scheduler.solve.branching import is_out_of_reach
from stowage_scheduler.solve.effort import Aim, Clockwork, apply_effort
from stowage_scheduler.solve.patterns import PatternTier, tier_of
from stowage_scheduler.solve.relaxation import Ints

_LEARNING_SHARE = 0.6  # of the time, for finding patterns


def combined(placement: Placement, bounds: Mapping[int, int], limit: Clockwork, share: float) -> Placement:
    """A placement with more pods of the first tier that misses its bound; the same one where none is found.

    It knows nothing but room: gangs, rules between pods and host ports are not for it.
    """
    problem = placement.problem
    placed = placement.placed_by_priority()
    priority = next((p for p in problem.priorities if placed[p] < bounds[p]), None)
    tier = None if priority is None else tier_of(placement, priority)
    if tier is None or priority is None:
        return placement
    until = limit.left() - share
    learned = limit.left() - share * _LEARNING_SHARE
    if tier.bound(bounds[priority], limit, learned) >= bounds[priority]:
        is_out_of_reach(tier, bounds[priority], limit, learned)  # it learns patterns for whole numbers of pods
    chosen = _choose(tier, limit, until)
    if chosen is None:
        return placement
    found = Placement(problem)
    for node, pattern in _on_nodes(tier, chosen).items():
        found.replace(node, {c.index: count for c, count in zip(tier.classes, pattern, strict=True) if count})
    for pod_class in tier.classes:
        _leave_out(found, pod_class.index)
    found = fill(found, lambda c: c.index)
    return max(placement, found, key=Placement.score) if found.within_limits() else placement


def _choose(tier: PatternTier, limit: Clockwork, until: float) -> list[list[tuple[int, ...]]] | None:
    """By kind of nodes, a pattern for each node that has one; None when none place more."""
    if limit.left() <= until:
        return None
    model = cp_model.CpModel()
    used = [model.new_int_var(0, int(tier.number[kind]), "") for kind, _ in tier.patterns]
    for kind, number in enumerate(tier.number.tolist()):
        model.add(
            cp_model.LinearExpr.sum([v for v, (k, _) in zip(used, tier.patterns, strict=True) if k == kind]) <= number
        )
    counts = [model.new_int_var(0, c.total, "") for c in tier.classes]
    for index, count in enumerate(counts):
        terms = [(pattern[index], v) for v, (_, pattern) in zip(used, tier.patterns, strict=True) if pattern[index]]
        model.add(cp_model.LinearExpr.weighted_sum([v for _, v in terms], [k for k, _ in terms]) >= count)
    for above, wanted in tier.above:
        inside = [count for count, c in zip(counts, tier.classes, strict=True) if c.priority >= above]
        model.add(cp_model.LinearExpr.sum(inside) >= wanted)
    everything = cp_model.LinearExpr.sum(counts)
    model.add(everything > tier.placed - tier.fixed)
    model.maximize(everything)
    solver = cp_model.CpSolver()
    apply_effort(solver, limit.effort(limit.left() - until, until, 0, Aim.CHOOSE))
    status = solver.solve(model)
    limit.spent += solver.response_proto.deterministic_time
    if status not in {cp_model.OPTIMAL, cp_model.FEASIBLE}:
        return None
    chosen: list[list[tuple[int, ...]]] = [[] for _ in tier.kinds]
    for variable, (kind, pattern) in zip(used, tier.patterns, strict=True):
        chosen[kind] += [pattern] * solver.value(variable)
    return chosen


def _on_nodes(tier: PatternTier, chosen: list[list[tuple[int, ...]]]) -> dict[int, tuple[int, ...]]:
    """Which node gets which pattern, so that what leaves costs least."""
    found: dict[int, tuple[int, ...]] = {}
    costs = np.array([c.move_cost for c in tier.classes], dtype=np.int64)
    for kind, patterns in zip(tier.kinds, chosen, strict=True):
        rows: Ints = np.array(patterns, dtype=np.int64).reshape(len(patterns), len(tier.classes))
        assignment = linear_sum_assignment.SimpleLinearSumAssignment()
        for position, node in enumerate(kind.nodes):
            runs = np.array([c.running.get(node, 0) for c in tier.classes], dtype=np.int64)
            leaving = np.maximum(0, runs - rows) @ costs
            for number in range(len(kind.nodes)):
                cost = int(leaving[number]) if number < len(patterns) else int(runs @ costs)
                assignment.add_arc_with_cost(position, number, cost)
        assignment.solve()
        for position, node in enumerate(kind.nodes):
            number = assignment.right_mate(position)
            if number < len(patterns):
                found[node] = patterns[number]
    return found


def _leave_out(placement: Placement, index: int) -> None:
    """Take away pods beyond those of the class, where they do not run first."""
    pod_class = placement.problem.classes[index]
    surplus = placement.placed(pod_class) - pod_class.total
    nodes = sorted(placement.counts[index], key=lambda n: (pod_class.running.get(n, 0) > 0, n))
    for keeps in (True, False):
        for node in nodes:
            here = placement.counts[index].get(node, 0)
            spare = min(surplus, here - (pod_class.running.get(node, 0) if keeps else 0))
            if spare > 0:
                placement.add(pod_class, node, -spare)
                surplus -= spare
