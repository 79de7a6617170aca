"""Requests into buckets, and what replicas serve of each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from stowage.decide.serving.capacity import Shape, Targets, capacity
from stowage.decide.serving.mix_demand import INPUT_EDGES, OUTPUT_EDGES, SHARE_OF_CLOSED_FORM, buckets, replica_rates
from stowage.decide.serving.mix_problem import MICRO, Bucket, MixProblem, MixReason, Variant
from stowage.decide.serving.performance import Performance, line
from stowage.decide.serving.variant_mix import cheapest_mix

SLOW = Performance(line(0.05, 0.0006), line(0.045, 0.0003), kv_capacity_tokens=30_000, max_running=64)
FAST = Performance(line(0.01, 0.0001), line(0.012, 0.0001), kv_capacity_tokens=200_000, max_running=256)
TARGETS = Targets(2.0, 0.05)


@pytest.mark.parametrize(
    ("prompt", "output", "place"),
    [
        pytest.param(1, 1, (5, 5), id="the smallest"),
        pytest.param(10, 10, (5, 5), id="an upper edge belongs to the bucket below it"),
        pytest.param(11, 11, (20, 15), id="one more to the next"),
        pytest.param(500, 500, (20, 15), id="what is longer than all edges to the last"),
    ],
)
def test_a_request_counts_in_one_bucket(prompt: int, output: int, place: tuple[int, int]) -> None:
    found = buckets(np.array([prompt]), np.array([output]), 2.0, input_edges=(0, 10, 30), output_edges=(0, 10, 20))
    assert [(one.input_tokens, one.output_tokens) for one in found] == [(5, 5), (5, 15), (20, 5), (20, 15)]
    assert [(one.input_tokens, one.output_tokens) for one in found if one.requests_per_second] == [place]
    assert sum(one.requests_per_second for one in found) == 0.5


TOKENS = arrays.arrays(np.int64, st.just(20), elements=st.integers(1, 100_000))


@given(TOKENS, TOKENS)
def test_no_request_is_lost(prompts: np.ndarray, outputs: np.ndarray) -> None:
    found = buckets(prompts, outputs, 10.0)
    assert len(found) == (len(INPUT_EDGES) - 1) * (len(OUTPUT_EDGES) - 1) == 50
    assert sum(one.requests_per_second for one in found) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("seconds", "edges", "words"),
    [
        pytest.param(0.0, (0, 10), "more than 0 seconds", id="no time"),
        pytest.param(1.0, (0, 10, 10), "edges rise: 0, 10, 10", id="edges that stand still"),
        pytest.param(1.0, (0,), "edges rise", id="one edge"),
    ],
)
def test_what_makes_no_grid_is_refused(seconds: float, edges: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        buckets(np.array([1]), np.array([1]), seconds, input_edges=edges)


def test_a_table_has_a_row_for_each_bucket() -> None:
    sizes = (Bucket(100, 50, 0.0), Bucket(20_000, 50, 3.0))
    table = replica_rates(sizes, (SLOW, FAST), TARGETS)
    alone = capacity(FAST, Shape(100, 50), TARGETS).requests_per_second
    assert table[0][1] == SHARE_OF_CLOSED_FORM * alone > table[0][0] > 0
    assert replica_rates(sizes, (FAST,), TARGETS, share=1.0)[0][0] == alone
    assert table[1][0] == 0.0  # its prompt takes longer than the first token may
    assert table[1][1] == 0.0


def test_long_prompts_go_to_the_fast_accelerator_and_short_ones_to_the_cheap() -> None:
    sizes = (Bucket(100, 50, 8.0), Bucket(6_000, 200, 0.1))
    problem = MixProblem(
        sizes,
        (Variant("cheap", 1 * MICRO), Variant("fast", 20 * MICRO)),
        replica_rates(sizes, (SLOW, FAST), TARGETS),
    )
    mix = cheapest_mix(problem)
    assert mix.reason is MixReason.OPTIMAL
    assert mix.counts[1] == 1
    assert mix.shares[1] == (0, 100)
