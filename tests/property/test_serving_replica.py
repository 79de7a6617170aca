"""The engine that takes many steps at once does what one does that takes them one by one, to the last bit."""

from __future__ import annotations

import math
from bisect import bisect_left

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.one_by_one import one_by_one
from stowage.decide.serving.performance import Curve, Performance, constant, line
from stowage.decide.serving.view import ITL_BOUNDS_SECONDS
from stowage.simulate.serving.ledger import Ledger
from stowage.simulate.serving.replica import Replica
from stowage.simulate.serving.requests import Requests

TICK = 2.0**-14
FINE = 2.0**-34
"""All times are sums of multiples of powers of two, so that no sum is rounded; each arrival has bits of its own."""

TICKS = st.integers(1, 400).map(lambda count: count * TICK)


def _performances(draw: st.DrawFn) -> Performance:
    base = draw(TICKS)
    steps = sorted(draw(st.lists(st.integers(0, 3000), min_size=3, max_size=3)))
    running = draw(st.integers(1, 6))
    return Performance(
        prefill_seconds=Curve((0.0, 64.0, 128.0, 256.0), (base, *(base + count * TICK for count in steps))),
        decode_seconds=line(draw(TICKS), draw(st.integers(0, 40)) * TICK),
        kv_capacity_tokens=draw(st.integers(40, 600)),
        decode_seconds_per_kv_token=constant(draw(st.integers(0, 8)) * TICK / 256),
        mixed_factor=draw(st.sampled_from([1.0, 1.25])),
        max_running=running,
        max_batched_tokens=running + draw(st.integers(1, 120)),
    )


PERFORMANCES = st.composite(_performances)()


def _requests(draw: st.DrawFn) -> Requests:
    count = draw(st.integers(1, 12))
    at = np.cumsum([draw(st.integers(0, 3000)) * TICK for _ in range(count)]) + FINE * np.arange(count)
    prompts = [draw(st.integers(1, 250)) for _ in range(count)]
    outputs = [draw(st.integers(1, 60)) for _ in range(count)]
    return Requests(at, np.array(prompts), np.array(outputs))


REQUESTS = st.composite(_requests)()


def fitting(requests: Requests, performance: Performance) -> Requests:
    fits = requests.prompt_tokens + requests.output_tokens - 1 <= performance.kv_capacity_tokens
    return Requests(requests.arrival_seconds[fits], requests.prompt_tokens[fits], requests.output_tokens[fits])


def play(
    requests: Requests, performance: Performance, looks: list[float] | None = None
) -> tuple[Ledger, int, list[int]]:
    """The ledger at the end, the most tokens ever seen in the KV cache, and what a scrape at each of `looks` counts."""
    counted: list[int] = []
    ledger = Ledger(requests)
    replica = Replica(performance, ledger)
    most = 0
    times = sorted(
        [*((at, index) for index, at in enumerate(ledger.arrival_seconds)), *((at, -1) for at in looks or [])]
    )
    for at, index in times:
        replica.advance(at)
        if index >= 0:
            replica.enqueue(index, at)
        else:
            replica.settle(at)
            counted.append(ledger.generated)
        most = max(most, replica.kv_tokens(), replica.held)
    while replica.outstanding:
        replica.advance(replica.next_at)
        most = max(most, replica.held)
    return ledger, most, counted


@settings(max_examples=300, deadline=None)
@given(REQUESTS, PERFORMANCES)
def test_many_steps_at_once_are_the_same_steps(requests: Requests, performance: Performance) -> None:
    requests = fitting(requests, performance)
    ledger, most, _ = play(requests, performance)
    slow = one_by_one(requests, performance)
    assert ledger.first_token_at == slow.first
    assert ledger.finished_at == slow.last
    assert ledger.preemptions == slow.preemptions
    buckets = [0] * len(ledger.itl_counts)
    for gap in slow.gaps:
        buckets[bisect_left(ITL_BOUNDS_SECONDS, gap)] += 1
    assert ledger.itl_counts == buckets
    assert max(most, slow.most_held) <= performance.kv_capacity_tokens


@settings(max_examples=150, deadline=None)
@given(REQUESTS, PERFORMANCES, st.lists(st.floats(0, 60), max_size=20))
def test_a_scrape_changes_nothing_and_counts_what_has_happened(
    requests: Requests, performance: Performance, looks: list[float]
) -> None:
    requests = fitting(requests, performance)
    alone, _, _ = play(requests, performance)
    seen, most, counted = play(requests, performance, looks)
    assert (seen.first_token_at, seen.finished_at) == (alone.first_token_at, alone.finished_at)
    assert (seen.itl_counts, seen.ttft_counts) == (alone.itl_counts, alone.ttft_counts)
    times = one_by_one(requests, performance).token_times
    assert counted == [sum(time <= look for time in times) for look in sorted(looks)]
    assert seen.generated == alone.generated == int(requests.output_tokens.sum())
    assert most <= performance.kv_capacity_tokens


@settings(max_examples=150, deadline=None)
@given(REQUESTS, PERFORMANCES)
def test_no_request_is_faster_than_alone(requests: Requests, performance: Performance) -> None:
    requests = fitting(requests, performance)
    ledger, _, _ = play(requests, performance)
    for index, at in enumerate(ledger.arrival_seconds):
        prompt, output = ledger.prompt_tokens[index], ledger.output_tokens[index]
        assert ledger.first_token_at[index] - at >= performance.prefill_seconds(prompt)
        fastest = sum(performance.decode_step_seconds(1, prompt + done) for done in range(output - 1))
        assert ledger.finished_at[index] - ledger.first_token_at[index] >= fastest
        assert not math.isnan(ledger.finished_at[index])


@given(st.floats(0.001, 0.2), st.floats(0, 1e-3), st.integers(0, 50), st.integers(0, 400), st.integers(1, 9))
def test_intervals_are_counted_as_one_by_one(base: float, slope: float, first: int, count: int, width: int) -> None:
    at_once, each = (Ledger(Requests(np.zeros(0), np.zeros(0, int), np.zeros(0, int))) for _ in range(2))
    at_once.intervals(lambda number: base + slope * number, first, first + count, width)
    for number in range(first, first + count):
        each.interval(base + slope * number, width)
    assert at_once.itl_counts == each.itl_counts
