"""Replicas under a policy: cold starts, drain, losses, scrapes, what it costs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from stowage.decide.serving.performance import Performance, line
from stowage.decide.serving.view import E2E_BOUNDS_SECONDS, ITL_BOUNDS_SECONDS, TTFT_BOUNDS_SECONDS, View
from stowage.simulate.serving.fleet import run
from stowage.simulate.serving.ledger import Ledger
from stowage.simulate.serving.outcome import COMPLETED, REJECTED, UNFINISHED, Outcome, ReplicaLife
from stowage.simulate.serving.policy import Policy
from stowage.simulate.serving.requests import Requests
from stowage.simulate.serving.setup import ColdStart, MetricsOutage, ReplicaLoss, Setup
from stowage.simulate.serving.synthetic import Lengths, Shape, synthetic

SLOW = Performance(line(0.5, 0.0), line(0.1, 0.0), kv_capacity_tokens=1000, max_running=4)
"""A prompt takes 0.5 s, each further token 0.1 s."""
SETUP = Setup(SLOW, 2, slo_ttft_seconds=1.0, slo_itl_seconds=0.2, cold_start_seconds=60.0)


class Plan:
    """Asks for what is planned: (from second, replicas); keeps all views."""

    name = "plan"
    interval_seconds = 10.0

    def __init__(self, *plan: tuple[float, int]) -> None:
        self._plan = plan
        self.views: list[View] = []

    def decide(self, view: View) -> int:
        self.views.append(view)
        return next((count for at, count in reversed(self._plan) if at <= view.now), view.desired)


def every(seconds: float, count: int, output: int = 1, prompt: int = 10) -> Requests:
    return Requests(seconds * np.arange(count, dtype=float), np.full(count, prompt), np.full(count, output))


def seen(requests: Requests, plan: Plan, setup: Setup = SETUP) -> tuple[Outcome, list[View]]:
    return run(requests, lambda: plan, setup), plan.views


def life_of(outcome: Outcome, number: int) -> ReplicaLife:
    return next(life for life in outcome.lives if life.name == f"replica-{number}")


def test_a_new_replica_costs_from_when_it_is_asked_for_and_serves_after_its_cold_start() -> None:
    outcome, views = seen(every(1.0, 301), Plan((100.0, 2)))
    assert life_of(outcome, 2) == ReplicaLife("replica-2", 100.0, 160.0, None, 300.0)
    assert [(event.at, event.before, event.after) for event in outcome.scale_events] == [(100.0, 1, 2)]
    ready = {view.now: sum(one.is_ready for one in view.replicas) for view in views}
    assert (ready[150.0], ready[160.0]) == (1, 2)
    assert outcome.gpu_hours == pytest.approx(2 * (300.5 + 200.0) / 3600)
    assert outcome.starting_gpu_hours == pytest.approx(2 * 60.0 / 3600)


def test_a_replica_that_drains_gets_no_requests_and_ends_those_it_has() -> None:
    requests = every(1.0, 200, output=100)  # 10.4 s each, 4 at once on each replica
    outcome, views = seen(
        requests, Plan((100.0, 1)), replace(SETUP, initial=3, performance=replace(SLOW, max_running=64))
    )
    gone = [life for life in outcome.lives if life.drained_at is not None]
    assert [life.drained_at for life in gone] == [100.0, 100.0]
    assert all(100.0 < life.gone_at <= 112.0 for life in gone)
    assert outcome.completed == 200
    assert [len(view.replicas) for view in views if view.now in (100.0, 110.0)] == [3, 1]


def test_the_replica_with_the_fewest_requests_drains() -> None:
    requests = Requests(np.array([0.0, 0.1, 99.0]), np.full(3, 10), np.array([400, 100, 1]))
    outcome, _ = seen(requests, Plan((30.0, 1)), replace(SETUP, initial=2))
    assert life_of(outcome, 2).gone_at == 30.0
    assert outcome.completed == 3


def test_between_two_scrapes_a_replica_is_seen_as_it_is() -> None:
    plan = Plan()
    plan.interval_seconds = 12.5
    _, views = seen(every(100.0, 2, output=600), plan)
    assert views[0].scrapes[-1].kv_tokens_in_use == 10 + 95
    assert views[0].replicas[0].kv_tokens_in_use == 10 + 120


def test_who_still_starts_goes_first_and_costs_until_then() -> None:
    outcome, _ = seen(every(1.0, 200), Plan((50.0, 3), (80.0, 2), (90.0, 1)))
    assert life_of(outcome, 3) == ReplicaLife("replica-3", 50.0, None, None, 80.0)
    assert life_of(outcome, 2) == ReplicaLife("replica-2", 50.0, None, None, 90.0)


def test_requests_wait_for_the_first_replica_where_there_is_none() -> None:
    setup = replace(SETUP, initial=0, bounds=(0, 9))
    outcome, views = seen(every(1.0, 100), Plan((10.0, 1)), setup)
    assert outcome.ttft_seconds[0] == pytest.approx(70.5)
    assert outcome.completed == 100
    assert views[1].scrapes[-1].waiting == 20  # those of seconds 0 to 19


def test_what_is_out_of_bounds_is_cut() -> None:
    outcome, _ = seen(every(1.0, 100), Plan((10.0, 50), (50.0, -3)), replace(SETUP, bounds=(1, 4)))
    assert [event.after for event in outcome.scale_events] == [4, 1]


def test_a_lost_replica_takes_its_requests_with_it_and_is_replaced() -> None:
    setup = replace(SETUP, initial=2, failures=(ReplicaLoss(50.25),))
    outcome, views = seen(every(1.0, 200, output=10), Plan(), setup)
    assert outcome.rejected >= 1
    assert outcome.completed == 200 - outcome.rejected
    assert life_of(outcome, 1).gone_at == 50.25
    assert life_of(outcome, 3).ready_at == 110.25
    assert [sum(one.is_ready for one in view.replicas) for view in views if view.now in (50.0, 60.0)] == [2, 1]
    assert not outcome.scale_events


def test_in_an_outage_nothing_is_scraped_and_replicas_look_as_last_seen() -> None:
    setup = replace(SETUP, failures=(MetricsOutage(50.0, 80.0),))
    outcome, views = seen(every(0.3, 400, output=10), Plan(), setup)
    by_time = {view.now: view for view in views}
    assert by_time[70.0].scrapes[-1].at == 45.0
    assert by_time[80.0].scrapes[-1].at == 80.0
    assert by_time[70.0].replicas[0].waiting == by_time[70.0].scrapes[-1].waiting
    assert by_time[80.0].replicas[0].waiting > by_time[70.0].replicas[0].waiting
    assert outcome.completed == 400


def test_a_request_that_no_replica_can_hold_is_rejected() -> None:
    requests = Requests(np.array([0.0, 1.0, 2.0]), np.array([10, 990, 10]), np.array([1, 12, 1]))
    outcome, _ = seen(requests, Plan())
    assert outcome.status.tolist() == [COMPLETED, REJECTED, COMPLETED]
    assert outcome.attainment == pytest.approx(2 / 3)
    assert math.isnan(outcome.ttft_seconds[1])


def test_what_is_not_done_when_the_run_ends_is_a_miss() -> None:
    requests = every(0.0, 20, output=100)  # 4 at once, 10.4 s each
    outcome, _ = seen(requests, Plan(), replace(SETUP, drain_limit_seconds=25.0))
    assert (outcome.completed, outcome.unfinished) == (8, 12)
    assert outcome.status.tolist().count(UNFINISHED) == 12
    assert outcome.ttft_quantile(1.0) == 25.0
    assert outcome.gpu_hours == pytest.approx(2 * 25.0 / 3600)


@pytest.mark.parametrize(
    ("ttft", "itl", "attainment"),
    [
        pytest.param(0.6, 0.11, 1.0, id="both targets kept"),
        pytest.param(0.4, 0.11, 0.0, id="first token late"),
        pytest.param(0.6, 0.09, 0.0, id="tokens too slow"),
    ],
)
def test_a_request_attains_with_both_targets(ttft: float, itl: float, attainment: float) -> None:
    setup = replace(SETUP, slo_ttft_seconds=ttft, slo_itl_seconds=itl)
    outcome, _ = seen(every(5.0, 10, output=5), Plan(), setup)
    assert outcome.attainment == attainment


def test_a_scrape_counts_as_vllm_does() -> None:
    _, views = seen(every(2.0, 100, output=11, prompt=7), Plan())  # 0.5 s to the first token, then 10 in 1 s
    scrape = views[-1].scrapes[-1]
    arrived = int(scrape.at // 2)
    assert scrape.at == 190.0
    assert (scrape.arrived, scrape.completed) == (arrived, arrived)
    assert scrape.prompt_tokens == 7 * arrived
    assert scrape.generated_tokens == 11 * arrived
    half = TTFT_BOUNDS_SECONDS.index(0.5)
    assert scrape.ttft_counts[half - 1 : half + 1] == (0, arrived)
    assert scrape.ttft_counts[-1] == arrived
    assert scrape.itl_counts[-1] == 10 * arrived
    assert [one.at for one in views[-1].scrapes[:3]] == [0.0, 5.0, 10.0]
    assert views[-1].quantile("itl_counts", 0.5, 60.0) == pytest.approx(0.1, abs=0.03)


def test_old_scrapes_are_forgotten() -> None:
    _, views = seen(every(1.0, 200), Plan(), replace(SETUP, history_seconds=30.0))
    assert views[-1].scrapes[0].at >= views[-1].now - 35.0


def test_a_policy_that_is_asked_all_the_time_is_refused() -> None:
    plan = Plan()
    plan.interval_seconds = 0.0
    with pytest.raises(ValueError, match="interval of 0 s"):
        seen(every(1.0, 3), plan)


def test_without_requests_nothing_is_missed() -> None:
    outcome, _ = seen(every(1.0, 0), Plan())
    assert (outcome.attainment, outcome.completed, outcome.gpu_hours, outcome.itl_quantile(0.99)) == (1.0, 0, 0.0, 0.0)


def test_cold_starts_follow_their_distribution_and_are_learned() -> None:
    setup = replace(SETUP, cold_start_seconds=ColdStart(60.0, 20.0), seed=3)
    outcome, views = seen(every(1.0, 400), Plan(*((10.0 * count, count) for count in range(1, 30))), setup)
    took = [life.ready_at - life.asked_at for life in outcome.lives if life.ready_at]
    took = [seconds for seconds in took if seconds]
    assert len({round(seconds, 6) for seconds in took}) == len(took) > 20
    assert np.mean(took) == pytest.approx(60.0, abs=12.0)
    assert views[-1].cold_start_seconds == pytest.approx((60.0 + sum(took)) / (1 + len(took)))


def attainments(replicas: Sequence[int], make: Callable[[int], Requests]) -> list[float]:
    """Mean attainment over seeds by number of replicas that always serve."""
    steady = Performance(line(0.05, 1e-4), line(0.03, 5e-4), kv_capacity_tokens=30_000, max_running=64)
    setup = Setup(steady, 1, slo_ttft_seconds=0.6, slo_itl_seconds=0.08)

    def attainment(count: int, seed: int) -> float:
        policy: Callable[[], Policy] = Plan
        return run(make(seed), policy, replace(setup, initial=count)).attainment

    return [float(np.mean([attainment(count, seed) for seed in range(4)])) for count in replicas]


@pytest.mark.parametrize("shape", list(Shape))
def test_more_replicas_attain_more(shape: Shape) -> None:
    found = attainments(
        [1, 2, 3, 5, 8],
        lambda seed: synthetic(
            shape, seconds=300.0, low_per_second=1.0, high_per_second=9.0, seed=seed, lengths=Lengths(600.0, 60.0, 0.6)
        ),
    )
    assert all(more >= fewer - 0.001 for fewer, more in itertools.pairwise(found))
    assert found[0] < 0.9 < found[-1]


def test_histograms_of_ends_and_of_requests_own_means_count_every_request() -> None:
    ledger = Ledger(Requests(np.array([0.0, 0.0]), np.array([10, 10]), np.array([11, 1])))
    for index, (first, last) in enumerate([(1.0, 2.2), (3.0, 3.0)]):
        ledger.first_token(index, first)
        ledger.finish(index, last)
    assert ledger.mean_itl_counts[ITL_BOUNDS_SECONDS.index(0.15)] == 1, "1.2 s for ten tokens"
    assert ledger.mean_itl_counts[0] == 1, "with one token there is no time between"
    assert ledger.e2e_counts[E2E_BOUNDS_SECONDS.index(2.5)] == 1
    assert ledger.e2e_counts[E2E_BOUNDS_SECONDS.index(5.0)] == 1
