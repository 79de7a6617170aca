"""The whole search for one problem: greedy, bound, neighbourhoods, exact proof, fewer moves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from random import Random

from msgspec import Struct

from stowage_scheduler.greedy import fill, greedy
from stowage_scheduler.options import Budget
from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import Problem
from stowage_scheduler.rules import RULES
from stowage_scheduler.solve.bound import Bounds, aggregated_bounds
from stowage_scheduler.solve.calmer import Calmer, calmer, work_of
from stowage_scheduler.solve.columns import is_countable
from stowage_scheduler.solve.combine import combined
from stowage_scheduler.solve.crew import Crew, Threads
from stowage_scheduler.solve.effort import Clockwork
from stowage_scheduler.solve.exact import exact_calm, exact_tiers, is_small
from stowage_scheduler.solve.exchanging import exchanged
from stowage_scheduler.solve.fillings import Fillings, fillings
from stowage_scheduler.solve.gangs import place_gangs
from stowage_scheduler.solve.least import is_listable, least_disruption, tightest
from stowage_scheduler.solve.partwise import calm_parts
from stowage_scheduler.solve.patterns import pattern_bounds
from stowage_scheduler.solve.repair import repaired
from stowage_scheduler.solve.rule_cuts import rule_bounds
from stowage_scheduler.solve.ruled import is_exchangeable, is_plain
from stowage_scheduler.solve.search import Search

# shares of the budget
_EXACT_SHARE = 0.25  # a first try of the exact model, where it is small
_CALM_SHARE = 0.25  # kept for fewer moves; the search for more places must leave it
_BOUND_SHARE = 0.1
_LIST_SHARE = 0.25  # for a plan that meets the bounds from a list of all that nodes can hold; most take 1 %
_NEAR_SHARE = 0.15  # of what is left at the end, for undoing moves between a few nodes at a time
_LONG_NEAR_SHARE = 0.5  # the same where all nodes at once would take more than 1.5 times what is left
_QUICK = 1.5
_PARTS_SHARE = 0.8  # of what is left then, for parts of a cluster that is too large to be seen as one
_LEAST_PROOF_SHARE = 0.01  # for proving that no plan with the same pods moves less
_FIRST_STALL = 2  # fruitless changes of the kind of neighbourhood until it is time for better bounds
_GANG_SHARE = 0.25  # kept for gangs that no neighbourhood holds
_GANG_STALL = 2
_EXCHANGE_SHARE = 0.35
_COMBINE_SHARE = 0.3
_COMBINE_UNITS = {0: math.inf, 1: 2.0, 2: 0.5}  # by pods between plan and bound; less than that finds nothing
_LAST_STALL = 1  # of the search, where exchanges have been tried before
_EXACT_SHARE_AFTER = 0.1  # of the exact model, where exchanges have been tried before


class Solution(Struct, frozen=True):
    """The best placement found, the greedy one, bounds and the seconds by stage.

    `moves_bound`: no plan with as many pods placed in each tier and no more of them lost has moves that cost less, in
    restart seconds; None where it is not known.
    """

    placement: Placement
    greedy: Placement  # moves nothing
    bounds: Bounds
    stages: dict[str, float]
    moves_bound: int | None = None

    def moves_bound_of(self, other: Placement) -> int | None:
        """The bound on the cost of moves, if it holds for another placement."""
        return Calmer(self.placement, self.moves_bound).bound_of(other)


def solve(
    problem: Problem,
    budget: Budget,
    seed: int,
    clock: Callable[[], float],
    began: float,
    crew: Crew | None = None,
) -> Solution:
    """Answer within the budget, which runs since `began` on `clock`; never worse than the start.

    In wall mode the stages share `budget.seconds`; in deterministic mode they share
    `budget.deterministic_units`, each solver call runs on one thread, and the same input, seed, units and
    number of workers give the same answer.

    Args:
        problem: what to pack.
        budget: wall seconds or deterministic units.
        seed: of every random choice.
        clock: monotonic seconds.
        began: when the budget began to run.
        crew: warm workers to use; None: threads of this process, as many as the budget's workers.
    """
    if crew is None:
        with Threads(budget.workers) as threads:
            return _solve(problem, budget, seed, clock, began, threads)
    return _solve(problem, budget, seed, clock, began, crew)


def _solve(
    problem: Problem, budget: Budget, seed: int, clock: Callable[[], float], began: float, crew: Crew
) -> Solution:
    watch = _Stopwatch(clock)
    amount = budget.deterministic_units if budget.deterministic_units is not None else budget.seconds
    limit = Clockwork(clock, began + budget.seconds, budget.deterministic_units)
    random = Random(seed)  # noqa: S311 - repeatable search, not a secret

    small = is_small(problem)
    start = greedy(problem)
    watch.lap("greedy")
    first = repaired(start, limit, small=small)
    watch.lap("repair")
    if first.proven:
        bounds = Bounds(first.placement.placed_by_priority())
        return Solution(first.placement, start, bounds, watch.stages, first.placement.disruption()[1])
    bounds = aggregated_bounds(start, limit, amount * _BOUND_SHARE)
    bounds = rule_bounds(start, bounds, limit, amount * _BOUND_SHARE)
    watch.lap("bound")

    def tightened(known: Bounds) -> Bounds:
        """Given what is placed by now, for a tier's bound counts on what the tiers above have."""
        if not known.met_by(search.best):
            known = known.tightened(aggregated_bounds(search.best, limit, amount * _BOUND_SHARE))
            known = rule_bounds(search.best, known, limit, amount * _BOUND_SHARE)
            known = pattern_bounds(search.best, known, limit, amount * _BOUND_SHARE)
        watch.lap("bound")
        return known

    search = Search(first.placement, random, limit, crew)
    table = fillings(problem) if small and is_listable(problem) else None
    bounds, settled = _from_list(search, table, bounds, amount * _LIST_SHARE)
    watch.lap("least")
    exchanging = False
    if is_exchangeable(problem) and not bounds.met_by(search.best):
        until = max(0.0, limit.left() - amount * _EXCHANGE_SHARE)
        before = search.best
        search.adopt(exchanged(before, bounds.by_priority, random, limit, until))
        exchanging = search.best is not before and is_plain(problem) and problem.max_moves is None
        watch.lap("exchange")
    if not exchanging:
        search.place(bounds.by_priority, amount * (_CALM_SHARE + _EXACT_SHARE), stall=_FIRST_STALL)
        watch.lap("place")
    bounds = tightened(bounds)
    share = min(amount * _COMBINE_SHARE, limit.left() - amount * _CALM_SHARE)
    if exchanging and share >= limit.units_for(_COMBINE_UNITS[min(2, bounds.most_missed_by(search.best))]):
        search.adopt(combined(search.best, bounds.by_priority, limit, share))
        watch.lap("combine")
    if small and not bounds.met_by(search.best):
        share = amount * (_EXACT_SHARE_AFTER if exchanging else _EXACT_SHARE)
        if limit.units is None:
            share = min(budget.certify_seconds, share)
        best, bounds = exact_tiers(search.best, bounds, RULES, limit, share, budget.workers)
        search.adopt(best)
        watch.lap("exact")
    if problem.gangs and not bounds.met_by(search.best):
        search.place(bounds.by_priority, amount * (_CALM_SHARE + _GANG_SHARE), stall=_GANG_STALL)
        watch.lap("place")
        place_gangs(search, lambda first: Search(first, random, limit, crew), amount * _CALM_SHARE)
        watch.lap("gangs")
    search.place(bounds.by_priority, amount * _CALM_SHARE, stall=_LAST_STALL if exchanging else None)
    watch.lap("place")
    if not exchanging:
        bounds = tightened(bounds)
    settled = settled or _least(search, table, search.best.placed_by_priority(), limit.left() / 2)
    watch.lap("least")
    calm = Calmer(search.best, search.best.disruption()[1]) if settled else _calm(search, amount, small=small)
    watch.lap("calm")
    best = fill(search.best.copy(), lambda c: c.index)  # fewer moves may have opened room
    best = max(best, search.best, key=Placement.score)
    return Solution(best, start, bounds.raised(best), watch.stages, calm.bound_of(best))


