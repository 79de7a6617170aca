"""The exact model over all nodes, for problems that are small enough to finish."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace
from ortools.sat.python import cp_model

from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import Problem
from stowage_scheduler.relations import Near
from stowage_scheduler.rules.rule import Rule
from stowage_scheduler.solve.bound import Bounds
from stowage_scheduler.solve.effort import Aim, Clockwork, Effort, apply_effort
from stowage_scheduler.solve.model import CountModel

_SMALL = 1_000  # integers; beyond this the model does not finish in seconds


def is_small(problem: Problem) -> bool:
    """Whether the exact model is worth a try."""
    return sum(len(c.eligible | set(c.running)) for c in problem.classes) <= _SMALL


def exact_tiers(
    placement: Placement, bounds: Bounds, rules: Sequence[Rule], limit: Clockwork, share: float, threads: int
) -> tuple[Placement, Bounds]:
    """Raise the placement, or lower the bounds to meet it, tier by tier from the highest priority.

    Stops at the first tier that it can not settle within `share` seconds or units in all.
    """
    problem = placement.problem
    held_back = _is_held_back(placement)
    proven = dict(bounds.by_priority)
    best = placement
    until = limit.left() - share
    for priority in problem.priorities:
        if best.placed_by_priority()[priority] == proven[priority]:
            continue
        effort = _effort(limit, limit.left() - until, threads)
        if effort is None:
            break
        model, levels = _tier_model(best, rules, priority)
        model.cp.maximize(cp_model.LinearExpr.sum(levels))
        solver = cp_model.CpSolver()
        apply_effort(solver, effort)
        status = solver.solve(model.cp)
        limit.spent += solver.response_proto.deterministic_time
        if status not in {cp_model.OPTIMAL, cp_model.FEASIBLE}:
            break
        bound = int(solver.best_objective_bound + 1e-6) + problem.fixed_from(priority)
        if not held_back:
            proven[priority] = min(proven[priority], bound)
        better = best.copy()
        for node, held in model.read(solver).items():
            better.replace(node, held)
        best = max(best, better, key=Placement.score)
        if status != cp_model.OPTIMAL:
            break
    return best, Bounds(proven)


def exact_calm(placement: Placement, rules: Sequence[Rule], limit: Clockwork, share: float) -> tuple[Placement, bool]:
    """The same pods placed with the least disruption that `share` seconds or units find; whether none has less."""
    effort = _effort(limit, share, 1)
    if effort is None:
        return placement, False
    effort = replace(effort, aim=Aim.PLACE)  # twice as fast as the solver's defaults where it can be proven at all
    model = _everything(placement, rules)
    placed = placement.placed_by_priority()
    for priority, terms in _by_tier(model).items():
        model.cp.add(cp_model.LinearExpr.sum(terms) >= placed[priority] - placement.problem.fixed_from(priority))
    answer = model.maximise(model.disruption_levels(), effort)
    limit.spent += model.spent
    if answer is None:
        return placement, False
    calmer = placement.copy()
    for node, held in answer.items():
        calmer.replace(node, held)
    best = max(placement, calmer, key=Placement.score)
    return best, model.proven and best is calmer and not _is_held_back(placement)


def _is_held_back(placement: Placement) -> bool:
    """Whether the model allows less than there is.

    It does not place pods that preempt nobody, and it asks more of those that want company than they need, be they
    running or not.
    """
    problem = placement.problem
    followers = {i for r in problem.relations if isinstance(r, Near) for i, role in r.roles.items() if role.obeys}
    return bool(followers) or any(placement.unplaced(c) and not c.preempts for c in problem.classes)


def _tier_model(placement: Placement, rules: Sequence[Rule], priority: int) -> tuple[CountModel, list[cp_model.IntVar]]:
    """All nodes; the tiers above keep what they have; the variables of the tier to maximise."""
    problem = placement.problem
    model = _everything(placement, rules)
    placed = placement.placed_by_priority()
    tiers = _by_tier(model)
    for higher in problem.priorities:
        if higher <= priority:
            break
        model.cp.add(cp_model.LinearExpr.sum(tiers[higher]) >= placed[higher] - problem.fixed_from(higher))
    return model, tiers[priority]


def _everything(placement: Placement, rules: Sequence[Rule]) -> CountModel:
    problem = placement.problem
    return CountModel(placement, range(len(problem.nodes)), [c.index for c in problem.classes if c.preempts], rules)


def _by_tier(model: CountModel) -> dict[int, list[cp_model.IntVar]]:
    """For each priority the variables of pods of that priority or higher."""
    return {
        priority: [v for (c, _), v in model.count.items() if model.problem.classes[c].priority >= priority]
        for priority in model.problem.priorities
    }


def _effort(limit: Clockwork, amount: float, threads: int) -> Effort | None:
    if amount <= 0 or limit.left() <= 0:
        return None
    amount = min(amount, limit.left())
    if limit.units is not None:
        return Effort(deterministic=amount)
    return Effort(seconds=amount, workers=threads)
