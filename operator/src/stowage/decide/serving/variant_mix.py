"""How many replicas of which accelerator serve a model at the least cost, proven.

The programme is Mélange's (Griggs et al., arXiv:2404.14527), written anew from the paper: requests fall into buckets by
input and output length, a bucket's demand is cut into slices, each slice goes to one variant, and the replicas of a
variant carry the sum of what its slices take of them. Slices of a bucket are alike, so they are counted here and not
chosen one by one: that takes their symmetry away, and the linear relaxation then bounds so well that branching on it
ends in a fraction of a second (docs/design/serving-mix.md has the comparison).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from ortools.sat.python import cp_model

from stowage.decide.serving.mix_problem import REPLICA, Lack, Mix, MixProblem, MixReason, Shares

DEFAULT_UNITS: Final = 2.0
"""Deterministic time of CP-SAT, about a second each."""


def cheapest_mix(problem: MixProblem, *, seed: int = 0, units: float = DEFAULT_UNITS) -> Mix:
    """The mix of least cost that serves all demand within stocks and least counts.

    Costs and loads are whole numbers in the problem itself, so the solver's proof is one of the problem and not of
    something near it. What is found is never dearer than the best single variant, whatever the budget.

    Args:
        problem: what to choose from.
        seed: of the search; the same problem, seed and units give the same answer.
        units: deterministic time that the search may take, in units of CP-SAT; where there is no mix, the same again
            for each stock that might help.
    """
    hopeless = tuple(
        number
        for number, bucket in enumerate(problem.buckets)
        if bucket.requests_per_second
        and all(problem.load(number, variant) is None for variant in range(len(problem.variants)))
    )
    if hopeless:
        return Mix(MixReason.SLO_OUT_OF_REACH, out_of_reach=hopeless)
    found = _Programme(problem).solve(seed, units)
    if found.is_impossible:
        return Mix(MixReason.OUT_OF_STOCK, lacks=_lacks(problem, seed, units))
    candidates = [found, *(_single(problem, variant) for variant in range(len(problem.variants)))]
    valid = [one for one in candidates if one.counts and problem.holds(one.counts, one.shares)]
    if not valid:
        return Mix(MixReason.UNDECIDED, bound_micro=found.bound)
    best = min(valid, key=lambda one: problem.cost_micro(one.counts))
    cost = problem.cost_micro(best.counts)
    reason = MixReason.OPTIMAL if cost <= found.bound else MixReason.BUDGET_SPENT
    return Mix(reason, best.counts, best.shares, cost, min(cost, found.bound))


@dataclass(frozen=True, slots=True)
class _Answer:
    """What one model said; without counts it `is_impossible`, or time was up. `bound` is that of its objective."""

    counts: tuple[int, ...] = ()
    shares: Shares = ()
    bound: int = 0
    is_impossible: bool = False


class _Programme:
    """Counts of replicas, counts of slices, and what ties them together.

    With `raised` stocks, these may hold more than they do, and how much more is what is minimised.
    """

    def __init__(self, problem: MixProblem, *, raised: Collection[str] = ()) -> None:
        self._problem = problem
        self._model = cp_model.CpModel()
        buckets, variants = range(len(problem.buckets)), range(len(problem.variants))
        loads = [[problem.load(bucket, variant) for variant in variants] for bucket in buckets]
        self._most = [
            # more are never of use: so many carry all that the variant can serve, and none has to stop
            max(_carrying(row[variant] for row in loads), one.least, one.present)
            for variant, one in enumerate(problem.variants)
        ]
        self._counts = [
            self._model.new_int_var(one.least, most, one.name)
            for one, most in zip(problem.variants, self._most, strict=True)
        ]
        self._shares = [
            self._shared(loads[bucket]) if problem.buckets[bucket].requests_per_second else {} for bucket in buckets
        ]
        for variant in variants:
            self._carry(variant, [row[variant] for row in loads])
        more = [self._stock(name, may_rise=name in raised) for name in problem.stock]
        self._model.minimize(cp_model.LinearExpr.sum(more if raised else list(self._costs())))

    def _shared(self, loads: list[int | None]) -> dict[int, cp_model.IntVar]:
        """Slices by variant, of a bucket that has demand."""
        slices = self._problem.slices
        shares = {
            variant: self._model.new_int_var(0, slices, "") for variant, load in enumerate(loads) if load is not None
        }
        self._model.add(cp_model.LinearExpr.sum(list(shares.values())) == slices)
        return shares

    def _carry(self, variant: int, loads: list[int | None]) -> None:
        weights = {bucket: load for bucket, load in enumerate(loads) if load}
        load = cp_model.LinearExpr.weighted_sum(
            [self._shares[bucket][variant] for bucket in weights], list(weights.values())
        )
        self._model.add(load <= self._counts[variant] * (REPLICA * self._problem.slices))

    def _stock(self, name: str, *, may_rise: bool) -> cp_model.IntVar:
        takes = [one.uses.get(name, 0) for one in self._problem.variants]
        most = sum(take * most for take, most in zip(takes, self._most, strict=True)) if may_rise else 0
        more = self._model.new_int_var(0, most, "")
        self._model.add(cp_model.LinearExpr.weighted_sum(self._counts, takes) <= more + self._problem.stock[name])
        return more

    def _costs(self) -> Iterable[cp_model.LinearExprT]:
        for count, most, one in zip(self._counts, self._most, self._problem.variants, strict=True):
            yield count * one.cost_micro_per_hour
            if one.start_cost_micro or one.stop_cost_micro:
                started = self._model.new_int_var(0, most, "")
                stopped = self._model.new_int_var(0, one.present, "")
                self._model.add(count == started - stopped + one.present)
                yield started * one.start_cost_micro
                yield stopped * one.stop_cost_micro

    def solve(self, seed: int, units: float) -> _Answer:
        """The best counts and slices, and a bound, both of this model."""
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 1
        solver.parameters.random_seed = seed & 0x7FFFFFFF
        solver.parameters.max_deterministic_time = units
        # branching on the relaxation of all rows; presolve takes the rows apart that make it tight
        solver.parameters.linearization_level = 2
        solver.parameters.search_branching = cp_model.LP_SEARCH
        solver.parameters.cp_model_presolve = False
        status = solver.solve(self._model)
        if status == cp_model.MODEL_INVALID:
            raise ValueError(f"numbers too large for a mix: {self._model.validate()}")
        if status == cp_model.INFEASIBLE:
            return _Answer(is_impossible=True)
        bound = max(0, round(solver.best_objective_bound))  # whole, but told as a float
        if status not in {cp_model.OPTIMAL, cp_model.FEASIBLE}:
            return _Answer(bound=bound)
        width = range(len(self._counts))
        shares = tuple(tuple(solver.value(row[v]) if v in row else 0 for v in width) for row in self._shares)
        return _Answer(tuple(map(solver.value, self._counts)), shares, bound)


def _lacks(problem: MixProblem, seed: int, units: float) -> tuple[Lack, ...]:
    """Each stock that would be enough if it alone held more, the least in proportion first; else all together."""

    def lack(*names: str) -> Lack | None:
        answer = _Programme(problem, raised=names).solve(seed, units)
        if not answer.counts:
            return None
        used = problem.used(answer.counts)
        return Lack({name: used[name] - problem.stock[name] for name in names if used[name] > problem.stock[name]})

    alone = [found for name in problem.stock if (found := lack(name)) is not None]
    if not alone:
        together = lack(*problem.stock)
        return () if together is None else (together,)

    def proportion(one: Lack) -> tuple[Fraction, str]:
        [(name, more)] = one.more.items()
        return Fraction(more, max(1, problem.stock[name])), name

    return tuple(sorted(alone, key=proportion))


def _single(problem: MixProblem, variant: int) -> _Answer:
    """All demand on one variant; no counts where it cannot serve it all."""
    served = [bucket for bucket, one in enumerate(problem.buckets) if one.requests_per_second]
    loads = [problem.load(bucket, variant) for bucket in served]
    if None in loads:
        return _Answer()
    counts = [one.least for one in problem.variants]
    counts[variant] = max(counts[variant], _carrying(loads))
    shares = [[0] * len(counts) for _ in problem.buckets]
    for bucket in served:
        shares[bucket][variant] = problem.slices
    return _Answer(tuple(counts), tuple(map(tuple, shares)))


def _carrying(loads: Iterable[int | None]) -> int:
    """Whole replicas for the sum."""
    return -(-sum(load for load in loads if load is not None) // REPLICA)
