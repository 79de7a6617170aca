"""Rates of a replica found by simulation: they hold when played anew, and more does not."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from stowage.decide.serving.capacity import Shape, Targets
from stowage.decide.serving.performance import Performance, constant, line
from stowage.decide.serving.view import View
from stowage.simulate.serving.fleet import run
from stowage.simulate.serving.outcome import Outcome
from stowage.simulate.serving.requests import Requests
from stowage.simulate.serving.setup import Setup
from stowage.simulate.serving.simulated_rate import SimulatedRate

ENGINE = Performance(line(0.02, 0.0002), line(0.03, 0.0003), kv_capacity_tokens=100_000, max_running=64)
PROMPTS, OUTPUTS = np.array([200, 500, 1500, 3000]), np.array([20, 400, 100, 250])
SHAPE = Shape(1300.0, 192.5, 0.82, 0.75)
TARGETS = Targets(2.0, 0.06, 0.95)


class One:
    name = "one"
    interval_seconds = 1e9

    def decide(self, view: View) -> int:
        return view.desired


def played(engine: Performance, rate: float, targets: Targets, seed: int) -> Outcome:
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, len(PROMPTS), 4000)
    requests = Requests(np.cumsum(rng.exponential(1 / rate, 4000)), PROMPTS[chosen], OUTPUTS[chosen])
    return run(requests, One, Setup(engine, 1, targets.ttft_seconds, targets.itl_seconds, bounds=(1, 1)))


def test_the_rate_holds_with_other_lots_and_a_quarter_more_does_not() -> None:
    rate = SimulatedRate(PROMPTS, OUTPUTS, seed=1)(ENGINE, SHAPE, TARGETS).requests_per_second
    assert played(ENGINE, 0.9 * rate, TARGETS, seed=2).attainment >= TARGETS.quantile
    assert played(ENGINE, 1.25 * rate, TARGETS, seed=2).attainment < TARGETS.quantile


def test_the_same_seed_gives_the_same_rate() -> None:
    rates = [SimulatedRate(PROMPTS, OUTPUTS, seed)(ENGINE, SHAPE, TARGETS).requests_per_second for seed in (1, 1, 2)]
    assert rates[0] == rates[1] != rates[2]


def test_patient_requests_come_nearly_as_fast_as_prompts_can_be_computed() -> None:
    fastest = 2000 / ENGINE.prefill_seconds(2000) / 500  # four prompts in a step
    rate = SimulatedRate(np.array([500]), np.array([1]), seed=1)
    hasty, patient = (rate(ENGINE, Shape(500, 1), Targets(ttft, 1.0, 0.95)).requests_per_second for ttft in (0.5, 4.0))
    assert hasty < 0.75 * fastest < patient < fastest


def test_prefill_alone_generates_one_token_whatever_the_requests_ask_for() -> None:
    alone = replace(SHAPE, output_tokens=1.0, output_variation=0.0)
    none = Targets(2.0, 1e-9, 0.95)
    first, long = (SimulatedRate(PROMPTS, outputs, seed=1)(ENGINE, alone, none) for outputs in (OUTPUTS, 9 * OUTPUTS))
    assert first.requests_per_second == long.requests_per_second > 0


def test_decode_alone_may_not_let_requests_wait_for_the_cache() -> None:
    """A small cache: nobody decodes slowly, but the queue grows without end."""
    engine = replace(ENGINE, prefill_seconds=constant(1e-6), kv_capacity_tokens=8_000)
    endless = Targets(math.inf, 0.06, 0.95)
    rate = SimulatedRate(PROMPTS, OUTPUTS, seed=1)(engine, SHAPE, endless).requests_per_second
    roomy = SimulatedRate(PROMPTS, OUTPUTS, seed=1)(replace(engine, kv_capacity_tokens=80_000), SHAPE, endless)
    assert 0 < rate < 0.5 * roomy.requests_per_second
    served = played(engine, rate, endless, seed=2)
    assert float(np.quantile(served.waited_seconds, 0.5)) < 1.0


@pytest.mark.parametrize(
    "targets",
    [
        pytest.param(Targets(0.05, 0.06, 0.95), id="a first token sooner than a prompt takes"),
        pytest.param(Targets(2.0, 0.01, 0.95), id="tokens faster than a step"),
    ],
)
def test_targets_that_no_request_meets_leave_no_rate(targets: Targets) -> None:
    assert SimulatedRate(PROMPTS, OUTPUTS, seed=1)(ENGINE, SHAPE, targets).requests_per_second == 0
