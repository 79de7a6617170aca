"""The pipeline in the simulator: targets met with fewer GPU-hours than a fixed size, and faults survived."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stowage.decide.serving.performance import Performance, line
from stowage.decide.serving.settings import Settings
from stowage.simulate.serving.baselines.static_best import fixed
from stowage.simulate.serving.fleet import run
from stowage.simulate.serving.outcome import Outcome
from stowage.simulate.serving.requests import Requests
from stowage.simulate.serving.setup import MetricsOutage, ReplicaLoss, Setup
from stowage.simulate.serving.stowage_policy import StowagePolicy, stowage_policy
from stowage.simulate.serving.synthetic import Lengths, Shape, synthetic
from unit.serving_views import PERFORMANCE

SETUP = Setup(PERFORMANCE, 1, 2.0, 0.1, cold_start_seconds=60.0, initial=2)


def requests(shape: Shape, low: float, high: float, seconds: float = 2400.0) -> Requests:
    lengths = Lengths(600, 100, 0.5)
    return synthetic(shape, seconds=seconds, low_per_second=low, high_per_second=high, seed=2, lengths=lengths)


def play(arriving: Requests, setup: Setup = SETUP) -> Outcome:
    return run(arriving, lambda: stowage_policy(setup), setup)


def test_a_day_is_served_with_far_less_than_its_peak_needs() -> None:
    day = requests(Shape.DIURNAL, 2.0, 20.0)
    found = play(day)
    assert found.attainment >= 0.99
    peak = next(one for count in range(4, 9) if (one := fixed(day, SETUP, count)).attainment >= 0.99)
    assert found.gpu_hours <= 0.85 * peak.gpu_hours


def test_a_ramp_is_met() -> None:
    assert play(requests(Shape.RAMP, 1.0, 7.0)).attainment >= 0.985


@pytest.mark.parametrize(("cold_start_seconds", "kept"), [(5.0, 0.91), (10.0, 0.87), (20.0, 0.77), (60.0, 0.59)])
def test_a_spike_is_worked_off_without_overshoot(cold_start_seconds: float, kept: float) -> None:
    """Five times the load for 40 s: eight replicas bear it, and a few more what waits.

    What is missed is missed before the first of them is ready. A queue counted as if all of it had to be in caches at
    once asked for 20 to 30, and no request more kept its targets.
    """
    small = Performance(line(0.02, 0.0002), line(0.04, 0.002), kv_capacity_tokens=4000, max_running=8)
    setup = Setup(small, 1, 2.0, 0.1, cold_start_seconds=cold_start_seconds, initial=2, bounds=(2, 30))
    settings = Settings(small, least=2, most=30, stabilisation_seconds=10.0, most_percent_per_minute=100.0)
    lengths = Lengths(200, 30, 0.01)
    spike = synthetic(Shape.SPIKE, seconds=400.0, low_per_second=4.0, high_per_second=20.0, seed=1, lengths=lengths)
    found = run(spike, lambda: StowagePolicy(settings), setup)
    after = [event.after for event in found.scale_events if event.at > 200.0]
    assert 8 <= max(after) <= 12
    assert after[-1] <= 5
    assert found.attainment >= kept


def test_an_outage_of_metrics_costs_nothing_and_lowers_nothing() -> None:
    dark = MetricsOutage(600.0, 1500.0)
    found = play(requests(Shape.RAMP, 4.0, 4.1, 1800.0), replace(SETUP, failures=(dark,)))
    assert found.attainment >= 0.99
    assert not [
        event for event in found.scale_events
        if dark.from_seconds + 60 < event.at < dark.until_seconds and event.after < event.before
    ]  # fmt: skip


def test_the_loss_of_the_only_replica_costs_its_start_and_the_queue() -> None:
    """One replica bears the load, so that while its successor starts all requests wait too long.

    Those are 60 s of 1800 s, 3.3 %; with the requests that were in the lost replica and those that come while the queue
    is worked off, 5.0 %. The queue before a fresh replica with an empty cache is no reason to ask for hundreds.
    """
    found = play(requests(Shape.RAMP, 4.0, 4.1, 1800.0), replace(SETUP, failures=(ReplicaLoss(900.0),)))
    missed = found.requests.arrival_seconds[~found.attained]
    assert found.attainment >= 0.945
    assert missed.min() > 880
    assert missed.max() < 900 + 60 + 45
    assert max(event.after for event in found.scale_events) <= 4


def test_two_runs_are_the_same() -> None:
    day = requests(Shape.ON_OFF, 2.0, 8.0, 900.0)
    first, second = play(day), play(day)
    assert first.scale_events == second.scale_events
    assert first.scale_events
