"""Whatever is seen: bounds hold, want of knowledge lowers nothing, more load never gets fewer, replays agree."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings

from stowage.decide.serving.decision import Recommender
from stowage.decide.serving.forecast_models import forecast
from stowage.decide.serving.latency_model import Capacity, LatencyModel, Shape
from stowage.decide.serving.memory import Corrections, Memory, from_json, to_json
from stowage.decide.serving.pipeline import decide
from stowage.decide.serving.replicas_for_demand import Expected, price, replicas_for
from stowage.decide.serving.settings import Settings
from stowage.decide.serving.view import Scrape, View
from unit.serving_views import PERFORMANCE, replicas, view

EVERY = (Recommender.SLO, Recommender.SATURATION, Recommender.FORECAST, Recommender.CONCURRENCY)
RATES = st.floats(0.0, 80.0)
NUMBERS = st.one_of(st.integers(0, 10**6), st.sampled_from([math.nan, math.inf, -math.inf, -1]), st.floats(-10, 1e9))
GAUGES = (
    "waiting",
    "running",
    "kv_tokens_in_use",
    "arrived",
    "completed",
    "prompt_tokens",
    "generated_tokens",
    "ready",
)


@st.composite
def bounds(draw: st.DrawFn) -> Settings:
    least = draw(st.integers(1, 8))
    return Settings(PERFORMANCE, least=least, most=least + draw(st.integers(0, 20)), recommenders=EVERY)


@st.composite
def views(draw: st.DrawFn) -> View:
    """Loads that change once, with a queue or without."""
    before, after = draw(RATES), draw(RATES)
    change = draw(st.integers(100, 500))
    return view(
        lambda at: after if at > change else before,
        ready=draw(st.integers(1, 10)),
        starting=draw(st.integers(0, 3)),
        seconds=500,
        waiting=draw(st.integers(0, 300)),
        itl_seconds=draw(st.floats(0.02, 0.3)),
        ttft_seconds=draw(st.floats(0.05, 20.0)),
        cold_start_seconds=draw(st.floats(10, 300)),
    )


@st.composite
def broken(draw: st.DrawFn) -> View:
    """Views of which some samples are anything."""
    seen = draw(views())
    scrapes = list(seen.scrapes)
    for _ in range(draw(st.integers(1, 4))):
        index = draw(st.integers(0, len(scrapes) - 1))
        changed: dict[str, Any] = {draw(st.sampled_from(GAUGES)): draw(NUMBERS)}
        scrapes[index] = replace(scrapes[index], **changed)
    return replace(seen, scrapes=tuple(scrapes))


@settings(max_examples=60)
@given(st.one_of(views(), broken()), bounds(), st.integers(0, 60))
def test_bounds_hold_and_memory_is_text(seen: View, limits: Settings, last_good: int) -> None:
    memory = Memory(last_good=last_good)
    for _ in range(3):
        decision, memory = decide(seen, limits, memory)
        assert limits.least <= decision.to_replicas <= limits.most
        assert from_json(to_json(memory)) == memory
        assert all(math.isfinite(value) for _, value in decision.inputs)
        seen = replace(seen, now=seen.now + 5, desired=decision.to_replicas)


@settings(max_examples=60)
@given(views(), st.sampled_from(["none", "old", "nan", "fewer targets"]), st.integers(0, 30), st.integers(1, 30))
def test_want_of_knowledge_lowers_nothing(seen: View, fault: str, last_good: int, desired: int) -> None:
    newest: Scrape = seen.scrapes[-1]
    if fault == "none":
        seen = replace(seen, scrapes=())
    elif fault == "old":
        seen = replace(seen, now=seen.now + 61)
    elif fault == "nan":
        seen = replace(seen, scrapes=(*seen.scrapes[:-1], replace(newest, arrived=math.nan)))  # type: ignore[arg-type]
    else:
        seen = replace(seen, replicas=replicas(newest.ready + 1))
    limits = Settings(PERFORMANCE, most=100, recommenders=EVERY)
    decision, after = decide(replace(seen, desired=desired), limits, Memory(last_good=last_good))
    assert decision.to_replicas >= max(desired, last_good)
    assert after.last_good == last_good


@settings(max_examples=40)
@given(views(), bounds())
def test_a_replay_decides_the_same(seen: View, limits: Settings) -> None:
    first = decide(seen, limits, Memory())
    assert decide(seen, limits, Memory()) == first
    again = replace(seen, now=seen.now + 5)
    assert decide(again, limits, first[1]) == decide(again, limits, from_json(to_json(first[1])))


@settings(max_examples=40)
@given(st.floats(0.1, 60.0), st.floats(1.0, 4.0), st.integers(1, 6))
def test_more_load_never_gets_fewer_replicas(rate: float, times: float, ready: int) -> None:
    limits = Settings(PERFORMANCE, most=1000, recommenders=EVERY)
    less, _ = decide(view(rate, ready=ready, seconds=300), limits, Memory())
    more, _ = decide(view(rate * times, ready=ready, seconds=300), limits, Memory())
    assert more.to_replicas >= less.to_replicas


CAPACITIES = st.builds(Capacity, st.floats(0.1, 50.0), st.floats(0.0, 0.5), st.just(1.0))


@given(
    st.floats(0.0, 500.0),
    st.floats(1.0, 3.0),
    st.floats(0.0, 0.6),
    CAPACITIES,
    st.floats(0.5, 0.999),
    st.floats(0.1, 6),
)
def test_replicas_rise_with_demand(
    rate: float, times: float, spread: float, capacity: Capacity, attainment: float, factor: float
) -> None:
    paid = price(attainment, None, factor)
    fewer = replicas_for(Expected(rate, spread), capacity, paid)
    assert fewer >= max(1, rate / capacity.requests_per_second * 0.999)
    assert replicas_for(Expected(rate * times, spread), capacity, paid) >= fewer


@given(st.floats(1.0, 100.0), st.floats(0.01, 0.6), CAPACITIES, st.floats(0.1, 100.0), st.floats(1.0, 10.0))
def test_dearer_misses_never_get_fewer_replicas(
    rate: float, spread: float, capacity: Capacity, ratio: float, times: float
) -> None:
    cheap, dear = (
        replicas_for(Expected(rate, spread), capacity, price(0.99, one, 1.0)) for one in (ratio, ratio * times)
    )
    assert dear >= cheap


@settings(max_examples=60)
@given(st.floats(0.05, 4.0), st.floats(1.0, 3.0), st.floats(50, 4000), st.floats(5, 800))
def test_latencies_rise_with_load(rate: float, times: float, prompt: float, output: float) -> None:
    model, limits = LatencyModel(PERFORMANCE, Corrections()), Settings(PERFORMANCE)
    shape = Shape(prompt, output)
    less, more = model.latency(rate, shape), model.latency(rate * times, shape)
    assert more.itl_seconds >= less.itl_seconds * 0.99
    found = model.capacity(limits, shape)
    assert 0 < found.within_targets_per_second <= found.requests_per_second


@settings(max_examples=100)
@given(st.one_of(st.floats(-10, 10), st.just(math.nan), st.just(math.inf)), st.floats(0, 10), st.floats(0, 100))
def test_no_observation_breaks_the_model(itl: float, rate: float, running: float) -> None:
    model = LatencyModel(PERFORMANCE, Corrections())
    for index in range(6):
        model = model.learn(itl, rate, running, running * 1000, Shape(1000.0, 200.0), float(index))
    known = model.corrections
    assert all(map(math.isfinite, (known.decode, known.prefill, *known.variance)))
    assert 0.1 < known.decode < 10
    assert known.variance[0] >= 0
    assert known.variance[2] >= 0


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=80), st.integers(6, 40))
def test_forecasts_are_finite(values: list[float], horizon: int) -> None:
    found = forecast(np.array(values), horizon, 6, 10.0, 0.1)
    assert math.isfinite(found.level)
    assert found.level >= 0
    assert 0 < found.spread < 50
