"""Looks at a role: what they say of replicas and requests, and what is asked for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from stowage.api.model_service_reasons import ServiceReason
from stowage.decide.serving.trust import distrust
from unit.signals_bench import GONE, NOW, A, B, Bench, pod, service, signals_bench


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with signals_bench() as made:
        yield made


async def test_a_look_has_the_role_as_it_is(bench: Bench) -> None:
    bench.serve(A, -120, -3, per_second=0)
    bench.scrape(A, NOW - 1, done=1000, waiting=3, running=7)
    bench.scrape(B, NOW - 2, done=5, waiting=1, running=2)
    look = await bench.look([pod(A), pod(B), pod("starting", ready=False, age=30)])
    newest = look.view.scrapes[-1]
    assert (look.problem, look.message) == (None, "")
    assert (newest.at, newest.ready, newest.starting, newest.waiting, newest.running) == (NOW - 1, 2, 1, 4, 9)
    assert (newest.kv_tokens_in_use, newest.kv_tokens_capacity) == (8000, 32_000)
    assert look.requests == {A: 10, B: 3}
    assert look.sampled_at == {A: NOW - 1, B: NOW - 2}
    first, second, third = look.view.replicas
    assert (first.waiting, first.running, first.kv_tokens_in_use, first.kv_tokens_capacity) == (3, 7, 4000, 16_000)
    assert (third.is_ready, third.age_seconds, third.kv_tokens_capacity, second.is_ready) == (False, 30.0, 16_000, True)
    assert (look.view.now, look.view.desired, look.view.cold_start_seconds) == (NOW, 3, 60.0)
    assert distrust(look.view, 60.0) is None


async def test_a_first_look_knows_the_last_hour_also_of_pods_that_are_gone(bench: Bench) -> None:
    bench.serve(A, -3600, 0, per_second=2)
    bench.serve(GONE, -3600, -1800, per_second=6)
    look = await bench.look([pod(A)])
    view = look.view
    assert view.now - view.scrapes[0].at > 3500
    assert view.rate("arrived", 900) == pytest.approx(2.0, rel=0.05)
    assert view.rate("prompt_tokens", 900) == pytest.approx(200.0, rel=0.05)
    early = [one for one in view.scrapes if one.at <= NOW - 1900]
    assert (early[-1].arrived - early[0].arrived) / (early[-1].at - early[0].at) == pytest.approx(8.0, rel=0.05)
    assert early[-1].ready == 2
    ranges = [one for one in bench.fake.questions if one.path.endswith("query_range")]
    assert ranges
    asked = len(ranges)
    bench.now = NOW + 5
    await bench.look([pod(A)])
    assert len([one for one in bench.fake.questions if one.path.endswith("query_range")]) == asked, "once"


async def test_further_looks_go_on_where_the_last_one_was(bench: Bench) -> None:
    bench.serve(A, -600, 0, per_second=3)
    before = await bench.look([pod(A)])
    for step in range(1, 13):
        bench.now = NOW + 5 * step
        bench.scrape(A, bench.now - 1, done=1000 + 1800 + 50 * step, running=step)
        look = await bench.look([pod(A)])
    assert look.view.scrapes[-1].at == bench.now - 1
    grown = look.view.scrapes[-1].arrived - before.view.scrapes[-1].arrived
    assert grown == 50 * 12 + 12, "those that ended, and those that run"
    assert look.view.quantile("ttft_counts", 0.5, 60) == pytest.approx(0.05)
    instant = [one for one in bench.fake.questions if one.path.endswith("query")]
    assert len(instant) == 13, "one query for each look"


async def test_what_a_pod_did_until_it_went_is_counted(bench: Bench) -> None:
    bench.serve(A, -60, 0, per_second=0)
    bench.serve(B, -60, 0, per_second=0)
    before = await bench.look([pod(A), pod(B)])
    bench.scrape(B, NOW + 4, done=1030)
    bench.scrape(A, NOW + 5, done=1005)
    bench.now = NOW + 5
    after = await bench.look([pod(A)])
    assert after.view.scrapes[-1].completed - before.view.scrapes[-1].completed == 35


async def test_who_looks_again_and_again_gets_what_is_known(bench: Bench) -> None:
    bench.serve(A, -60, 0, per_second=1)
    first = await bench.look([pod(A)])
    asked = len(bench.fake.questions)
    bench.now = NOW + 1.5
    again = await bench.look([pod(A), pod(B, ready=False, age=1)])
    assert (len(bench.fake.questions), again.view.scrapes) == (asked, first.view.scrapes)
    assert [one.name for one in again.view.replicas] == [A, B]
    bench.now = NOW + 2
    await bench.look([pod(A)])
    assert len(bench.fake.questions) == asked + 1


async def test_a_window_reaches_back_to_the_oldest_of_the_newest_samples(bench: Bench) -> None:
    bench.serve(A, -60, 0, per_second=1)
    bench.serve(B, -60, -20, per_second=1)
    await bench.look([pod(A), pod(B)])
    bench.now = NOW + 5
    bench.scrape(B, NOW - 15, done=2000)  # late, as by remote write
    look = await bench.look([pod(A), pod(B)])
    assert bench.fake.questions[-1].asked["query"].endswith("[26s]")
    assert look.view.replicas[1].running == 0
    assert look.sampled_at.get(B, NOW - 15) == NOW - 15
    assert look.view.scrapes[-1].at == NOW, "what came late is in the next scrape"


@pytest.mark.parametrize(
    ("spec", "reason", "words"),
    [
        pytest.param({}, ServiceReason.SIGNALS_MISSING, f"no series of {B}", id="a target is missing"),
        pytest.param(
            {"engine": {"metrics": {"waiting": "renamed_waiting"}}},
            ServiceReason.SIGNALS_MISSING,
            "no renamed_waiting of",
            id="a series has another name",
        ),
        pytest.param(
            {"engine": {"type": "Custom", "metrics": {"waiting": "w", "running": "r"}}},
            ServiceReason.SIGNALS_MISSING,
            "neither requestsArrived nor requestsCompleted",
            id="nothing counts requests",
        ),
    ],
)
async def test_what_is_missing_is_named(bench: Bench, spec: Any, reason: ServiceReason, words: str) -> None:
    bench.serve(A, -120, 0, per_second=1)
    if spec:
        bench.serve(B, -120, 0, per_second=1)
    look = await bench.look([pod(A), pod(B)], service(**spec))
    assert look.problem is reason
    assert words in look.message
    assert distrust(look.view, 60.0) is not None


async def test_a_pod_that_is_new_need_not_have_been_scraped(bench: Bench) -> None:
    bench.serve(A, -120, 0, per_second=1)
    look = await bench.look([pod(A), pod(B, age=20)])
    assert (look.problem, look.view.scrapes[-1].ready) == (None, 1)


async def test_a_pod_that_has_just_become_ready_after_a_long_start_need_not_have_been_scraped(bench: Bench) -> None:
    bench.serve(A, -120, 0, per_second=1)
    look = await bench.look([pod(A), pod(B, age=900, answers=20)])
    assert (look.problem, distrust(look.view, 60.0)) == (None, None)
    bench.now = NOW + 50
    bench.serve(A, 1, 50, per_second=1)
    later = await bench.look([pod(A), pod(B, age=900, answers=20)])
    assert (later.problem, later.message) == (ServiceReason.SIGNALS_MISSING, f"Prometheus has no series of {B}")


async def test_a_pod_that_was_not_ready_for_a_moment_is_missed_all_the_same(bench: Bench) -> None:
    """One with too much to do fails probes and scrapes alike: what it does counts, and nobody knows it."""
    bench.serve(A, -120, 100, per_second=1)
    bench.serve(B, -120, 0, per_second=9)
    assert (await bench.look([pod(A), pod(B)])).problem is None
    bench.now = NOW + 100
    look = await bench.look([pod(A), pod(B, answers=-80)])
    assert (look.problem, B in look.message) == (ServiceReason.SIGNALS_STALE, True)
    assert distrust(look.view, 60.0) == (("targets_missing", 1.0),)


async def test_old_samples_are_told_as_old(bench: Bench) -> None:
    bench.serve(A, -300, -50, per_second=1)
    first = await bench.look([pod(A)])
    assert (first.problem, first.requests) == (None, {}), "the next sample of a target of every 5 s is overdue"
    bench.now = NOW + 30
    look = await bench.look([pod(A)])
    assert look.problem is ServiceReason.SIGNALS_STALE
    assert look.message == f"the newest sample of {A} is up to 80 s old"


async def test_draining_pods_have_their_requests_told_and_are_no_replicas(bench: Bench) -> None:
    bench.serve(A, -60, 0, per_second=1)
    bench.scrape(B, NOW - 6, done=3, running=5)
    bench.scrape(B, NOW - 1, done=4, running=4)
    look = await bench.look([pod(A), pod(B, draining=True)])
    assert look.requests == {A: 0, B: 4}
    assert [one.name for one in look.view.replicas] == [A]
    assert (look.view.scrapes[-1].running, look.view.scrapes[-1].draining) == (0, 1), "its tokens are counted"


async def test_a_role_at_zero_is_known_to_have_nothing(bench: Bench) -> None:
    look = await bench.look([])
    assert (look.problem, look.view.scrapes[-1].at, look.view.scrapes[-1].ready) == (None, NOW, 0)
    wanted = await bench.look([pod(A, ready=False)])
    assert wanted.problem is None, "it was at zero until now"
    bench.now = NOW + 100
    later = await bench.look([pod(A, ready=False)])
    assert (later.problem, later.message) == (
        ServiceReason.SIGNALS_MISSING,
        "no replica is ready, so none says how it is",
    )


async def test_a_service_sees_its_own_namespace_only(bench: Bench) -> None:
    bench.serve(A, -60, 0, per_second=1)
    bench.store.scrape(NOW, {"vllm:num_requests_waiting": 999}, namespace="other", pod=A, instance="x:8000", job="y")
    look = await bench.look([pod(A)])
    assert look.view.scrapes[-1].waiting == 0
    assert all('namespace="team"' in one.asked["query"] for one in bench.fake.questions)


async def test_another_engine_or_endpoint_begins_anew_and_what_is_forgotten_is_gone(bench: Bench) -> None:
    bench.serve(A, -600, 0, per_second=1)
    assert len((await bench.look([pod(A)])).view.scrapes) > 20
    other = await bench.look([pod(A)], service(engine={"type": "Sglang"}))
    assert other.view.scrapes == ()
    bench.signals.forget("uid-1")
    assert not bench.signals._roles


async def test_the_cache_of_a_profile_counts_where_the_engine_does_not_tell(bench: Bench) -> None:
    engine = {"type": "TrtLlm"}
    for at in (-5.0, 0.0):
        values = {
            "trtllm_num_requests_waiting": 1,
            "trtllm_num_requests_running": 2,
            "trtllm_kv_cache_utilization": 0.5,
            "trtllm_request_success_total": 10,
        }
        bench.store.scrape(NOW + at, values, namespace="team", pod=A, instance="10.0.0.1:8000", job="engines")
    unknown = await bench.look([pod(A)], service(engine=engine))
    assert (unknown.view.scrapes[-1].kv_tokens_in_use, unknown.view.scrapes[-1].kv_tokens_capacity) == (0, 0)
    known = await bench.look([pod(A)], service(engine=engine), kv_tokens=8000)
    assert (known.view.replicas[0].kv_tokens_in_use, known.view.replicas[0].kv_tokens_capacity) == (4000, 8000)


async def test_what_targets_want_and_the_engine_does_not_tell_is_no_problem_and_is_said(bench: Bench) -> None:
    values = {
        "vllm:num_requests_waiting": 0,
        "vllm:num_requests_running": 1,
        "vllm:request_success_total": 10,
        "vllm:prompt_tokens_total": 10,
        "vllm:generation_tokens_total": 10,
    }
    bench.store.scrape(NOW, values, namespace="team", pod=A, instance="10.0.0.1:8000", job="engines")
    look = await bench.look([pod(A)], service(slo={"timeToFirstToken": "2s"}))
    assert look.problem is None
    assert look.message == (
        "no replica has vllm:kv_cache_usage_perc or vllm:gpu_cache_usage_perc; vllm:time_to_first_token_seconds"
    )


@pytest.mark.parametrize(("every", "said"), [(15.0, False), (30.0, False), (30.25, False), (60.0, True)])
async def test_samples_that_come_too_seldom_for_rates_are_said(bench: Bench, every: float, said: bool) -> None:
    bench.serve(A, -10 * every, 0, per_second=1, every=every)
    look = await bench.look([pod(A)], service(metrics={"staleAfter": "3m"}))
    assert look.problem is None
    assert (f"samples come every {every:.0f} s" in look.message) is said
    assert (look.view.rate("arrived", 60.0) is None) is said


async def test_roles_that_are_gone_from_the_spec_are_forgotten_in_time(bench: Bench) -> None:
    await bench.look([pod(A)])
    for number in range(5):
        bench.now += 4000.0
        await bench.signals.look(service(), f"role-{number}", [], 0, 60.0, bench.now)
    assert len(bench.signals._roles) == 1


async def test_the_last_pod_of_a_role_that_is_gone_ends_while_a_new_leader_looks(bench: Bench) -> None:
    """It is no longer among those asked for, and the spec names no Deployment of that role."""
    look = await bench.signals.look(service(), "decode", [], 0, 60.0, bench.now)
    assert (look.problem, look.requests) == (None, {})
