"""The latency model against the simulated engine, and what it learns from latencies that differ from its profile."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from stowage.decide.serving.latency_model import MOST_REFUSED, LatencyModel, Shape
from stowage.decide.serving.memory import Corrections
from stowage.decide.serving.performance import Curve, Performance, line
from stowage.decide.serving.settings import Role, Settings
from stowage.simulate.serving.baselines.static_best import fixed
from stowage.simulate.serving.requests import Requests
from stowage.simulate.serving.setup import Setup
from unit.serving_views import PERFORMANCE

KNOWN = Corrections(variance=(0.0, 0.0, 0.0))
MODEL = LatencyModel(PERFORMANCE, KNOWN)
SETTINGS = Settings(PERFORMANCE)
LONG, SHORT = Shape(1500.0, 100.0), Shape(300.0, 300.0)


def attained(performance: Performance, shape: Shape, rate: float) -> float:
    rng = np.random.default_rng(3)
    count = round(600 * rate)
    prompts = np.maximum(1, rng.gamma(1.5, shape.prompt_tokens / 1.5, count)).astype(np.int64)
    outputs = np.maximum(1, rng.gamma(1.5, shape.output_tokens / 1.5, count)).astype(np.int64)
    requests = Requests(np.sort(rng.uniform(0, 600, count)), prompts, outputs)
    return fixed(requests, Setup(performance, 1, 2.0, 0.1), 1).attainment


@pytest.mark.parametrize("shape", [pytest.param(LONG, id="long prompts"), pytest.param(SHORT, id="long outputs")])
def test_a_replica_bears_what_the_model_says(shape: Shape) -> None:
    found = MODEL.capacity(SETTINGS, shape)
    assert attained(PERFORMANCE, shape, found.within_targets_per_second * 0.85) >= 0.97
    assert attained(PERFORMANCE, shape, found.requests_per_second * 1.1) < 0.7


def test_a_small_cache_is_a_limit_too() -> None:
    small = replace(PERFORMANCE, kv_capacity_tokens=20_000)
    found = LatencyModel(small, KNOWN).capacity(Settings(small), LONG)
    assert found.within_targets_per_second < 0.6 * MODEL.capacity(SETTINGS, LONG).within_targets_per_second
    assert attained(small, LONG, found.within_targets_per_second * 0.85) >= 0.97


@pytest.mark.parametrize(
    ("slack", "tight"),
    [
        pytest.param(Settings(PERFORMANCE, slo_itl_seconds=0.2), SETTINGS, id="time between tokens"),
        pytest.param(SETTINGS, Settings(PERFORMANCE, slo_ttft_seconds=0.3), id="time to first token"),
        pytest.param(Settings(PERFORMANCE, attainment=0.9), Settings(PERFORMANCE, attainment=0.999), id="attainment"),
    ],
)
def test_tighter_targets_are_borne_at_less_load(slack: Settings, tight: Settings) -> None:
    most = MODEL.capacity(slack, LONG).within_targets_per_second
    assert MODEL.capacity(tight, LONG).within_targets_per_second < most


def test_an_overloaded_replica_misses_all() -> None:
    assert MODEL.missed(1000.0, LONG, SETTINGS) == 1.0
    assert math.isinf(MODEL.latency(1000.0, LONG).itl_seconds)


def test_roles_bear_what_they_compute() -> None:
    prefill = LatencyModel(PERFORMANCE, KNOWN, Role.PREFILL)
    decode = LatencyModel(PERFORMANCE, KNOWN, Role.DECODE)
    both = MODEL.capacity(SETTINGS, LONG).within_targets_per_second
    assert prefill.capacity(Settings(PERFORMANCE, role=Role.PREFILL), LONG).within_targets_per_second > both
    assert decode.capacity(Settings(PERFORMANCE, role=Role.DECODE), LONG).within_targets_per_second > both
    assert decode.prompt_share(1.0, LONG) == 0.0


def slower(decode: float, prefill: float) -> LatencyModel:
    return LatencyModel(PERFORMANCE, Corrections(decode, prefill, (0.0, 0.0, 0.0)))


def learn(model: LatencyModel, real: LatencyModel, times: int = 60) -> LatencyModel:
    for index in range(times):
        rate = 1.0 + index % 4
        seen = real.latency(rate, LONG)
        model = model.learn(seen.itl_seconds, rate, seen.running, seen.kv_tokens, LONG, float(index))
    return model


@pytest.mark.parametrize(
    ("decode", "prefill"),
    [
        pytest.param(1.0, 1.0, id="the profile is right"),
        pytest.param(1.3, 1.0, id="decode is slower"),
        pytest.param(1.0, 1.4, id="prefill is slower"),
        pytest.param(0.8, 0.8, id="all is faster"),
    ],
)
def test_pods_that_differ_from_their_profile_are_learned(decode: float, prefill: float) -> None:
    learned = learn(LatencyModel(PERFORMANCE, Corrections()), slower(decode, prefill)).corrections
    assert learned.decode == pytest.approx(decode, abs=0.06)
    assert learned.prefill == pytest.approx(prefill, abs=0.12)
    assert learned.variance[0] < Corrections().variance[0]


def test_one_outlier_teaches_nothing_and_a_lasting_change_does() -> None:
    model = learn(LatencyModel(PERFORMANCE, Corrections()), slower(1.0, 1.0))
    far = MODEL.latency(2.0, LONG)
    once = model.learn(far.itl_seconds * 5, 2.0, far.running, far.kv_tokens, LONG, 99.0)
    assert (once.corrections.decode, once.corrections.refused) == (model.corrections.decode, 1)
    assert learn(model, slower(3.0, 1.0), times=MOST_REFUSED * 30).corrections.decode > 2.0


def test_what_is_not_known_counts_against_the_replica() -> None:
    unsure = LatencyModel(PERFORMANCE, Corrections(variance=(0.1, 0.0, 0.1)))
    assert (
        unsure.capacity(SETTINGS, LONG).within_targets_per_second
        < MODEL.capacity(SETTINGS, LONG).within_targets_per_second
    )


def test_long_prompts_share_the_work_with_outputs() -> None:
    of_long, of_short = MODEL.prompt_share(2.0, LONG), MODEL.prompt_share(2.0, SHORT)
    assert 0 <= of_short < of_long <= 1


class Counted(Curve):
    """A curve that counts how often it is looked at."""

    looks = 0

    def __call__(self, x: float) -> float:
        Counted.looks += 1
        return super().__call__(x)


def test_prompts_of_billions_are_not_looked_at_chunk_by_chunk() -> None:
    plain = PERFORMANCE.prefill_seconds
    model = LatencyModel(replace(PERFORMANCE, prefill_seconds=Counted(plain.at, plain.values)), KNOWN)
    Counted.looks = 0
    _, seconds, chunks = model.steps(0.0, 0.0, Shape(1e8, 100.0))
    assert Counted.looks < 10_000
    assert chunks == pytest.approx(1e8 / PERFORMANCE.max_batched_tokens, rel=0.01)
    assert seconds == pytest.approx(100 * model.steps(0.0, 0.0, Shape(1e6, 100.0))[1], rel=0.01)


def test_a_profile_without_decode_cost_has_an_answer() -> None:
    free = Performance(line(0.001, 0.0), line(0.001, 0.0), kv_capacity_tokens=10**9, max_running=1000)
    assert LatencyModel(free, KNOWN).capacity(Settings(free), LONG).within_targets_per_second > 10


OUT_OF_REACH = Settings(PERFORMANCE, slo_itl_seconds=0.01)
"""Decoding takes 30 ms alone."""


@pytest.mark.parametrize(
    ("tight", "without"),
    [
        pytest.param(OUT_OF_REACH, replace(SETTINGS, slo_itl_seconds=None), id="between tokens"),
        pytest.param(
            replace(SETTINGS, slo_ttft_seconds=0.01), replace(SETTINGS, slo_ttft_seconds=None), id="the first"
        ),
        pytest.param(replace(SETTINGS, slo_e2e_seconds=0.5), SETTINGS, id="the last"),
    ],
)
def test_a_target_that_an_idle_replica_misses_asks_for_no_replicas(tight: Settings, without: Settings) -> None:
    assert MODEL.capacity(tight, LONG) == MODEL.capacity(without, LONG)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        pytest.param(SETTINGS, set(), id="all can be met"),
        pytest.param(OUT_OF_REACH, {"slo_itl_seconds"}, id="time between tokens"),
        pytest.param(Settings(PERFORMANCE, slo_ttft_seconds=0.05), {"slo_ttft_seconds"}, id="time to first token"),
        pytest.param(
            Settings(PERFORMANCE, None, None, slo_e2e_seconds=0.5), {"slo_e2e_seconds"}, id="the whole request"
        ),
    ],
)
def test_targets_that_are_left_out_are_told(settings: Settings, names: set[str]) -> None:
    assert MODEL.out_of_reach(settings, LONG) == names


def test_a_tight_end_to_end_target_is_borne_at_less_load() -> None:
    ends = replace(SETTINGS, slo_e2e_seconds=LONG.output_tokens * 0.06)
    assert MODEL.capacity(ends, LONG).requests_per_second < 0.9 * MODEL.capacity(SETTINGS, LONG).requests_per_second


def test_a_lower_quantile_is_planned_at_more_load() -> None:
    lax = MODEL.capacity(replace(SETTINGS, quantile=0.9), LONG).within_targets_per_second
    assert lax > MODEL.capacity(SETTINGS, LONG).within_targets_per_second
