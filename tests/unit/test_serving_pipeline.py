"""Decisions from views: up at once, down with care, never for want of knowledge; each with its reason and numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from stowage.api.model_service_reasons import ScalingReason
from stowage.decide.serving.decision import Decision, Recommender
from stowage.decide.serving.decision_words import words
from stowage.decide.serving.memory import KEPT_DECISIONS, Memory, from_json, to_json
from stowage.decide.serving.pipeline import decide, observe, situation
from stowage.decide.serving.settings import ScheduledBounds, Settings
from stowage.decide.serving.view import View
from unit.serving_views import PERFORMANCE, later, replicas, until, view

SETTINGS = Settings(PERFORMANCE, least=1, most=20)


def play(
    seen: View, begin: float, end: float, desired: int, settings: Settings = SETTINGS
) -> tuple[list[Decision], Memory]:
    """Decisions every 5 s between two seconds after the first scrape; what is asked for is there at once."""
    memory, made = Memory(), []
    for at in range(round(begin), round(end) + 1, 5):
        now = until(seen, at, desired)
        now = replace(
            now, replicas=replicas(desired), scrapes=tuple(replace(one, ready=desired) for one in now.scrapes)
        )
        decision, memory = decide(now, settings, memory)
        made.append(decision)
        desired = decision.to_replicas
    return made, memory


def test_a_jump_is_answered_within_one_interval_of_being_seen() -> None:
    made, _ = play(view(lambda at: 25.0 if at > 600 else 3.0), 400, 640, 2)
    answer = next(one for one in made if one.to_replicas > one.from_replicas)
    assert answer.at - 100_600 <= 15
    assert answer.reason is ScalingReason.BURST
    assert answer.recommender is Recommender.SLO


def test_a_growing_queue_alone_is_answered() -> None:
    decision, _ = decide(view(4.0, waiting=500), SETTINGS, Memory())
    assert decision.to_replicas > decision.from_replicas
    assert dict(decision.inputs)["waiting"] == 500


def test_a_fall_waits_for_the_window_and_goes_step_by_step() -> None:
    made, _ = play(view(lambda at: 20.0 if at <= 600 else 3.0, seconds=1800), 500, 1800, 10)
    falls = [one for one in made if one.to_replicas < one.from_replicas]
    assert falls[0].at >= 100_560  # a window after the first decision
    assert all(one.from_replicas - one.to_replicas <= 2 for one in falls)
    assert made[-1].to_replicas <= 3
    assert {one.reason for one in falls} <= {
        ScalingReason.CAPACITY_UNUSED, ScalingReason.STABILIZING, ScalingReason.RATE_LIMITED,
    }  # fmt: skip


def test_pending_replicas_are_counted_once() -> None:
    steady = view(14.0, ready=2)
    first, memory = decide(steady, SETTINGS, Memory())
    assert first.to_replicas > 2
    more = first.to_replicas - 2
    pending = replace(steady, desired=first.to_replicas, replicas=replicas(2, starting=more))
    again, _ = decide(pending, SETTINGS, memory)
    assert (again.to_replicas, again.reason) == (first.to_replicas, ScalingReason.REPLICAS_PENDING)


@pytest.mark.parametrize(
    ("least", "said"),
    [
        pytest.param(1, "1 replica stays: what is there fits; ", id="no fewer would do"),
        pytest.param(2, "2 replicas stay: bounds.min; ", id="fewer would do"),
    ],
)
def test_at_the_least_that_a_role_may_have_nothing_is_waited_for(least: int, said: str) -> None:
    made, _ = play(view(0.01, ready=least, seconds=600.0), 5, 400, least, replace(SETTINGS, least=least))
    assert all(words(one).startswith(said) for one in made[1:]), {words(one) for one in made[1:]}


@pytest.mark.parametrize(
    ("rate", "desired", "settings"),
    [
        pytest.param(40.0, 2, replace(SETTINGS, most_rise_percent_per_minute=100.0), id="more, as the limit allows"),
        pytest.param(0.5, 10, replace(SETTINGS, stabilisation_seconds=5.0), id="fewer, as the limit allows"),
    ],
)
def test_a_change_that_was_not_made_takes_nothing_of_what_a_minute_allows(
    rate: float, desired: int, settings: Settings
) -> None:
    """A pause, a budget or a quota has kept the role as it was: a minute later as much is asked for as before."""
    seen, memory = view(rate, ready=desired, seconds=900.0), Memory()
    asked = []
    for at in range(600, 700, 5):
        decision, memory = decide(until(seen, at, desired), settings, memory)
        asked.append(decision.to_replicas)
    assert asked[-1] != desired
    changed = asked[next(at for at, count in enumerate(asked) if count != desired) :]
    assert set(changed) == {changed[0]}


def test_nothing_falls_before_demand_has_been_known_for_a_while() -> None:
    made, _ = play(view(0.5), 5, 150, 6)
    assert {one.to_replicas for one in made} == {6}


def nan(seen: View) -> View:
    return replace(seen, scrapes=(*seen.scrapes[:-1], replace(seen.scrapes[-1], waiting=math.nan)))  # type: ignore[arg-type]


def negative(seen: View) -> View:
    return replace(seen, scrapes=(*seen.scrapes[:-1], replace(seen.scrapes[-1], arrived=-1)))


def half_gone(seen: View) -> View:
    return replace(seen, scrapes=(*seen.scrapes[:-1], replace(seen.scrapes[-1], ready=seen.scrapes[-1].ready // 2)))


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda seen: later(seen, 900), id="Prometheus is down for 15 minutes"),
        pytest.param(lambda seen: replace(seen, scrapes=()), id="all series are gone"),
        pytest.param(nan, id="no number"),
        pytest.param(negative, id="negative"),
        pytest.param(half_gone, id="half of the targets are gone"),
    ],
)
def test_without_knowledge_nothing_falls(fault: object) -> None:
    _, memory = play(view(1.0, ready=6, seconds=1200), 1000, 1195, 6)
    assert memory.last_good is not None
    seen = fault(view(1.0, ready=6, seconds=1200))  # type: ignore[operator]
    decision, after = decide(replace(seen, desired=3), SETTINGS, replace(memory, last_good=6))
    assert (decision.to_replicas, decision.reason) == (6, ScalingReason.SIGNALS_MISSING)
    assert decision.recommender is Recommender.NONE
    assert len(decision.inputs) == 1
    assert after.last_good == 6


def test_the_last_good_decision_is_no_reason_to_break_a_limit() -> None:
    decision, _ = decide(replace(view(1.0), scrapes=()), replace(SETTINGS, most=4), Memory(last_good=9))
    assert decision.to_replicas == 4


def test_after_an_outage_the_window_begins_anew() -> None:
    quiet = view(1.0, ready=6, seconds=1200)
    _, memory = play(quiet, 1000, 1150, 6, replace(SETTINGS, stabilisation_seconds=300))
    _, memory = decide(replace(quiet, scrapes=(), desired=6), SETTINGS, memory)
    decision, _ = decide(replace(quiet, desired=6), SETTINGS, memory)
    assert (decision.to_replicas, decision.reason) == (6, ScalingReason.STABILIZING)


def test_a_schedule_raises_even_without_signals() -> None:
    always = ScheduledBounds(0, 0, least=5)
    decision, _ = decide(replace(view(1.0), scrapes=()), replace(SETTINGS, schedules=(always,)), Memory())
    assert (decision.to_replicas, decision.reason) == (5, ScalingReason.SCHEDULED)


@pytest.mark.parametrize(
    ("settings", "count", "reason"),
    [
        pytest.param(replace(SETTINGS, most=3), 3, ScalingReason.AT_MAXIMUM, id="maximum"),
        pytest.param(replace(SETTINGS, budget_replicas=4), 4, ScalingReason.BUDGET_REACHED, id="budget"),
    ],
)
def test_limits_are_named(settings: Settings, count: int, reason: ScalingReason) -> None:
    decision, _ = decide(view(40.0), settings, Memory())
    assert (decision.to_replicas, decision.reason) == (count, reason)


def test_a_cost_ratio_sets_the_quantile() -> None:
    cheap, dear = (
        decide(view(10.0), replace(SETTINGS, cost_ratio=one), Memory())[0].to_replicas for one in (1.0, 10_000.0)
    )
    assert cheap < dear


def test_a_recommender_that_was_not_chosen_has_no_say() -> None:
    settings = replace(SETTINGS, recommenders=(Recommender.CONCURRENCY,), concurrency_target=1.0)
    decision, _ = decide(view(4.0), settings, Memory())
    assert decision.recommender is Recommender.CONCURRENCY


def test_without_any_recommendation_the_count_is_held() -> None:
    decision, _ = decide(view(4.0), replace(SETTINGS, recommenders=()), Memory())
    assert (decision.to_replicas, decision.reason) == (2, ScalingReason.SIGNALS_MISSING)


def test_decisions_are_kept_and_repeats_are_not() -> None:
    made, memory = play(view(3.0), 300, 900, 2)
    assert len(memory.decisions) < len(made)
    assert len(memory.decisions) <= KEPT_DECISIONS
    assert memory.decisions[-1] == made[-1]
    assert made[-1].valid_until == made[-1].at + 15


def test_memory_is_text_between_processes() -> None:
    seen = view(lambda at: 5 + at / 100, seconds=1500)
    made, memory = play(seen, 300, 1400, 3)
    assert from_json(to_json(memory)) == memory
    now = until(seen, 1405, made[-1].to_replicas)
    assert decide(now, SETTINGS, from_json(to_json(memory))) == decide(now, SETTINGS, memory)


def test_idle_replicas_cost_less_where_starts_are_long() -> None:
    def idle(cold_start_seconds: float) -> float:
        of = view(4.0, cold_start_seconds=cold_start_seconds)
        return situation(of, SETTINGS, observe(of, SETTINGS, Memory())).price.idle

    assert idle(30.0) == idle(80.0)
    assert idle(240.0) == pytest.approx(idle(120.0) / 2, rel=0.02)
