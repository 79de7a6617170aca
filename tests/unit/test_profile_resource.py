"""A PerformanceProfile says as a resource what a `Performance` says to decisions."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stowage.api.performance_profile import PerformanceProfileSpec
from stowage.decide.serving.performance import Curve, Performance, constant, line
from stowage.decide.serving.profile_resource import Origin, performance_of, profile_of

ORIGIN = Origin("llama-3.1-8b", "h100-80gb", tensor=2, source="a test")
# of OPT-13b on one A100 with DistServe's engine (reference values of its simulator), milliseconds
DISTSERVE = {
    "prefill": {"base": "18.1", "perToken": "0.1019", "perSquaredToken": "0.0000071"},
    "decode": {"base": "19.93", "perRequest": "0.0385", "perKvToken": "0.000627"},
}


def profile(**fields: Any) -> PerformanceProfileSpec:
    return PerformanceProfileSpec.model_validate(
        {"model": "m", "accelerator": "a100", "kvCacheTokens": 66_144, **fields}
    )


def measured(prefill: list[tuple[int, str]], decode: list[tuple[int, int, str]]) -> PerformanceProfileSpec:
    return profile(
        measured={
            "prefill": [{"tokens": tokens, "milliseconds": ms} for tokens, ms in prefill],
            "decode": [{"running": r, "kvTokens": k, "milliseconds": ms} for r, k, ms in decode],
        }
    )


def test_measured_rows_are_curves_in_seconds() -> None:
    found = performance_of(measured([(512, "20"), (1024, "60"), (1024, "40"), (1024, "50")], [(1, 0, "10")]))
    assert found.prefill_seconds(512) == pytest.approx(0.020)
    assert found.prefill_seconds(1024) == pytest.approx(0.050), "the median of repeated rows"
    assert found.prefill_seconds(768) == pytest.approx(0.035), "on the line between two rows"
    assert found.prefill_seconds(2048) == pytest.approx(0.110), "on by the last slope"
    assert found.decode_step_seconds(8, 10_000) == pytest.approx(0.010)


def test_what_a_token_in_the_cache_costs_is_the_slope_over_rows_of_as_many_requests() -> None:
    rows = [(1, 1000, "11"), (1, 3000, "13"), (8, 2000, "16"), (16, 0, "30"), (16, 10_000, "60"), (16, 20_000, "90")]
    found = performance_of(measured([(1, "1")], rows))
    assert found.decode_seconds_per_kv_token(1) == pytest.approx(1e-6)
    assert found.decode_seconds_per_kv_token(16) == pytest.approx(3e-6)
    between = found.decode_seconds_per_kv_token(8)
    assert 1e-6 < between < 3e-6, "that of the numbers beside it"
    assert found.decode_step_seconds(8, 2000) == pytest.approx(0.016)
    assert found.decode_step_seconds(16, 5000) == pytest.approx(0.045)


def test_a_step_takes_some_time_even_where_noise_says_none() -> None:
    found = performance_of(measured([(1, "1")], [(1, 1000, "1"), (1, 2000, "3"), (4, 1000, "4"), (4, 2000, "6")]))
    assert found.decode_seconds(1) > 0
    assert found.decode_step_seconds(1, 2000) == pytest.approx(0.004, rel=0.01)


@pytest.mark.parametrize(("tokens", "seconds"), [(1, 0.0182019), (500, 0.070825), (2048, 0.256570), (30_000, 9.4651)])
def test_a_fitted_prefill_follows_its_parabola(tokens: int, seconds: float) -> None:
    found = performance_of(profile(fitted=DISTSERVE))
    assert found.prefill_seconds(tokens) == pytest.approx(seconds, rel=0.0025)


def test_a_fitted_decode_is_a_plane() -> None:
    found = performance_of(profile(fitted=DISTSERVE))
    assert found.decode_step_seconds(64, 30_000) == pytest.approx((19.93 + 0.0385 * 64 + 6.27e-4 * 30_000) / 1000)


def test_large_batches_have_coefficients_of_their_own() -> None:
    large = {"fromRunning": 95, "base": "30", "perRequest": "0.2", "perKvToken": "0.001"}
    found = performance_of(profile(fitted={**DISTSERVE, "decodeLargeBatch": large}))
    assert found.decode_step_seconds(94, 1000) == pytest.approx((19.93 + 0.0385 * 94 + 0.627) / 1000)
    assert found.decode_step_seconds(95, 1000) == pytest.approx((30 + 0.2 * 95 + 1.0) / 1000)
    assert found.decode_step_seconds(200, 1000) == pytest.approx((30 + 0.2 * 200 + 1.0) / 1000)


def test_a_large_batch_is_never_faster_than_a_small_one() -> None:
    large = {"fromRunning": 95, "base": "1", "perRequest": "0.01"}
    found = performance_of(profile(fitted={**DISTSERVE, "decodeLargeBatch": large}))
    assert found.decode_step_seconds(95, 1000) == found.decode_step_seconds(94, 1000)


def test_limits_are_handed_on() -> None:
    found = performance_of(
        profile(fitted=DISTSERVE, maxRunning=64, maxBatchedTokens=512, mixedFactor="1.1", overhead="5ms")
    )
    assert (found.max_running, found.max_batched_tokens, found.kv_capacity_tokens) == (64, 512, 66_144)
    assert (found.mixed_factor, found.overhead_seconds) == (1.1, 0.005)


def curves(least: float, most_value: float) -> st.SearchStrategy[Curve]:
    """Through whole points from 1, as profiles have them."""

    def made(steps: list[tuple[int, float]]) -> Curve:
        at, values = [0.0], [least]
        for along, up in steps:
            at.append(at[-1] + along)
            values.append(values[-1] + up)
        return Curve(tuple(at[1:]), tuple(values[1:]))

    step = st.tuples(st.integers(1, 500), st.floats(0, most_value, allow_subnormal=False))
    return st.lists(step, min_size=1, max_size=8).map(made)


@given(prefill=curves(1e-4, 0.5), decode=curves(1e-4, 0.02), per_kv_token=curves(0.0, 1e-6))
def test_a_performance_written_as_a_profile_is_read_as_it_was(
    prefill: Curve, decode: Curve, per_kv_token: Curve
) -> None:
    before = Performance(prefill, decode, 400_000, per_kv_token, mixed_factor=1.25, overhead_seconds=0.004)
    after = performance_of(PerformanceProfileSpec.model_validate_json(profile_of(before, ORIGIN).model_dump_json()))
    for tokens in (1, 77, 500, 5000):
        assert after.prefill_seconds(tokens) == pytest.approx(before.prefill_seconds(tokens), rel=1e-6, abs=1e-8)
    for running in (1, 3, 64, 700):
        for kv_tokens in (0, 100_000):
            expected = before.decode_step_seconds(running, kv_tokens)
            assert after.decode_step_seconds(running, kv_tokens) == pytest.approx(expected, rel=1e-6, abs=1e-8)
    assert (after.mixed_factor, after.overhead_seconds) == (1.25, 0.004)


def test_straight_lines_and_constants_come_back_too() -> None:
    before = Performance(line(0.02, 1e-4), line(0.01, 2e-5), 1000, constant(1e-7))
    spec = profile_of(before, ORIGIN)
    after = performance_of(spec)
    assert after.prefill_seconds(4000) == pytest.approx(0.42)
    assert after.decode_step_seconds(200, 5000) == pytest.approx(0.01 + 200 * 2e-5 + 5000e-7)
    assert (spec.model, spec.parallelism.gpus, spec.source) == ("llama-3.1-8b", 2, "a test")


def test_more_points_than_rows_are_refused_with_what_to_do() -> None:
    many = tuple(float(at) for at in range(1, 1000))
    with pytest.raises(ValueError, match="at most 512 rows of prefill and 1024 of decode, not 999 and 2: leave some"):
        profile_of(Performance(Curve(many, many), line(1, 1), 1000), ORIGIN)


def milliseconds(least: float) -> st.SearchStrategy[str]:
    return st.floats(least, 3.6e6, allow_subnormal=False).map(lambda one: f"{one:.12f}"[:22].rstrip("."))


ROWS = st.fixed_dictionaries(
    {
        "prefill": st.lists(
            st.fixed_dictionaries({"tokens": st.integers(1, 10**9), "milliseconds": milliseconds(0.1)}), min_size=1
        ),
        "decode": st.lists(
            st.fixed_dictionaries(
                {"running": st.integers(1, 300), "kvTokens": st.integers(0, 10**9), "milliseconds": milliseconds(0.1)}
            ),
            min_size=1,
        ),
    }
)
SLOW = {"running": 1, "kvTokens": 0, "milliseconds": "20001"}
FIT = {"base": milliseconds(0.1), "perRequest": milliseconds(0.0), "perKvToken": milliseconds(0.0)}
FITS = st.fixed_dictionaries(
    {
        "prefill": st.fixed_dictionaries(
            {"base": milliseconds(0.1), "perToken": milliseconds(0.0), "perSquaredToken": milliseconds(0.0)}
        ),
        "decode": st.fixed_dictionaries(FIT),
        "decodeLargeBatch": st.fixed_dictionaries({**FIT, "fromRunning": st.integers(2, 65_536)}),
    }
)


@example({"measured": {"prefill": [{"tokens": 9, "milliseconds": "2"}], "decode": [SLOW]}})
@given(st.one_of(ROWS.map(lambda rows: {"measured": rows}), FITS.map(lambda fits: {"fitted": fits})))
def test_whatever_the_schema_lets_through_takes_time_or_is_refused_for_its_unit(steps: dict[str, Any]) -> None:
    try:
        found = performance_of(profile(**steps))
    except ValueError as error:
        assert str(error) == "a step for one token takes more than 20 s: mind the unit"  # noqa: PT017 - of some only
        assert any(float(one) > 5_000 for one in re.findall(r"'([0-9.]+)'", str(steps)))
        return
    times = [found.decode_step_seconds(running, 1000) for running in (1, 2, 50, 400)]
    assert times[0] > 0
    assert times == sorted(times)
    assert 0 < found.prefill_seconds(1) <= found.prefill_seconds(100_000)
