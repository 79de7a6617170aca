"""What histograms tell of misses, and what they teach about the price of an idle replica."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from stowage.decide.serving.memory import Memory
from stowage.decide.serving.misses import (
    AIM,
    LEAST_FACTOR,
    MOST_STEP,
    STEP_WHILE_PENDING,
    missed_share,
    remember_misses,
)
from stowage.decide.serving.settings import Role, Settings
from stowage.decide.serving.view import BOUNDS_SECONDS, Histogram, View
from unit.serving_views import PERFORMANCE, later, until, view

SETTINGS = Settings(PERFORMANCE)


def with_slow(share: float, histogram: Histogram = "mean_itl_counts", seconds: float = 0.12) -> View:
    """Of the requests that end, a share takes so long, all others next to nothing."""
    of = view(10.0, has_means=True)
    bounds = BOUNDS_SECONDS[histogram]

    def counts(total: int) -> tuple[int, ...]:
        return tuple(total if bound >= seconds else round(total * (1 - share)) for bound in (*bounds, 1e9))

    changed = tuple(replace(one, **{histogram: counts(one.completed)}) for one in of.scrapes)  # type: ignore[arg-type]
    return replace(of, scrapes=changed)


@pytest.mark.parametrize(
    ("of", "settings", "share"),
    [
        pytest.param(view(10.0, itl_seconds=0.05, has_means=True), SETTINGS, 0.0, id="none missed"),
        pytest.param(with_slow(0.03), SETTINGS, 0.03, id="slow between tokens, counted by request"),
        pytest.param(with_slow(0.03), replace(SETTINGS, slo_itl_seconds=None), 0.0, id="no target, no miss"),
        pytest.param(with_slow(0.03), replace(SETTINGS, role=Role.PREFILL), 0.0, id="none of the prefill role's"),
        pytest.param(with_slow(0.2, "ttft_counts", 9.0), SETTINGS, 0.2, id="late first tokens"),
        pytest.param(with_slow(0.2, "ttft_counts", 9.0), replace(SETTINGS, role=Role.DECODE), 0.0, id="not decode's"),
        pytest.param(
            with_slow(0.1, "e2e_counts", 55.0), replace(SETTINGS, slo_e2e_seconds=30.0), 0.1, id="late last tokens"
        ),
        pytest.param(with_slow(0.1, "e2e_counts", 55.0), SETTINGS, 0.0, id="no target for the last token"),
    ],
)
def test_shares_that_missed(of: View, settings: Settings, share: float) -> None:
    found = missed_share(of, settings, 60.0)
    assert found is not None
    assert found[1] == pytest.approx(share, abs=0.003)


def test_a_target_on_a_bound_of_buckets_is_counted_to_the_request() -> None:
    near = view(10.0, itl_seconds=0.1, has_means=True)
    found = missed_share(near, SETTINGS, 60.0)
    assert found is not None
    assert found[1] == 0.0, "all are between 75 ms and the target of 100 ms"


def test_without_requests_own_means_littles_law_stands_for_them() -> None:
    quick, slow = (missed_share(view(10.0, itl_seconds=itl), SETTINGS, 60.0) for itl in (0.05, 0.11))
    assert quick is not None
    assert slow is not None
    assert quick[1] < 0.001
    assert slow[1] > 0.5


def factor_after(of: View, settings: Settings = SETTINGS) -> float:
    memory = Memory()
    for at in range(60, 900, 20):
        memory = remember_misses(until(of, at), settings, memory)
    return memory.misses.price_factor


def test_idle_replicas_get_dearer_while_fewer_miss_than_may() -> None:
    factors = [factor_after(with_slow(share)) for share in (0.0, 0.004, 0.02, 0.2)]
    assert factors == sorted(factors, reverse=True)
    assert factors[0] > factors[1] > 1.0 > factors[2]
    assert factors[-1] == LEAST_FACTOR


def test_the_price_rests_where_the_share_aimed_at_is_missed() -> None:
    assert factor_after(with_slow(AIM * SETTINGS.may_miss)) == pytest.approx(1.0, rel=0.1)


def test_the_price_moves_the_more_slowly_the_longer_starts_take() -> None:
    quick, slow = (factor_after(replace(with_slow(0.03), cold_start_seconds=seconds)) for seconds in (60.0, 240.0))
    assert quick < slow < 1.0


def test_one_burst_does_not_end_what_was_learned() -> None:
    burst = remember_misses(until(with_slow(0.9), 60.0), SETTINGS, Memory())
    assert burst.misses.price_factor == pytest.approx(math.exp(-MOST_STEP))


def test_what_is_missed_while_replicas_are_on_their_way_teaches_less() -> None:
    burst = until(with_slow(0.9), 60.0)
    served, pending = (
        remember_misses(replace(burst, desired=len(burst.replicas) + more), SETTINGS, Memory()).misses.price_factor
        for more in (0, 1)
    )
    assert pending == pytest.approx(math.exp(-MOST_STEP * STEP_WHILE_PENDING))
    assert served < pending < 1.0


def test_a_longer_window_forgets_more_slowly() -> None:
    def after_a_burst(window: float) -> float:
        settings = replace(SETTINGS, attainment_window_seconds=window)
        memory = remember_misses(until(with_slow(0.05), 60.0), settings, Memory())
        calm: Callable[[float], View] = lambda at: until(view(10.0, has_means=True), at)  # noqa: E731
        for at in range(80, 900, 20):
            memory = remember_misses(calm(at), settings, memory)
        return memory.misses.missed

    assert after_a_burst(600.0) < 0.5 * after_a_burst(7200.0)


def test_the_same_scrape_is_counted_once() -> None:
    of = with_slow(0.05)
    once = remember_misses(of, SETTINGS, Memory())
    assert remember_misses(later(of, 5.0), SETTINGS, once) == once
