"""Each recommender on its own, against the formulas of its source."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from stowage.api.model_service_reasons import ScalingReason
from stowage.decide.serving.memory import Bin, Memory, Misses, Saturated
from stowage.decide.serving.misses import LEAST_FACTOR
from stowage.decide.serving.pipeline import observe, situation
from stowage.decide.serving.recommend_concurrency import recommend_concurrency
from stowage.decide.serving.recommend_forecast import recommend_forecast
from stowage.decide.serving.recommend_saturation import recommend_saturation, remember_saturation
from stowage.decide.serving.recommend_schedule import recommend_schedule, scheduled_most
from stowage.decide.serving.recommend_slo import recommend_slo
from stowage.decide.serving.settings import ScheduledBounds, Settings
from stowage.decide.serving.situation import Situation
from stowage.decide.serving.view import View
from unit.serving_views import PERFORMANCE, later, until, view

SETTINGS = Settings(PERFORMANCE, concurrency_target=10)


def seen(of: View, settings: Settings = SETTINGS, memory: Memory | None = None) -> Situation:
    memory = observe(of, settings, memory or Memory())
    return situation(of, settings, memory)


def in_flight(*counts: int, ready: int = 2) -> View:
    """Each count for 5 s, the last one now."""
    of = view(1.0, ready=ready, seconds=5.0 * (len(counts) - 1))
    scrapes = tuple(replace(one, running=count) for one, count in zip(of.scrapes, counts, strict=True))
    return replace(of, scrapes=scrapes)


def test_a_forecast_plans_for_little_more_than_ever_came() -> None:
    of = replace(view(10.0), cold_start_seconds=240.0)
    bins = tuple(
        Bin(of.now - 10.0 * back, rate := 2.0 if back // 18 % 2 else 12.0, 500 * rate) for back in range(359, -1, -1)
    )
    wild = situation(of, SETTINGS, Memory(bins=bins, misses=Misses(price_factor=LEAST_FACTOR)))
    found = recommend_forecast(wild)
    assert found is not None
    bears, spread = wild.capacity.requests_per_second, wild.capacity.spread
    level = max(12.0, dict(found.inputs)["forecast_per_second"])
    most = math.ceil(level * math.exp(3 * math.hypot(wild.noise(level, 30.0), spread)) / bears)
    assert found.needed == most < 2 * math.ceil(level / bears)


@pytest.mark.parametrize(
    ("of", "replicas", "reason"),
    [
        pytest.param(
            in_flight(*[35] * 13, ready=3), 4, ScalingReason.CONCURRENCY_HIGH, id="total over target, rounded up"
        ),
        pytest.param(in_flight(*[5] * 13, ready=8), 4, ScalingReason.CONCURRENCY_HIGH, id="at most halved"),
        pytest.param(in_flight(*[15] * 11, 40, 40), 4, ScalingReason.BURST, id="twice the ready ones: panic at once"),
        pytest.param(
            in_flight(*[15] * 11, 30, 30), 2, ScalingReason.CONCURRENCY_HIGH, id="half as much again is no panic"
        ),
    ],
)
def test_concurrency(of: View, replicas: int, reason: ScalingReason) -> None:
    found, _ = recommend_concurrency(seen(of))
    assert found is not None
    assert (found.needed, found.enough, found.reason) == (replicas, replicas, reason)


def test_a_panic_lowers_nothing_until_it_is_over() -> None:
    _, memory = recommend_concurrency(seen(in_flight(*[15] * 11, 90, 90)))
    calm = in_flight(*[15] * 13)
    in_panic, memory = recommend_concurrency(seen(calm, memory=replace(memory, bins=())))
    assert in_panic is not None
    assert in_panic.needed == 9
    past = later(calm, 0)
    past = replace(past, now=past.now + 61, scrapes=tuple(replace(one, at=one.at + 61) for one in past.scrapes))
    after, memory = recommend_concurrency(seen(past, memory=replace(memory, bins=())))
    assert after is not None
    assert after.needed == 2
    assert memory.panic_until is None


def test_concurrency_without_a_target_takes_that_of_the_latency_model() -> None:
    found, _ = recommend_concurrency(seen(view(6.0), Settings(PERFORMANCE)))
    assert found is not None
    assert 10 < dict(found.inputs)["target_per_replica"] < PERFORMANCE.max_running


def with_tokens(in_use: int, waiting: int = 0, ready: int = 2) -> View:
    of = view(6.0, ready=ready)
    newest = replace(of.scrapes[-1], kv_tokens_in_use=in_use, waiting=waiting)
    return replace(of, scrapes=(*of.scrapes[:-1], newest))


# a replica holds k2 = min(2048 * 200 / 1200, 128) * (1000 + 100) = 140,800 tokens, below k1 = 320,000
@pytest.mark.parametrize(
    ("of", "needed", "enough"),
    [
        pytest.param(with_tokens(200_000), 2, 3, id="within 85 %, above 70 %"),
        pytest.param(with_tokens(250_000), 3, 3, id="above 85 %"),
        pytest.param(with_tokens(200_000, waiting=1_000), 3, 4, id="of the queue's prompts those of a stay are demand"),
        pytest.param(with_tokens(90_000), 1, 1, id="one would do"),
    ],
)
def test_saturation(of: View, needed: int, enough: int) -> None:
    found = recommend_saturation(seen(of))
    assert found is not None
    assert (found.needed, found.enough) == (needed, enough)


def test_saturation_believes_what_replicas_with_a_queue_held() -> None:
    of = with_tokens(200_000)
    known = Memory(saturated=(Saturated(of.now - 300, 60_000.0), Saturated(of.now - 200, 50_000.0)))
    found = recommend_saturation(seen(of, memory=known))
    assert found is not None
    assert dict(found.inputs)["tokens_per_replica"] == 60_000
    old = Memory(saturated=(Saturated(of.now - 700, 60_000.0),))
    forgotten = recommend_saturation(seen(of, memory=old))
    assert forgotten is not None
    assert dict(forgotten.inputs)["tokens_per_replica"] == pytest.approx(140_800)


def test_saturation_remembers_replicas_with_a_queue_only() -> None:
    queued = view(6.0, waiting=12)
    assert [one.tokens for one in remember_saturation(queued, Memory()).saturated] == [33_000.0]
    assert remember_saturation(view(6.0, waiting=8), Memory()).saturated == ()


def test_saturation_does_not_believe_a_replica_that_has_just_come() -> None:
    queued = view(6.0, waiting=12)
    young = tuple(replace(one, age_seconds=queued.cold_start_seconds + 59) for one in queued.replicas)
    assert remember_saturation(replace(queued, replicas=young), Memory()).saturated == ()


def test_saturation_without_a_cache_says_nothing() -> None:
    of = view(6.0)
    blind = replace(of.scrapes[-1], kv_tokens_capacity=0, kv_tokens_in_use=0)
    assert recommend_saturation(seen(replace(of, scrapes=(*of.scrapes[:-1], blind)))) is None


def test_slo_needs_more_for_more_load() -> None:
    needed = [found.needed for rate in (1.0, 4.0, 12.0, 60.0) if (found := recommend_slo(seen(view(rate))))]
    assert needed == sorted(needed)
    assert needed[0] == 1
    assert needed[-1] > 10


def test_slo_sees_a_jump_within_seconds() -> None:
    jump = view(lambda at: 20.0 if at > 885 else 4.0)
    found, before = recommend_slo(seen(jump)), recommend_slo(seen(view(4.0)))
    assert found is not None
    assert before is not None
    assert found.reason is ScalingReason.BURST
    assert found.needed > before.needed


def test_slo_counts_what_waits() -> None:
    found, before = recommend_slo(seen(view(4.0, waiting=1000))), recommend_slo(seen(view(4.0)))
    assert found is not None
    assert before is not None
    assert found.needed > before.needed


def test_slo_says_when_targets_are_missed_although_all_should_fit() -> None:
    found = recommend_slo(seen(view(2.0, ttft_seconds=9.0)))
    assert found is not None
    assert (found.reason, found.needed) == (ScalingReason.SLO_MISSED, 3)


def test_slo_without_two_samples_says_nothing() -> None:
    assert recommend_slo(seen(until(view(5.0), 0.0))) is None


def test_forecast_asks_before_a_ramp_arrives() -> None:
    ramp = view(lambda at: 2 + at / 60, seconds=1800, cold_start_seconds=240)
    ahead, now = recommend_forecast(seen(ramp)), recommend_slo(seen(ramp))
    assert ahead is not None
    assert now is not None
    assert ahead.needed > now.needed
    assert dict(ahead.inputs)["forecast_loss_ratio"] < 1


def test_forecast_without_demand_known_says_nothing() -> None:
    assert recommend_forecast(seen(until(view(5.0), 5.0))) is None


NINE = ScheduledBounds(9 * 3600, 17 * 3600, days=(0, 1, 2, 3, 4), least=6, most=9)
NIGHT = ScheduledBounds(22 * 3600, 6 * 3600, days=(4,), zone="Europe/Berlin", least=4)
SHORT = ScheduledBounds(9 * 3600, 9 * 3600 + 60, least=3)
EARLY = ScheduledBounds(2 * 3600 + 900, 2 * 3600 + 2700, zone="Europe/Berlin", least=2)
MONDAY = 4 * 86_400.0  # 1970-01-05, 00:00 UTC
SPRING = datetime(2026, 3, 29, 1, tzinfo=UTC).timestamp()  # clocks in Berlin go from 2:00 to 3:00
AUTUMN = datetime(2026, 10, 25, 1, tzinfo=UTC).timestamp()  # and from 3:00 back to 2:00


@pytest.mark.parametrize(
    ("schedule", "at", "least"),
    [
        pytest.param(NINE, MONDAY + 12 * 3600, 6, id="in the window"),
        pytest.param(NINE, MONDAY + 9 * 3600 - 121, None, id="too early"),
        pytest.param(NINE, MONDAY + 9 * 3600 - 119, 6, id="a cold start ahead"),
        pytest.param(NINE, MONDAY + 17 * 3600, None, id="over"),
        pytest.param(NINE, MONDAY - 12 * 3600, None, id="not on Sunday"),
        pytest.param(NIGHT, MONDAY + 4 * 86_400 + 22 * 3600, 4, id="Friday night in Berlin"),
        pytest.param(NIGHT, MONDAY + 5 * 86_400 + 4 * 3600, 4, id="past midnight it is still Friday's"),
        pytest.param(NIGHT, MONDAY + 5 * 86_400 + 22 * 3600, None, id="not Saturday night"),
        pytest.param(SHORT, MONDAY + 9 * 3600 - 121, None, id="a short window: too early"),
        pytest.param(SHORT, MONDAY + 9 * 3600 - 119, 3, id="a short window: a cold start ahead"),
        pytest.param(SHORT, MONDAY + 9 * 3600 - 30, 3, id="a short window: it is still to come"),
        pytest.param(SHORT, MONDAY + 9 * 3600 + 60, None, id="a short window: over"),
        pytest.param(EARLY, SPRING - 1, None, id="a window that the clocks leave out: not yet"),
        pytest.param(EARLY, SPRING + 1800, 2, id="a window that the clocks leave out: when it would have been"),
        pytest.param(EARLY, SPRING + 2700, None, id="a window that the clocks leave out: over"),
        pytest.param(EARLY, AUTUMN - 1800, 2, id="a window that comes twice: the first time"),
        pytest.param(EARLY, AUTUMN - 300, 2, id="a window that comes twice: between both"),
        pytest.param(EARLY, AUTUMN + 2699, 2, id="a window that comes twice: the second time"),
        pytest.param(EARLY, AUTUMN + 2700, None, id="a window that comes twice: over"),
    ],
)
def test_schedule(schedule: ScheduledBounds, at: float, least: int | None) -> None:
    found = recommend_schedule((schedule,), at, 120.0)
    assert (found and found.needed) == least


def test_schedule_ceiling_holds_in_its_window_only() -> None:
    assert scheduled_most((NINE,), MONDAY + 12 * 3600) == 9
    assert scheduled_most((NINE,), MONDAY + 9 * 3600 - 60) is None
