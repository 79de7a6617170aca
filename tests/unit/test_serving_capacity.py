"""What a replica serves within its targets: bounds, monotony, and the replica model beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stowage.decide.serving.capacity import Bound, Shape, Targets, capacity, load_at
from stowage.decide.serving.performance import Performance, constant, line
from stowage.decide.serving.view import View
from stowage.simulate.serving.fleet import run
from stowage.simulate.serving.requests import Requests
from stowage.simulate.serving.setup import Setup

H100 = Performance(line(0.01, 5e-5), line(0.01, 1e-4), 400_000, constant(5e-8), max_running=128)
CHAT = Shape(1000, 200)
TARGETS = Targets(1.0, 0.05)


@pytest.mark.parametrize(
    ("performance", "shape", "targets", "bound"),
    [
        pytest.param(H100, CHAT, TARGETS, Bound.ITL, id="tokens too slow"),
        pytest.param(H100, Shape(3000, 2), Targets(0.4, 1.0), Bound.TTFT, id="first token late"),
        pytest.param(replace(H100, kv_capacity_tokens=8000), CHAT, TARGETS, Bound.KV, id="the cache is full"),
        pytest.param(replace(H100, max_running=8), CHAT, TARGETS, Bound.RUNNING, id="no more sequences"),
        pytest.param(H100, Shape(1000, 1), Targets(10.0, 0.05), Bound.TTFT, id="prompts alone queue"),
    ],
)
def test_something_bounds_the_rate(performance: Performance, shape: Shape, targets: Targets, bound: Bound) -> None:
    found = capacity(performance, shape, targets)
    assert found.bound is bound
    assert found.requests_per_second > 0.1
    assert found.load is not None
    assert found.load.itl_seconds <= found.load.itl_tail_seconds
    assert found.load.itl_tail_seconds <= targets.itl_seconds * (1 + 1e-6) or shape.output_tokens == 1
    assert found.load.ttft_seconds <= targets.ttft_seconds


@pytest.mark.parametrize(
    ("shape", "targets", "bound"),
    [
        pytest.param(CHAT, Targets(0.01, 1.0), Bound.TTFT, id="no prompt is that fast"),
        pytest.param(CHAT, Targets(1.0, 0.001), Bound.ITL, id="no step is that short"),
        pytest.param(Shape(500_000, 10), TARGETS, Bound.KV, id="it does not fit"),
    ],
)
def test_where_one_request_alone_misses_the_rate_is_0(shape: Shape, targets: Targets, bound: Bound) -> None:
    found = capacity(H100, shape, targets)
    assert (found.requests_per_second, found.bound, found.load) == (0.0, bound, None)


@pytest.mark.parametrize("shape", [Shape(0, 5), Shape(5, 0)])
def test_nothing_is_no_shape(shape: Shape) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        capacity(H100, shape, TARGETS)


SHAPES = st.builds(Shape, st.floats(10, 8000), st.floats(2, 1000), st.floats(0, 2), st.floats(0, 2))


@settings(deadline=None, max_examples=15)
@given(SHAPES, st.floats(0.05, 5), st.floats(0.012, 0.3), st.floats(1, 3))
def test_looser_targets_never_serve_less(shape: Shape, ttft: float, itl: float, factor: float) -> None:
    tight = capacity(H100, shape, Targets(ttft, itl)).requests_per_second
    assert capacity(H100, shape, Targets(ttft * factor, itl)).requests_per_second >= tight * (1 - 1e-6)
    assert capacity(H100, shape, Targets(ttft, itl * factor)).requests_per_second >= tight * (1 - 1e-6)


@settings(deadline=None, max_examples=40)
@given(SHAPES, st.floats(0.01, 20), st.floats(1.01, 2))
def test_more_requests_make_all_slower(shape: Shape, rate: float, factor: float) -> None:
    less, more = load_at(H100, shape, rate), load_at(H100, shape, rate * factor)
    if more is not None:
        assert less is not None
        assert less.running <= more.running * (1 + 1e-6)
        assert less.itl_seconds <= more.itl_seconds * (1 + 1e-6)
        assert more.running == pytest.approx(rate * factor * (shape.output_tokens - 1) * more.itl_seconds, rel=1e-3)


class Steady:
    name = "steady"
    interval_seconds = 1e9

    def decide(self, view: View) -> int:
        return view.desired


@pytest.mark.parametrize("shape", [CHAT, Shape(300, 300), Shape(2000, 100)])
def test_the_replica_model_serves_about_as_much(shape: Shape) -> None:
    rate = capacity(H100, shape, TARGETS).requests_per_second

    def attainment(factor: float) -> float:
        count = int(300 * rate * factor)
        at = np.cumsum(np.random.default_rng(1).exponential(1 / (rate * factor), count))
        requests = Requests(at, np.full(count, int(shape.prompt_tokens)), np.full(count, int(shape.output_tokens)))
        return run(requests, Steady, Setup(H100, 1, TARGETS.ttft_seconds, TARGETS.itl_seconds)).attainment

    assert attainment(0.75) >= 0.99
    assert attainment(1.3) < 0.99
