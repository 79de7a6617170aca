"""Whatever a policy asks for and whatever is lost: every request ends once, and every replica is paid for its time."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stowage.decide.serving.performance import Performance, constant, line
from stowage.decide.serving.view import View
from stowage.simulate.serving.fleet import run
from stowage.simulate.serving.outcome import COMPLETED, REJECTED, UNFINISHED
from stowage.simulate.serving.requests import Requests
from stowage.simulate.serving.setup import MetricsOutage, ReplicaLoss, Setup

PERFORMANCE = Performance(
    line(0.2, 1e-3), line(0.05, 1e-3), 800, constant(1e-6), max_running=4, max_batched_tokens=64, mixed_factor=1.1
)
FAILURES = st.lists(
    st.one_of(
        st.builds(ReplicaLoss, st.floats(0, 300), st.integers(1, 3)),
        st.builds(MetricsOutage, st.floats(0, 150), st.floats(150, 300)),
    ),
    max_size=4,
).map(tuple)


class Moody:
    """Asks for anything; remembers what it saw."""

    name = "moody"
    interval_seconds = 7.0

    def __init__(self, wishes: list[int]) -> None:
        self._wishes = wishes
        self.views: list[View] = []

    def decide(self, view: View) -> int:
        self.views.append(view)
        return self._wishes[len(self.views) % len(self._wishes)]


def _requests(draw: st.DrawFn) -> Requests:
    count = draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    at = np.sort(rng.uniform(0, draw(st.sampled_from([1.0, 30.0, 300.0])), count))
    return Requests(at, rng.integers(1, 700, count), rng.integers(1, 200, count))


RUNS = st.composite(_requests)()


@settings(max_examples=150, deadline=None)
@given(RUNS, st.lists(st.integers(0, 6), min_size=1, max_size=12), FAILURES, st.integers(0, 3), st.integers(0, 99))
def test_every_request_ends_once(
    requests: Requests, wishes: list[int], failures: tuple[ReplicaLoss | MetricsOutage, ...], initial: int, seed: int
) -> None:
    setup = Setup(
        PERFORMANCE, 4, 2.0, 0.2, 20.0, initial, (0, 6), seed=seed, failures=failures, drain_limit_seconds=120.0
    )
    moody = Moody(wishes)
    outcome = run(requests, lambda: moody, setup)

    assert outcome.completed + outcome.rejected + outcome.unfinished == len(requests)
    assert set(outcome.status.tolist()) <= {COMPLETED, REJECTED, UNFINISHED}
    done = outcome.status == COMPLETED
    assert not np.isnan(outcome.ttft_seconds[done]).any()
    fastest = np.array([PERFORMANCE.prefill_seconds(int(tokens)) for tokens in requests.prompt_tokens])
    assert (outcome.ttft_seconds[done] >= fastest[done] - 1e-9).all()
    too_long = requests.prompt_tokens + requests.output_tokens - 1 > PERFORMANCE.kv_capacity_tokens
    assert not (done & too_long).any()

    end = requests.duration_seconds + setup.drain_limit_seconds
    for life in outcome.lives:
        assert 0.0 <= life.asked_at <= life.gone_at <= end
        assert life.ready_at is None or life.asked_at <= life.ready_at <= life.gone_at
    assert len({life.name for life in outcome.lives}) == len(outcome.lives)
    asked = sum(life.gone_at - life.asked_at for life in outcome.lives)
    assert math.isclose(outcome.gpu_hours, 4 * asked / 3600.0, rel_tol=1e-9)

    for view in moody.views:
        for before, after in zip(view.scrapes, view.scrapes[1:], strict=False):
            for counter in ("at", "arrived", "completed", "prompt_tokens", "generated_tokens"):
                assert getattr(before, counter) <= getattr(after, counter)
            assert all(a <= b for a, b in zip(before.itl_counts, after.itl_counts, strict=True))
        for scrape in view.scrapes:
            assert scrape.at <= view.now
            assert scrape.kv_tokens_in_use <= scrape.kv_tokens_capacity
            assert list(scrape.ttft_counts) == sorted(scrape.ttft_counts)


@settings(max_examples=40, deadline=None)
@given(RUNS, st.integers(0, 6))
def test_with_a_replica_for_each_request_nobody_waits(requests: Requests, wish: int) -> None:
    fits = requests.prompt_tokens + requests.output_tokens - 1 <= PERFORMANCE.kv_capacity_tokens
    requests = Requests(requests.arrival_seconds[fits], requests.prompt_tokens[fits], requests.output_tokens[fits])
    enough = max(1, len(requests))
    setup = Setup(PERFORMANCE, 1, 1e9, 1e9, initial=enough, bounds=(enough, enough))
    outcome = run(requests, lambda: Moody([wish]), setup)
    alone = [PERFORMANCE.lone_prefill_seconds(int(tokens)) for tokens in requests.prompt_tokens]
    assert np.allclose(outcome.ttft_seconds, alone)
    assert outcome.attainment == 1.0


@settings(max_examples=30, deadline=None)
@given(RUNS, st.lists(st.integers(0, 6), min_size=1, max_size=12), st.integers(0, 99))
def test_the_same_run_twice_is_the_same(requests: Requests, wishes: list[int], seed: int) -> None:
    setup = Setup(PERFORMANCE, 1, 2.0, 0.2, 20.0, seed=seed)
    first, second = (run(requests, lambda: Moody(wishes), setup) for _ in range(2))
    assert first.lives == second.lives
    assert np.array_equal(first.ttft_seconds, second.ttft_seconds, equal_nan=True)
