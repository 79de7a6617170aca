"""The mix of variants against an enumeration of all mixes, and what has to hold whatever the problem."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import product
from math import ceil, floor

from hypothesis import given, settings
from hypothesis import strategies as st

from stowage.decide.serving.mix_problem import REPLICA, Bucket, MixProblem, MixReason, Variant
from stowage.decide.serving.variant_mix import cheapest_mix

THIRDS = st.sampled_from([0.0, 1 / 3, 0.5, 1.0, 1.5, 3.0])
CAPACITIES = st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 1.0, 2.0, 3.0])
COSTS = st.integers(0, 9).map(lambda cost: cost * 500_000)
STOCKS = ("a", "b")
MOST = 7


def drawn(draw: st.DrawFn) -> MixProblem:
    """Up to three buckets on up to three variants; whole thirds and quarters, so that counts are met exactly."""
    width = draw(st.integers(1, 3))
    variants = tuple(
        Variant(
            name=f"v{number}",
            cost_micro_per_hour=draw(COSTS),
            uses=draw(st.dictionaries(st.sampled_from(STOCKS), st.integers(1, 2))),
            present=draw(st.integers(0, 2)),
            least=draw(st.integers(0, 1)),
            start_cost_micro=draw(st.sampled_from([0, 300_000])),
            stop_cost_micro=draw(st.sampled_from([0, 200_000, 5_000_000])),
        )
        for number in range(width)
    )
    buckets = tuple(Bucket(100, 100, draw(THIRDS)) for _ in range(draw(st.integers(1, 3))))
    table = tuple(tuple(draw(CAPACITIES) for _ in variants) for _ in buckets)
    stock = draw(st.dictionaries(st.sampled_from(STOCKS), st.integers(0, 9)))
    return MixProblem(buckets, variants, table, stock, slices=draw(st.integers(1, 3)))


PROBLEMS = st.composite(drawn)()


def splits(slices: int, able: list[int], width: int) -> Iterator[tuple[int, ...]]:
    for parts in product(range(slices + 1), repeat=len(able)):
        if sum(parts) == slices:
            row = [0] * width
            for variant, part in zip(able, parts, strict=True):
                row[variant] = part
            yield tuple(row)


def within(problem: MixProblem, counts: tuple[int, ...]) -> bool:
    return all(units <= problem.stock[name] for name, units in problem.used(counts).items())


def billionths(problem: MixProblem, bucket: int, variant: int) -> int:
    rate = Fraction(problem.replica_requests_per_second[bucket][variant])
    return floor(Fraction(problem.buckets[bucket].requests_per_second) * REPLICA / rate)


def least_cost(problem: MixProblem) -> int | None:
    """By trying all ways to share the demand; for each, the counts that suffice, and more where stopping costs."""
    width = len(problem.variants)
    rows = []
    for number, bucket in enumerate(problem.buckets):
        rate = problem.replica_requests_per_second[number]
        able = [variant for variant in range(width) if rate[variant]]
        rows.append([(0,) * width] if not bucket.requests_per_second else list(splits(problem.slices, able, width)))
    needs = set()
    for shares in product(*rows):
        load = [Fraction(0)] * width
        for number, row in enumerate(shares):
            for variant, share in enumerate(row):
                if share:
                    load[variant] += billionths(problem, number, variant) * Fraction(share, problem.slices)
        needs.add(tuple(ceil(one / REPLICA) for one in load))
    best: int | None = None
    for need in needs:
        floors = [max(count, one.least) for count, one in zip(need, problem.variants, strict=True)]
        ranges = [range(low, max(low, one.present) + 1) for low, one in zip(floors, problem.variants, strict=True)]
        for counts in product(*ranges):
            if within(problem, counts):
                cost = problem.cost_micro(counts)
                best = cost if best is None else min(best, cost)
    return best


@settings(max_examples=150)
@given(PROBLEMS)
def test_no_mix_costs_less_and_none_is_missed(problem: MixProblem) -> None:
    mix = cheapest_mix(problem)
    least = least_cost(problem)
    assert mix.cost_micro == least
    if least is not None:
        assert mix.reason is MixReason.OPTIMAL
        assert mix.bound_micro == least
        assert problem.holds(mix.counts, mix.shares)
    else:
        assert mix.reason in {MixReason.OUT_OF_STOCK, MixReason.SLO_OUT_OF_REACH}


@settings(max_examples=100)
@given(PROBLEMS, st.integers(0, 9))
def test_more_stock_never_costs_more(problem: MixProblem, more: int) -> None:
    roomier = replace(problem, stock={name: units + more for name, units in problem.stock.items()})
    before, after = cheapest_mix(problem).cost_micro, cheapest_mix(roomier).cost_micro
    assert before is None or (after is not None and after <= before)


@settings(max_examples=100)
@given(PROBLEMS, st.integers(0, 2), st.integers(0, 3_000_000))
def test_a_higher_price_never_costs_less(problem: MixProblem, which: int, more: int) -> None:
    variants = tuple(
        replace(one, cost_micro_per_hour=one.cost_micro_per_hour + more) if number == which else one
        for number, one in enumerate(problem.variants)
    )
    before = cheapest_mix(problem).cost_micro
    after = cheapest_mix(replace(problem, variants=variants)).cost_micro
    assert (before is None) == (after is None)
    assert before is None or after is None or after >= before


@settings(max_examples=100)
@given(PROBLEMS)
def test_each_help_is_enough_by_itself_and_one_unit_less_is_not(problem: MixProblem) -> None:
    mix = cheapest_mix(problem)
    if mix.reason is not MixReason.OUT_OF_STOCK:
        assert mix.lacks == ()
        return
    assert mix.lacks
    for lack in mix.lacks:
        raised = {name: units + lack.more.get(name, 0) for name, units in problem.stock.items()}
        assert least_cost(replace(problem, stock=raised)) is not None
        for name in lack.more:
            short = {**raised, name: raised[name] - 1}
            assert least_cost(replace(problem, stock=short)) is None


@settings(max_examples=60)
@given(PROBLEMS, st.integers(0, 2**40), st.sampled_from([0.0, 1e-6, 1e-3]))
def test_a_budget_that_is_spent_makes_no_false_claim(problem: MixProblem, seed: int, units: float) -> None:
    mix = cheapest_mix(problem, seed=seed, units=units)
    assert mix == cheapest_mix(problem, seed=seed, units=units)
    least = least_cost(problem)
    assert least is None or mix.bound_micro <= least
    if mix.counts:
        assert least is not None
        assert problem.holds(mix.counts, mix.shares)
        assert mix.cost_micro == problem.cost_micro(mix.counts) >= least
        assert (mix.reason is MixReason.OPTIMAL) == (mix.cost_micro == mix.bound_micro)


@settings(max_examples=60)
@given(PROBLEMS, st.sampled_from([1e-6, 2.0]))
def test_never_dearer_than_the_best_single_variant(problem: MixProblem, units: float) -> None:
    mix = cheapest_mix(problem, units=units)
    for which, one in enumerate(problem.variants):
        served = [number for number, bucket in enumerate(problem.buckets) if bucket.requests_per_second]
        if not all(problem.replica_requests_per_second[number][which] for number in served):
            continue
        counts = [variant.least for variant in problem.variants]
        total = sum(billionths(problem, number, which) for number in served)
        counts[which] = max(one.least, ceil(Fraction(total, REPLICA)))
        if within(problem, tuple(counts)):
            assert mix.cost_micro is not None
            assert mix.cost_micro <= problem.cost_micro(tuple(counts))
