"""Mixes of variants by example, what is said where there is none, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stowage.decide.serving.mix_problem import MICRO, Bucket, Lack, Mix, MixProblem, MixReason, Variant
from stowage.decide.serving.variant_mix import cheapest_mix

SMALL, LARGE = Bucket(200, 100, 12.0), Bucket(8000, 500, 1.0)
CHEAP = Variant("l4", 1 * MICRO, {"l4": 1})
FAST = Variant("h100", 4 * MICRO, {"h100": 1})
PROBLEM = MixProblem(
    buckets=(SMALL, LARGE),
    variants=(CHEAP, FAST),
    replica_requests_per_second=((4.0, 12.0), (0.0, 2.0)),
    stock={"l4": 8, "h100": 2},
)


@pytest.mark.parametrize(
    ("changes", "counts", "cost"),
    [
        pytest.param({}, (2, 1), 6.0, id="long prompts on the fast one, whose idle half takes short ones too"),
        pytest.param({"stock": {"l4": 1, "h100": 2}}, (0, 2), 8.0, id="too few cheap ones: fast ones alone"),
        pytest.param({"slices": 1}, (3, 1), 7.0, id="a bucket that may not be shared goes whole to one variant"),
        pytest.param({"slices": 2}, (2, 1), 6.0, id="halves are enough here"),
        pytest.param(
            {"variants": (CHEAP, replace(FAST, least=2))}, (0, 2), 8.0, id="what has to be there anyway is used first"
        ),
        pytest.param(
            {"variants": (replace(CHEAP, present=0, start_cost_micro=3 * MICRO), replace(FAST, present=2))},
            (0, 2),
            8.0,
            id="a cold start dearer than what it would save is not made",
        ),
        pytest.param(
            {"variants": (CHEAP, replace(FAST, present=2, stop_cost_micro=3 * MICRO))},
            (0, 2),
            8.0,
            id="stopping that costs more than it saves is not done",
        ),
        pytest.param(
            {"buckets": (replace(SMALL, requests_per_second=0.0), replace(LARGE, requests_per_second=0.0))},
            (0, 0),
            0.0,
            id="no demand, no replicas",
        ),
        pytest.param(
            {"buckets": (replace(SMALL, requests_per_second=1e-12), replace(LARGE, requests_per_second=0.0))},
            (0, 0),
            0.0,
            id="a demand of less than a billionth of a replica",
        ),
        pytest.param(
            {"stock": {"l4": 8, "h100": 2, "replicas": 2}},
            (2, 1),
            6.0,
            id="a stock that no variant uses does not bind",
        ),
        pytest.param({"stock": {}}, (2, 1), 6.0, id="nothing is scarce"),
    ],
)
def test_the_cheapest_mix(changes: dict[str, Any], counts: tuple[int, ...], cost: float) -> None:
    problem = replace(PROBLEM, **changes)
    mix = cheapest_mix(problem)
    assert (mix.reason, mix.counts) == (MixReason.OPTIMAL, counts)
    assert mix.cost_micro == mix.bound_micro == cost * MICRO
    assert problem.holds(mix.counts, mix.shares)


def test_switching_is_paid_for_and_told_within_the_cost() -> None:
    variants = (replace(CHEAP, present=1, start_cost_micro=100_000), replace(FAST, present=3, stop_cost_micro=10_000))
    mix = cheapest_mix(replace(PROBLEM, variants=variants))
    assert (mix.counts, mix.cost_micro) == ((2, 1), 6 * MICRO + 100_000 + 2 * 10_000)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param(
            {"stock": {"l4": 2, "h100": 0}},
            Mix(MixReason.OUT_OF_STOCK, lacks=(Lack({"h100": 1}),)),
            id="one fast accelerator is missing, and nothing else would do",
        ),
        pytest.param(
            {"stock": {"l4": 1, "h100": 1}},
            Mix(MixReason.OUT_OF_STOCK, lacks=(Lack({"h100": 1}), Lack({"l4": 1}))),
            id="one more of either would do",
        ),
        pytest.param(
            {"stock": {"l4": 0, "h100": 1}},
            Mix(MixReason.OUT_OF_STOCK, lacks=(Lack({"h100": 1}), Lack({"l4": 2}))),
            id="the smaller raise comes first",
        ),
        pytest.param(
            {"buckets": (replace(SMALL, requests_per_second=40.0), LARGE), "stock": {"l4": 8, "h100": 1}},
            Mix(MixReason.OUT_OF_STOCK, lacks=(Lack({"l4": 1}), Lack({"h100": 1}))),
            id="one more of many before one more of one",
        ),
        pytest.param(
            {"variants": (replace(CHEAP, least=9), FAST), "stock": {"l4": 8, "h100": 0}},
            Mix(MixReason.OUT_OF_STOCK, lacks=(Lack({"l4": 1, "h100": 1}),)),
            id="two stocks lack, and either alone does not help",
        ),
        pytest.param(
            {"replica_requests_per_second": ((4.0, 12.0), (0.0, 0.0))},
            Mix(MixReason.SLO_OUT_OF_REACH, out_of_reach=(1,)),
            id="no variant serves long prompts in time",
        ),
        pytest.param(
            {"replica_requests_per_second": ((4.0, 12.0), (0.0, 1e-7))},
            Mix(MixReason.SLO_OUT_OF_REACH, out_of_reach=(1,)),
            id="more replicas than anybody has are as good as none",
        ),
        pytest.param({"variants": (), "replica_requests_per_second": ((), ())}, None, id="no variants at all"),
    ],
)
def test_why_there_is_no_mix(changes: dict[str, Any], expected: Mix | None) -> None:
    assert cheapest_mix(replace(PROBLEM, **changes)) == (
        expected or Mix(MixReason.SLO_OUT_OF_REACH, out_of_reach=(0, 1))
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"replica_requests_per_second": ((1.0, 1.0),)}, "a row for each bucket", id="a row is missing"),
        pytest.param({"replica_requests_per_second": ((1.0,), (1.0,))}, "a column", id="a column is missing"),
        pytest.param(
            {"replica_requests_per_second": ((1.0, float("nan")), (1.0, 1.0))}, "finite", id="a rate that is none"
        ),
        pytest.param(
            {"buckets": (replace(SMALL, requests_per_second=-1.0), LARGE)}, "at least 0", id="negative demand"
        ),
        pytest.param(
            {"variants": (replace(CHEAP, cost_micro_per_hour=-1), FAST)}, "variant l4: costs", id="a negative cost"
        ),
        pytest.param(
            {"variants": (replace(CHEAP, cost_micro_per_hour=10**13), FAST)}, "at most", id="a cost beyond all measure"
        ),
        pytest.param(
            {"variants": (replace(CHEAP, least=10**6), FAST)}, "replicas", id="more replicas than there can be"
        ),
        pytest.param({"variants": (CHEAP, CHEAP)}, "names of their own", id="one name twice"),
        pytest.param({"stock": {"l4": -1}}, "stocks are at least 0", id="a negative stock"),
        pytest.param({"slices": 0}, "slices 1 to", id="no slices"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(PROBLEM, **changes)


def test_a_mix_that_breaks_something_does_not_hold() -> None:
    mix = cheapest_mix(PROBLEM)
    assert not PROBLEM.holds((1, 1), mix.shares)  # too few for their load
    assert not PROBLEM.holds((9, 3), mix.shares)  # more than there are
    assert not PROBLEM.holds(mix.counts, ((0, 0), mix.shares[1]))  # demand that nobody serves
    assert not PROBLEM.holds((8, 2), (mix.shares[0], (100, 0)))  # one that cannot
    assert not replace(PROBLEM, variants=(replace(CHEAP, least=3), FAST)).holds(mix.counts, mix.shares)