def _from_list(search: Search, table: Fillings | None, bounds: Bounds, share: float) -> tuple[Bounds, bool]:
    """Try to meet the bounds, or those that are known from the list, at once; bounds, and what `_least` says."""
    if table is None:
        return bounds, False
    until = max(0.0, search.limit.left() - share)
    settled = _least(search, table, bounds.by_priority, share / 2)
    if not bounds.met_by(search.best):
        share = search.limit.left() - until
        targets = Bounds(tightest(search.problem, table, bounds.by_priority, search.limit, share))
        if targets != bounds:
            settled = _least(search, table, targets.by_priority, search.limit.left() - until)
        if targets.met_by(search.best):
            bounds = targets
    return bounds, settled


def _least(search: Search, table: Fillings | None, targets: Mapping[int, int], share: float) -> bool:
    """Go on from a plan with these tiers and little disruption; whether it is known that none does less."""
    if table is None:
        return False
    found = least_disruption(search.best, table, targets, search.limit, share)
    if found is None:
        return False
    search.adopt(found.placement)
    return found.proven


def _calm(search: Search, amount: float, *, small: bool) -> Calmer:
    """Undo needless moves, near by and then over all nodes, and bound what moves must cost."""
    limit = search.limit
    share = _NEAR_SHARE if limit.units_for(work_of(search.best)) <= _QUICK * limit.left() else _LONG_NEAR_SHARE
    search.calm(limit.left() * (1 - share) if is_countable(search.problem) else 0.0)
    if small and search.best.disrupted() and not is_listable(search.problem):
        before = max(amount * _LEAST_PROOF_SHARE, amount - limit.left())  # as long as all before took
        best, proven = exact_calm(search.best, RULES, limit, before)
        search.adopt(best)
        if proven:
            return Calmer(search.best, search.best.disruption()[1])
    if limit.units_for(work_of(search.best)) > limit.left():
        calm_parts(search, limit.left() * (1 - _PARTS_SHARE))
    found = calmer(search.best, limit, limit.left())
    search.adopt(found.placement)
    return found


class _Stopwatch:
    """Seconds by stage."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.last = clock()
        self.stages: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        now = self.clock()
        self.stages[stage] = self.stages.get(stage, 0.0) + now - self.last
        self.last = now
