"""All pods of a role together: scrapes that rise, who is ready, what stays of pods that go, and how much is kept."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from stowage.api.durations import Duration
from stowage.api.fields import MAX_COUNT
from stowage.api.model_service import ServiceLevel
from stowage.api.model_service_reasons import ServiceReason
from stowage.decide.serving.settings import Settings
from stowage.decide.serving.signals_pod import Counting, PodSample
from stowage.decide.serving.signals_problem import problem_of, wanting
from stowage.decide.serving.signals_role import (
    FORGOTTEN_SECONDS,
    KEPT_HISTOGRAMS_SECONDS,
    KEPT_WHOLE_SECONDS,
    MAX_SCRAPES,
    RoleSignals,
    Rules,
    Standing,
    looked,
    recalled,
)
from stowage.decide.serving.targets_met import service_level
from stowage.decide.serving.trust import distrust
from stowage.decide.serving.view import TTFT_BOUNDS_SECONDS, ReplicaView, View
from unit.serving_views import PERFORMANCE, view

AT = 1_790_000_000.0
RULES = Rules(Counting(), stale_after_seconds=60.0)
ROW = tuple(float(number) for number in range(len(TTFT_BOUNDS_SECONDS) + 1))


def sample(
    at: float, done: float = 0, waiting: float | None = 0, running: float | None = 0, **fields: Any
) -> PodSample:
    return PodSample(
        AT + at,
        waiting,
        running,
        **{"counters": {("completed", ""): done}, "rows": {("ttft_counts", ""): ROW}, **fields},
    )


def ready(*names: str, draining: tuple[str, ...] = (), starting: tuple[str, ...] = ()) -> Standing:
    return Standing(frozenset(names), frozenset(draining), frozenset(starting), desired=len(names) + len(starting))


def told(
    known: RoleSignals, now: float, standing: Standing, /, rules: Rules = RULES, **samples: list[PodSample]
) -> RoleSignals:
    return looked(known, samples, standing, rules, AT + now)


def test_a_scrape_of_the_role_has_the_sums_and_the_time_of_the_newest() -> None:
    known = told(
        RoleSignals(),
        10,
        ready("a", "b"),
        a=[sample(4, 5, 1, 2, kv_share=0.5, kv_tokens=1000.0)],
        b=[sample(9, 7, 3, 4, kv_used=100.0, kv_tokens=2000.0)],
    )
    (scrape,) = known.scrapes
    assert (scrape.at, scrape.ready, scrape.starting) == (AT + 9, 2, 0)
    assert (scrape.waiting, scrape.running) == (4, 6)
    assert (scrape.kv_tokens_in_use, scrape.kv_tokens_capacity) == (600, 3000)


def test_totals_rise_by_what_pods_counted_since() -> None:
    known = told(RoleSignals(), 5, ready("a", "b"), a=[sample(1, 500)], b=[sample(2, 900)])
    known = told(known, 15, ready("a", "b"), a=[sample(11, 505)], b=[sample(12, 3)])
    assert [one.completed for one in known.scrapes] == [0, 8]
    assert [one.ttft_counts[-1] for one in known.scrapes] == [0, round(ROW[-1])], "only b began again"


def test_samples_missed_between_two_looks_make_scrapes_of_their_own_times() -> None:
    known = told(RoleSignals(), 0, ready("a"), a=[sample(0)])
    known = told(known, 60, ready("a"), a=[sample(at, at) for at in range(5, 61, 5)])
    assert [one.at - AT for one in known.scrapes] == list(range(0, 61, 5))
    again = told(known, 61, ready("a"), a=[sample(at, at) for at in range(5, 61, 5)])
    assert again.scrapes == known.scrapes


def test_what_a_pod_counted_stays_when_it_is_gone() -> None:
    known = told(RoleSignals(), 0, ready("a", "b"), a=[sample(0, 10)], b=[sample(0, 20)])
    known = told(known, 10, ready("a", "b"), a=[sample(10, 15)], b=[sample(10, 26)])
    for now in (20, 30, 10 + FORGOTTEN_SECONDS + 1, 50 + FORGOTTEN_SECONDS):
        known = told(known, now, ready("a"), a=[sample(now, 15)])
        assert (known.scrapes[-1].ready, known.scrapes[-1].completed) == (1, 11)
    assert known.pods.keys() == {"a"}


def test_a_new_pod_counts_in_full_and_a_target_that_was_missing_does_not() -> None:
    known = told(RoleSignals(), 0, ready("a", "silent", starting=("b",)), a=[sample(0, 10)])
    known = told(
        known, 10, ready("a", "b", "silent"), a=[sample(10, 10)], b=[sample(10, 4)], silent=[sample(10, 1_000_000)]
    )
    assert known.scrapes[-1].completed == 4


def test_after_a_gap_nobody_knows_when_a_new_pod_counted() -> None:
    known = told(RoleSignals(), 0, ready("a"), a=[sample(0, 10)])
    known = told(known, 200, ready("a", "b"), a=[sample(199, 12)], b=[sample(200, 40)])
    assert known.scrapes[-1].completed == 2


def test_draining_pods_count_and_are_no_load_of_those_that_stay() -> None:
    known = told(RoleSignals(), 0, ready("a", "b"), a=[sample(0, 1)], b=[sample(0, 1)])
    known = told(
        known, 10, ready("a", draining=("b",)), a=[sample(10, 2, 1, 1)], b=[sample(10, 4, 0, 30, kv_tokens=5.0)]
    )
    newest = known.scrapes[-1]
    assert (newest.ready, newest.running, newest.waiting, newest.completed) == (1, 1, 1, 4)
    assert newest.kv_tokens_capacity == 0


def test_pods_that_are_not_ready_may_have_a_queue() -> None:
    known = told(
        RoleSignals(), 0, ready("a", starting=("b",)), a=[sample(0)], b=[sample(0, waiting=5, kv_tokens=100.0)]
    )
    newest = known.scrapes[-1]
    assert (newest.ready, newest.starting, newest.waiting, newest.kv_tokens_capacity) == (1, 1, 5, 0)


@pytest.mark.parametrize(
    "of_b",
    [
        pytest.param([], id="not scraped"),
        pytest.param([sample(-70)], id="stale"),
        pytest.param([sample(0, waiting=None)], id="no queue"),
        pytest.param([sample(0, running=None)], id="no requests"),
        pytest.param([sample(-100, running=5.0, counters={}), sample(0, running=5.0, counters={})], id="no counter"),
    ],
)
def test_a_ready_pod_that_does_not_say_how_it_is_freezes_the_role(of_b: list[PodSample]) -> None:
    rules = Rules(Counting(expected=frozenset({"completed"}), grace_seconds=90.0), 60.0)
    known = told(RoleSignals(), 0, ready("a", "b"), rules, a=[sample(0)], b=of_b)
    assert known.scrapes[-1].ready == 1
    replicas = tuple(ReplicaView(name, True, 3600.0, 0, 0, 0, 0) for name in ("a", "b"))
    view = View(AT, 2, replicas, known.scrapes, 60.0)
    assert distrust(view, 60.0) == (("targets_missing", 1.0),)
    assert problem_of(known, ["a", "b"], rules, {}, AT) is not None


def test_without_a_ready_pod_nothing_is_known_and_at_zero_it_is() -> None:
    known = told(RoleSignals(), 0, ready("a"), a=[sample(0, 7)])
    unready = told(known, 10, ready(starting=("a",)), a=[sample(10, 7)])
    assert unready.scrapes == known.scrapes
    zero = told(unready, 20, Standing())
    assert (zero.scrapes[-1].at, zero.scrapes[-1].ready, zero.scrapes[-1].completed) == (AT + 20, 0, 0)
    wanted = told(unready, 20, Standing(desired=1))
    assert wanted.scrapes == known.scrapes


def test_the_cache_of_an_engine_that_does_not_tell_is_that_of_its_profile() -> None:
    rules = Rules(Counting(), 60.0, kv_tokens=1000.0)
    known = told(RoleSignals(), 0, ready("a", "b"), rules, a=[sample(0, kv_share=0.3)], b=[sample(0)])
    assert (known.scrapes[-1].kv_tokens_in_use, known.scrapes[-1].kv_tokens_capacity) == (300, 1000)


def test_the_past_is_recalled_for_all_pods_that_were_and_then_followed() -> None:
    def past(at: float, done: float) -> PodSample:
        return sample(at, done, rows={}, is_partial=True)

    found = {
        "gone": [past(at, 100 + at) for at in range(0, 601, 20)],
        "a": [past(at, 50 + at) for at in range(0, 1201, 20)],
        "new": [past(at, at - 800) for at in range(800, 1201, 20)],
    }
    known = recalled(found, 20.0, RULES)
    assert [one.at - AT for one in known.scrapes[:3]] == [0, 20, 40]
    assert known.scrapes[-1].completed == 600 + 1200 + 400
    assert [one.ready for one in (known.scrapes[0], known.scrapes[-1])] == [2, 2]
    assert not known.scrapes[-1].ttft_counts
    known = told(known, 1230, ready("a", "new"), a=[sample(1225, 1280)], new=[sample(1225, 430)])
    assert known.scrapes[-1].completed == 600 + 1230 + 430
    assert known.scrapes[-1].ttft_counts[-1] == 0, "what was counted before was not asked for"


def test_an_hour_is_kept_and_only_its_end_whole() -> None:
    known = RoleSignals()
    for now in range(0, 5000, 5):
        known = told(known, now, ready("a"), a=[sample(now, now)])
    times = [one.at - AT for one in known.scrapes]
    assert len(times) < MAX_SCRAPES
    assert 4995 - times[0] < 3600
    assert all(late > early for early, late in itertools.pairwise(times))
    whole = [one.at - AT for one in known.scrapes if one.ttft_counts]
    end = [at for at in whole if at > 4995 - KEPT_WHOLE_SECONDS]
    assert end == list(range(4995 - int(KEPT_WHOLE_SECONDS) + 5, 5000, 5))
    before = whole[: -len(end)]
    assert before[0] - times[0] <= KEPT_HISTOGRAMS_SECONDS, "attainment is counted over an hour"
    apart = {late - early for early, late in itertools.pairwise(before)}
    assert KEPT_HISTOGRAMS_SECONDS <= min(apart) <= max(apart) <= KEPT_HISTOGRAMS_SECONDS + 10


def test_what_was_missed_half_an_hour_ago_counts_in_the_attainment_of_an_hour() -> None:
    known, late, bounds = RoleSignals(), 0, len(TTFT_BOUNDS_SECONDS)
    for now in range(0, 3600, 5):
        late += 5 if 1200 <= now < 1800 else 0
        row = (*[float(now - late)] * bounds, float(now))
        known = told(known, now, ready("a"), a=[replace(sample(now, now), rows={("ttft_counts", ""): row})])
    view = View(AT + 3595, 1, (), known.scrapes, 60.0)
    slo = ServiceLevel(time_to_first_token=Duration("2s"))
    found = service_level(slo, [(Settings(PERFORMANCE, 2.0, None), view)])
    assert found is not None
    assert float(found.attainment or 0) == pytest.approx(5 / 6, abs=0.01)
    assert found.requests > 3400


def test_counts_beyond_what_a_status_can_hold_are_cut() -> None:
    row = [(number,) * len(ROW) for number in (0, 10**17)]
    scrapes = tuple(replace(one, ttft_counts=counts) for one, counts in zip(view(5.0).scrapes[-2:], row, strict=True))
    level = service_level(
        ServiceLevel(time_to_first_token=Duration("2s")),
        [(Settings(PERFORMANCE), replace(view(5.0), scrapes=scrapes))],
    )
    assert level is not None
    assert level.requests == MAX_COUNT


@pytest.mark.parametrize(
    ("of_b", "reason", "words"),
    [
        pytest.param(None, ServiceReason.SIGNALS_MISSING, "no series of b", id="never scraped"),
        pytest.param(sample(-75), ServiceReason.SIGNALS_STALE, "of b is up to 75 s old", id="old"),
        pytest.param(
            sample(0, waiting=None), ServiceReason.SIGNALS_MISSING, "no the_queue of b", id="a series is missing"
        ),
        pytest.param(
            sample(0, waiting=None, unsound=("the_queue",)),
            ServiceReason.SIGNALS_CONTRADICTORY,
            "no number: the_queue of b",
            id="no number",
        ),
    ],
)
def test_problems_are_told_with_names(of_b: PodSample | None, reason: ServiceReason, words: str) -> None:
    samples = {"a": [sample(0)], "b": [of_b] if of_b is not None else []}
    known = looked(RoleSignals(), samples, ready("a", "b"), RULES, AT)
    found = problem_of(known, ["a", "b"], RULES, {"waiting": "the_queue"}, AT)
    assert found is not None
    assert found[0] is reason
    assert words in found[1]


def test_of_many_pods_some_are_named() -> None:
    found = problem_of(RoleSignals(), [f"pod-{number}" for number in range(9)], RULES, {}, AT)
    assert found == (ServiceReason.SIGNALS_MISSING, "Prometheus has no series of pod-0, pod-1, pod-2 and 6 more")


def test_what_is_only_wished_for_is_told_once_requests_have_ended() -> None:
    words = {"itl_counts": "itl", "ttft_counts": "ttft", "kv_share": "share"}
    idle = looked(RoleSignals(), {"a": [sample(0)]}, ready("a"), RULES, AT)
    assert wanting(idle, ["a"], words, words) == ""
    busy = looked(RoleSignals(), {"a": [sample(0, done=1)]}, ready("a"), RULES, AT)
    assert wanting(busy, ["a"], words, words) == "no replica has itl; share"
