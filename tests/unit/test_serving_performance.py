"""Step times of a replica: curves, mixed steps, chunks, fits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stowage.decide.serving.performance import Curve, Performance, constant, line, measured_curve, step_times
from stowage.decide.serving.performance_fit import decode_curves, nonnegative_fit

POINTS = st.lists(st.tuples(st.integers(0, 5000), st.floats(0.001, 10)), min_size=1, max_size=30)
SOME_LEAVE_AGAIN = 16
"""A seed for which a coefficient comes in first and has to leave again."""
FLAT = Performance(Curve((512.0, 1024.0, 2048.0), (0.05, 0.08, 0.2)), line(0.03, 0.0005), 10_000, mixed_factor=1.1)


@given(POINTS, st.floats(0, 20_000), st.floats(0, 20_000))
def test_a_measured_curve_never_falls(points: list[tuple[int, float]], first: float, second: float) -> None:
    curve = measured_curve(points)
    low, high = sorted((first, second))
    assert curve(low) <= curve(high) + 1e-12
    ends = [value for _, value in points]
    assert min(ends) <= curve(min(at for at, _ in points)) <= max(ends)


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=20))
def test_what_rises_is_left_as_measured(values: list[float]) -> None:
    rising = np.cumsum(values).tolist()
    curve = measured_curve(enumerate(rising))
    assert [curve(at) for at in range(len(rising))] == pytest.approx(rising)


@pytest.mark.parametrize(
    ("x", "value"),
    [
        pytest.param(0, 0.05, id="flat before the first point"),
        pytest.param(512, 0.05, id="at the first point"),
        pytest.param(768, 0.065, id="half way"),
        pytest.param(2048, 0.2, id="at the last point"),
        pytest.param(3072, 0.32, id="on by the last slope"),
    ],
)
def test_a_curve_at(x: float, value: float) -> None:
    assert FLAT.prefill_seconds(x) == pytest.approx(value)


@pytest.mark.parametrize(
    ("at", "values", "words"),
    [
        ((), (), "as many values"),
        ((1.0,), (1.0, 2.0), "as many values"),
        ((1.0, 1.0), (1.0, 2.0), "points rise"),
        ((1.0, 2.0), (2.0, 1.0), "never fall"),
        ((1.0,), (-1.0,), "at least 0"),
        ((1.0,), (math.nan,), "finite"),
    ],
)
def test_a_curve_that_is_none_is_refused(at: tuple[float, ...], values: tuple[float, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Curve(at, values)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kv_capacity_tokens": 0}, "kv_capacity_tokens is 0"),
        ({"max_running": 0}, "max_running is 0"),
        ({"max_running": 2048}, "more than max_running"),
        ({"mixed_factor": 0.9}, "mixed_factor"),
        ({"mixed_factor": math.nan}, "mixed_factor"),
        ({"overhead_seconds": -1.0}, "overhead_seconds"),
        ({"decode_seconds": constant(0.0)}, "a step takes at least"),
        ({"prefill_seconds": constant(1e-9)}, "a step takes at least"),
    ],
)
def test_a_performance_that_makes_no_sense_is_refused(change: dict[str, object], words: str) -> None:
    given = {"prefill_seconds": line(0.1, 0.0), "decode_seconds": line(0.1, 0.0), "kv_capacity_tokens": 9, **change}
    with pytest.raises(ValueError, match=words):
        Performance(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("prompt", "running", "seconds"),
    [
        pytest.param(1024, 0, 0.08, id="prompts alone"),
        pytest.param(1000, 24, 1.1 * 0.08, id="a mixed step takes what its tokens take, times a factor"),
        pytest.param(10, 60, 0.06, id="but no less than what the sequences take"),
    ],
)
def test_a_mixed_step(prompt: int, running: int, seconds: float) -> None:
    assert FLAT.mixed_step_seconds(prompt, running, 0) == pytest.approx(seconds)


def test_attention_adds_to_mixed_steps_too() -> None:
    reads = Performance(line(0.01, 1e-4), line(0.01, 1e-3), 10_000, constant(1e-6))
    assert reads.decode_step_seconds(5, 1000) == pytest.approx(0.016)
    assert reads.mixed_step_seconds(100, 5, 1000) == pytest.approx(0.016 + 0.01)


@given(st.integers(1, 4000), st.integers(0, 300), st.integers(0, 100_000), st.floats(0, 1))
def test_looked_up_times_are_the_same(prompt: int, running: int, kv_tokens: int, earlier: float) -> None:
    times = step_times(FLAT)
    assert times is step_times(FLAT)
    assert times.mixed(prompt, running, kv_tokens, earlier) == FLAT.mixed_step_seconds(
        prompt, running, kv_tokens, earlier
    )
    assert times.decode[running] + times.per_kv_token[running] * kv_tokens == FLAT.decode_step_seconds(
        running, kv_tokens
    )


@given(st.floats(1.0, 20_000.0), st.floats(0.0, 300.0), st.floats(0.0, 200_000.0))
@example(2048.0, 0.0, 0.0)
@example(5000.0, 64.0, 90_000.0)
def test_the_steps_of_a_prompt_are_those_of_its_chunks(prompt: float, running: float, kv_tokens: float) -> None:
    of = Performance(
        Curve((0.0, 100.0, 2048.0), (0.02, 0.03, 0.2)),
        line(0.03, 0.0003),
        400_000,
        decode_seconds_per_kv_token=Curve((1.0, 64.0), (1e-8, 3e-8)),
        mixed_factor=1.1,
        max_running=400,
    )
    left, offset, chunks, seconds = prompt, 0.0, 0, 0.0
    while left > 0:
        tokens = min(left, of.max_batched_tokens - running)
        earlier = of.earlier_chunk_seconds(offset, tokens)
        seconds += of.mixed_step_seconds(tokens, running, kv_tokens, earlier)
        left, offset, chunks = left - tokens, offset + tokens, chunks + 1
    assert of.prompt_steps(prompt, running, kv_tokens) == (chunks, seconds)


@given(st.integers(1, 9000), st.integers(1, 1500))
def test_a_prompt_in_chunks_takes_no_less_than_at_once(prompt: int, budget: int) -> None:
    chunked = Performance(
        FLAT.prefill_seconds, FLAT.decode_seconds, 10_000, max_running=1, max_batched_tokens=budget + 1
    )
    assert chunked.lone_prefill_seconds(prompt) >= FLAT.prefill_seconds(prompt) - 1e-9


@given(st.integers(0, 10_000))
@example(seed=SOME_LEAVE_AGAIN)
def test_a_fit_without_negatives_is_the_best_there_is(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(12, 6)) + 3.0 * rng.normal(size=(12, 1))
    target = matrix @ rng.normal(0.3, 1.0, 6) + rng.normal(size=12)
    found = nonnegative_fit(matrix, target)
    assert (found >= 0).all()
    gradient = matrix.T @ (matrix @ found - target)  # the conditions of Karush, Kuhn and Tucker
    assert (gradient >= -1e-7).all()
    assert np.abs(gradient * found).max() < 1e-7


def test_decode_steps_are_fitted_with_and_without_attention() -> None:
    running, kv = zip(*[(r, r * c) for r in (1, 8, 32, 64) for c in (200, 1000, 4000)], strict=True)
    seconds = [0.01 + 2e-4 * r + 3e-8 * k for r, k in zip(running, kv, strict=True)]
    base, per_token = decode_curves(running, kv, seconds)
    assert per_token(7) == pytest.approx(3e-8, rel=1e-6)
    assert base(20) == pytest.approx(0.014, rel=1e-6)
    flat, nothing = decode_curves([1, 2], [0, 0], [0.01, 0.02])
    assert (flat(2), nothing(2)) == (0.02, 0.0)
    with pytest.raises(ValueError, match="more than 0 seconds"):
        decode_curves([1], [1], [0.0])
