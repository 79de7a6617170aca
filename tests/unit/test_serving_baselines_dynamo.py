"""Dynamo's planner: the load loop by hand, the throughput loop's floor, and the predictor."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unit.serving_views import replica, scrape, starting, view_of
from stowage.decide.serving.performance import Performance, constant, line
from stowage.decide.serving.view import Scrape
from stowage.simulate.serving.baselines.autoregression import _best, next_value
from stowage.simulate.serving.baselines.dynamo import Dynamo, Load, best_requests_per_second, load_change

# a step with prompts takes 1 ms per token of it, one without 10 ms and 1 ms per sequence
ENGINE = Performance(
    prefill_seconds=line(1e-6, 0.001),
    decode_seconds=line(0.010, 0.001),
    kv_capacity_tokens=10_000,
    max_running=64,
    max_batched_tokens=1_000,
)
LOAD = Load(prompt_tokens=200.0, context_tokens=300.0, prompt_tokens_per_second=0.0)


@pytest.mark.parametrize(
    ("those", "expected"),
    [
        # first token after (waiting + 1) * 200 tokens at 1 ms each; the target is 1 s
        pytest.param([(5, 0), (5, 0)], 1, id="all beyond the first target: 1.2 s each"),
        pytest.param([(5, 0), (3, 0)], 0, id="one of two is well: stay"),
        pytest.param([(0, 60), (0, 60)], 1, id="all beyond the second target: 70 ms against 50 ms"),
        pytest.param([(0, 60), (0, 10)], 0, id="one of two is well there too"),
        # one less: the queue doubles; what it adds must stay below 80 % of 1 s - 0.2 s
        pytest.param([(1, 0), (1, 0)], -1, id="two waiting instead of one: 0.4 s of 0.64 s"),
        pytest.param([(2, 0), (1, 0)], 0, id="four waiting instead of two: 0.8 s of 0.64 s"),
        # and a step of twice the sequences below 80 % of 50 ms
        pytest.param([(0, 14), (0, 14)], -1, id="28 sequences: 38 ms of 40 ms"),
        pytest.param([(0, 16), (0, 14)], 0, id="32 sequences: 42 ms of 40 ms"),
        pytest.param([(0, 1)], 0, id="the last one stays"),
    ],
)
def test_load_loop(those: list[tuple[int, int]], expected: int) -> None:
    loads = tuple(replica(n, waiting=w, running=r, kv=10, capacity=10_000) for n, (w, r) in enumerate(those))
    assert load_change(loads, LOAD, ENGINE, 1.0, 0.050) == expected


def test_one_less_only_where_the_cache_holds_what_all_hold() -> None:
    fits = tuple(replica(n, running=2, kv=4_900, capacity=10_000) for n in range(2))
    full = tuple(replica(n, running=2, kv=5_000, capacity=10_000) for n in range(2))
    assert load_change(fits, LOAD, ENGINE, 1.0, 0.050) == -1
    assert load_change(full, LOAD, ENGINE, 1.0, 0.050) == 0


def test_the_best_rate_is_that_of_the_largest_batch_within_both_targets() -> None:
    engine = Performance(constant(1e-6), line(0.010, 0.001), 10**9, max_running=500, max_batched_tokens=10**6)
    # a step of b sequences takes 10 + b ms, at most 50 ms: b = 40, and 40 / (100 * 0.05 s) = 8 a second
    assert best_requests_per_second(engine, 100, 100, 10.0, 0.050) == pytest.approx(8.0)
    # by KV: 40 contexts of 150 tokens need 6,000
    small = Performance(constant(1e-6), line(0.010, 0.001), 3_000, max_running=500, max_batched_tokens=10**6)
    assert best_requests_per_second(small, 100, 100, 10.0, 0.050) == pytest.approx(20 / (100 * 0.030))
    assert best_requests_per_second(engine, 100, 100, 10.0, 0.005) == pytest.approx(1 / (100 * 0.011)), "batch of one"
    assert best_requests_per_second(engine, 0, 100, 10.0, 0.05) == 0.0


def history(per_second: float, until: float) -> list[Scrape]:
    return [
        scrape(
            at,
            arrived=int(per_second * at),
            completed=int(per_second * at),
            prompt_tokens=int(100 * per_second * at),
            generated_tokens=int(50 * per_second * at),
        )
        for at in range(0, int(until) + 1, 5)
    ]


def test_the_throughput_loop_sets_a_floor_every_180_seconds_that_the_load_loop_keeps() -> None:
    engine = Performance(constant(1e-6), line(0.010, 0.001), 10**9, max_running=500, max_batched_tokens=10**6)
    policy = Dynamo(engine, 10.0, 0.050)
    idle = tuple(replica(n, capacity=10_000) for n in range(3))
    # 40 / (50 * 0.05) = 16 a second of one worker; 40 a second arrive: three workers
    assert policy.decide(view_of(5, idle, history(40, 5))) == 2, "no floor yet: idle workers go"
    assert policy.decide(view_of(185, idle, history(40, 185))) == 3
    assert policy.decide(view_of(190, idle, history(40, 190))) == 3
    assert policy.decide(view_of(365, idle[:2], history(40, 365))) == 3, "the floor lifts, too"
    starts = (*idle[:2], starting(2))
    assert policy.decide(view_of(370, starts, history(40, 370))) == 3, "while one starts it only observes"


def test_while_a_worker_starts_the_planner_only_observes() -> None:
    idle = tuple(replica(n, capacity=10_000) for n in range(2))
    assert Dynamo(ENGINE, 1.0, 0.050).decide(view_of(5, idle)) == 1
    assert Dynamo(ENGINE, 1.0, 0.050).decide(view_of(5, (*idle, starting(2)))) == 3
    assert Dynamo(ENGINE, 1.0, 0.050).decide(view_of(5, idle, desired=3)) == 3


def test_more_terms_must_explain_more_than_chance() -> None:
    noise = np.random.default_rng(3).normal(100.0, 10.0, 40)
    assert _best(noise).order == 0
    assert next_value([float(value) for value in noise]) == pytest.approx(100.0, abs=5.0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([], 0.0, id="nothing known"),
        pytest.param([3.0, 9.0], 9.0, id="fewer than five: the last"),
        pytest.param([4.0] * 8, 4.0, id="always the same"),
        pytest.param([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0], 11.0, id="a line goes on"),
        pytest.param([0.9**n for n in range(12)], 0.9**12, id="a decay goes on"),
        pytest.param([2.0, 8.0] * 8, 2.0, id="what alternates alternates"),
    ],
)
def test_the_next_value(values: list[float], expected: float) -> None:
    assert next_value(values) == pytest.approx(expected, rel=0.02)


@given(st.lists(st.floats(0, 1e6), max_size=40))
def test_the_next_value_is_a_number_and_never_negative(values: list[float]) -> None:
    found = next_value(values)
    assert math.isfinite(found)
    assert found >= 0
