"""Looks at a role, over real connections to a server that has what a test scraped."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from harness.prometheus_server import FakePrometheus, Question, always, fake_prometheus, response
from harness.series_store import SeriesStore
from harness.waiting import eventually
from stowage.api.model_service import ModelService
from stowage.api.model_service_reasons import ScalingReason, ServiceReason
from stowage.decide.serving.decision import Decision
from stowage.decide.serving.memory import Memory
from stowage.decide.serving.pipeline import decide
from stowage.decide.serving.settings import Settings
from stowage.decide.serving.trust import distrust
from stowage.observe.prometheus import Endpoint
from stowage.run.operator import monotonic
from stowage.run.prometheus_settings import PrometheusSettings
from stowage.run.serving_signals import Look, ServingPod, ServingSignals
from unit.serving_views import PERFORMANCE

NOW = 1_790_000_000.0
HEAD = "chat-unified-default-7d4b9c6f5"
A, B, GONE = f"{HEAD}-aaaaa", f"{HEAD}-bbbbb", f"{HEAD}-zzzzz"


def service(**spec: Any) -> ModelService:
    container = {"name": "engine", "image": "vllm/vllm-openai:v0.11.0"}
    role = {"variants": [{"template": {"spec": {"containers": [container]}}}]}
    metadata = {"name": "chat", "namespace": "team", "uid": "uid-1"}
    return ModelService.model_validate({"metadata": metadata, "spec": {"roles": [role], **spec}})


def pod(name: str, *, ready: bool = True, draining: bool = False, age: float = 7200.0) -> ServingPod:
    return ServingPod(name, f"uid-of-{name}", ready, draining, NOW - age)


class Bench:
    """A server, engines that it scrapes every five seconds, and who looks."""

    def __init__(self, fake: FakePrometheus) -> None:
        self.fake = fake
        self.store = SeriesStore()
        fake.behaviour = self.store
        self.now = NOW
        self.rung: list[str] = []
        self.signals = self.new()

    def new(self, timeout_seconds: float = 5.0, patience_seconds: float = 600.0) -> ServingSignals:
        endpoint = Endpoint("default", f"http://127.0.0.1:{self.fake.port}", timeout_seconds=timeout_seconds)
        return ServingSignals(
            PrometheusSettings((endpoint,)),
            clock=lambda: self.now,
            monotonic=monotonic,
            generator=random.Random(1),
            ring=self.rung.append,
            patience_seconds=patience_seconds,
        )

    def rest_is_over(self) -> None:
        """Whoever failed may ask again; the rest itself has tests of its own."""
        (server,) = self.signals._servers.values()
        server._breaker.succeeded()
        server._breakers.clear()

    def scrape(self, name: str, at: float, *, done: float, waiting: float = 0, running: float = 0) -> None:
        values = {
            "vllm:num_requests_waiting": waiting,
            "vllm:num_requests_running": running,
            "vllm:kv_cache_usage_perc": 0.25,
            "vllm:cache_config_info{num_gpu_blocks=1000,block_size=16}": 1,
            "vllm:request_success_total{finished_reason=stop}": done,
            "vllm:prompt_tokens_total": 100 * done,
            "vllm:generation_tokens_total": 10 * done,
            "vllm:time_to_first_token_seconds_bucket{le=0.1}": done,
            "vllm:time_to_first_token_seconds_bucket{le=+Inf}": done,
        }
        self.store.scrape(at, values, namespace="team", pod=name, instance="10.0.0.1:8000", job="engines")

    def serve(self, name: str, begin: float, end: float, *, per_second: float, first: float = 1000.0) -> None:
        """Scrapes of a pod that answers so many requests per second, between two times before now."""
        at = begin
        while at <= end:
            self.scrape(name, NOW + at, done=round(first + (at - begin) * per_second))
            at += 5.0

    async def look(self, pods: Sequence[ServingPod], of: ModelService | None = None, **options: Any) -> Look:
        desired = sum(not one.is_draining for one in pods)
        return await self.signals.look(
            of or service(), "unified", pods, options.pop("desired", desired), 60.0, self.now, **options
        )


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with fake_prometheus() as fake:
        bench = Bench(fake)
        yield bench
        bench.signals.close()


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


async def test_an_outage_is_asked_for_afterwards(bench: Bench) -> None:
    bench.serve(A, -600, 0, per_second=3)
    await bench.look([pod(A)])
    bench.fake.behaviour = always(response(b"{}", "503 X"))
    bench.now = NOW + 20
    fresh = await bench.look([pod(A)])
    assert fresh.problem is None, "one answer that is missing is no outage"
    bench.now = NOW + 40
    dark = await bench.look([pod(A)])
    assert dark.problem is ServiceReason.PROMETHEUS_UNREACHABLE
    assert "Prometheus default: HTTP 503" in dark.message
    bench.now = NOW + 900
    bench.serve(A, 0, 900, per_second=3, first=1000 + 1800)
    bench.fake.behaviour = bench.store
    bench.rest_is_over()
    light = await bench.look([pod(A)])
    assert light.problem is None
    assert light.view.scrapes[-1].completed - fresh.view.scrapes[-1].completed == pytest.approx(2700, abs=60)
    times = [one.at for one in light.view.scrapes]
    assert max(late - early for early, late in itertools.pairwise(times)) <= 30


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        pytest.param(always(response(b"{}", "401 X")), "HTTP 401", id="refused"),
        pytest.param(always(response(b"<html>")), "not JSON", id="no Prometheus"),
        pytest.param(always(b"\r\n\r\n"), "Prometheus default", id="another protocol"),
    ],
)
async def test_a_server_without_an_answer_is_told_and_raises_nothing(bench: Bench, behaviour: Any, words: str) -> None:
    bench.fake.behaviour = behaviour
    first = await bench.look([pod(A)])
    assert words in first.message
    for step in range(1, 5):
        bench.now = NOW + 5 * step
        look = await bench.look([pod(A)])
    assert look.problem is ServiceReason.PROMETHEUS_UNREACHABLE
    assert (look.view.scrapes, look.requests) == ((), {})
    assert distrust(look.view, 60.0) is not None


async def test_a_server_that_hangs_is_not_waited_for_for_ever(bench: Bench) -> None:
    async def hang(_: Question) -> bytes:
        await bench.fake.released.wait()
        return b""

    bench.fake.behaviour = hang
    bench.signals.close()
    bench.signals = bench.new(timeout_seconds=0.1)
    look = await bench.look([pod(A)])
    assert look.problem is ServiceReason.PROMETHEUS_UNREACHABLE
    assert "no answer" in look.message


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


async def test_a_past_that_the_server_could_not_give_is_asked_for_when_it_is_back(bench: Bench) -> None:
    bench.serve(A, -1200, 100, per_second=1)
    bench.fake.behaviour = always(response(b"{}", "503 X"))
    for step in range(6):
        bench.now = NOW + 5 * step
        await bench.look([pod(A)])
    bench.now, bench.fake.behaviour = NOW + 100, bench.store
    bench.rest_is_over()
    look = await bench.look([pod(A)])
    assert bench.now - look.view.scrapes[0].at > 1200


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


async def test_an_endpoint_that_nobody_defined(bench: Bench) -> None:
    look = await bench.look([pod(A)], service(metrics={"prometheus": "other"}))
    assert look.problem is ServiceReason.UNKNOWN_ENDPOINT
    assert look.message == "the operator's settings have no Prometheus of the name other"
    assert not bench.fake.questions


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
    assert look.view.scrapes[-1].running == 0


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


async def test_many_pods_are_asked_for_in_several_queries_and_answers_that_are_too_large_in_more(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{HEAD}-{number:05d}" for number in range(60)]
    for name in names:
        bench.serve(name, -30, 0, per_second=1)
    pods = [pod(name) for name in names]
    look = await bench.look(pods)
    assert (look.problem, look.view.scrapes[-1].ready) == (None, 60)
    assert len([one for one in bench.fake.questions if one.path.endswith("query")]) == 3
    monkeypatch.setattr("stowage.decide.samples.MAX_SAMPLES", 400)
    bench.now = NOW + 3
    small = await bench.look(pods)
    assert small.problem is None, "what was known a second ago is fresh"
    bench.fake.questions.clear()
    bench.now = NOW + 6
    for name in names:
        bench.scrape(name, NOW + 6, done=2000)
    again = await bench.look(pods)
    assert again.view.scrapes[-1].at == NOW + 6
    assert len(bench.fake.questions) == 5


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


async def test_a_past_that_is_too_large_is_asked_for_in_smaller_stretches(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.serve(A, -3600, 20, per_second=2)
    monkeypatch.setattr("stowage.decide.samples.MAX_SAMPLES", 1000)
    assert (await bench.look([pod(A)])).problem is ServiceReason.PROMETHEUS_UNREACHABLE
    bench.now = NOW + 5
    look = await bench.look([pod(A)])
    assert look.problem is None
    assert bench.now - look.view.scrapes[0].at > 3400
    assert look.view.rate("arrived", 3000) == pytest.approx(2.0, rel=0.05)


async def test_decisions_rise_on_what_is_seen_and_fall_on_nothing_else(bench: Bench) -> None:
    names = [f"{HEAD}-{letter * 5}" for letter in "abcd"]
    for name in names:
        bench.serve(name, -3600, 20, per_second=0.5)
    pods = [pod(name, age=10_000) for name in names]
    settings = Settings(PERFORMANCE, most=20, stabilisation_seconds=5.0)

    async def decided(memory: Memory) -> tuple[Decision, Memory]:
        return decide((await bench.look(pods)).view, settings, memory)

    calm, memory = await decided(Memory())
    assert calm.reason is not ScalingReason.SIGNALS_MISSING
    bench.now = NOW + 10
    calm, memory = await decided(memory)
    assert calm.to_replicas < 4, "two requests a second need no four replicas"
    bench.now, bench.fake.behaviour = NOW + 120, always(response(b"{}", "503 X"))
    dark, _ = await decided(memory)
    assert (dark.to_replicas, dark.reason) == (4, ScalingReason.SIGNALS_MISSING)
    bench.now, bench.fake.behaviour = NOW + 125, bench.store
    for name in names:
        bench.scrape(name, bench.now - 5, done=3000, waiting=200, running=128)
        bench.scrape(name, bench.now, done=3010, waiting=300, running=128)
    busy, _ = await decided(memory)
    assert busy.to_replicas > 4


async def test_a_past_that_is_none_is_given_up_and_the_present_known(bench: Bench) -> None:
    bench.serve(A, -600, 0, per_second=1)

    async def behave(question: Question) -> bytes:
        if question.path.endswith("query_range"):
            return response(b'{"status": "error", "error": "too many points"}', "422 X")
        return await bench.store(question)

    bench.fake.behaviour = behave
    look = await bench.look([pod(A)])
    assert (look.problem, len(look.view.scrapes)) == (None, 1)


async def test_a_past_that_fails_is_asked_for_again_and_not_for_ever(bench: Bench) -> None:
    bench.serve(A, -600, 0, per_second=1)

    async def behave(question: Question) -> bytes:
        return response(b"{}", "503 X") if question.path.endswith("query_range") else await bench.store(question)

    bench.fake.behaviour = behave
    outcomes = []
    for step in range(4):
        bench.now = NOW + 3 * step
        bench.rest_is_over()
        outcomes.append((await bench.look([pod(A)])).problem)
    unreachable = ServiceReason.PROMETHEUS_UNREACHABLE
    assert outcomes == [unreachable, unreachable, None, None]


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


async def test_roles_that_are_gone_from_the_spec_are_forgotten_in_time(bench: Bench) -> None:
    await bench.look([pod(A)])
    for number in range(5):
        bench.now += 4000.0
        await bench.signals.look(service(), f"role-{number}", [], 0, 60.0, bench.now)
    assert len(bench.signals._roles) == 1


async def test_a_long_gap_of_many_pods_is_asked_for_whole_after_a_short_one_of_few(bench: Bench) -> None:
    def reach_seconds() -> float:
        begins = [float(one.asked["start"]) for one in bench.fake.questions if "start" in one.asked]
        bench.fake.questions.clear()
        return bench.now - min(begins)

    bench.serve(A, -3600, 0, per_second=2)
    await bench.look([pod(A)])
    bench.now += 300.0
    bench.scrape(A, bench.now, done=9000)
    await bench.look([pod(A)])
    bench.now += 3600.0
    reach_seconds()
    await bench.look([pod(A), *(pod(f"{HEAD}-{number:05d}") for number in range(60))])
    assert reach_seconds() > 3400


async def test_the_last_pod_of_a_role_that_is_gone_ends_while_a_new_leader_looks(bench: Bench) -> None:
    """It is no longer among those asked for, and the spec names no Deployment of that role."""
    look = await bench.signals.look(service(), "decode", [], 0, 60.0, bench.now)
    assert (look.problem, look.requests) == (None, {})


async def test_a_slow_endpoint_is_waited_for_once_and_its_services_are_rung_when_it_answers(bench: Bench) -> None:
    """Passes wait in workers: those for a slow endpoint would keep those of all others waiting."""
    bench.serve(A, -60, 0, per_second=1)
    answers = asyncio.Event()

    async def behave(question: Question) -> bytes:
        await answers.wait()
        return await bench.store(question)

    bench.fake.behaviour = behave
    bench.signals.close()
    bench.signals = bench.new(patience_seconds=0.01)
    early = await bench.look([pod(A)])
    assert early.view.scrapes == ()
    answers.set()

    async def rung() -> bool:
        assert bench.rung == ["team/chat"]
        return True

    await eventually(rung, what="the answer rings its service")
    asked = len(bench.fake.questions)
    known = await bench.look([pod(A)])
    assert (known.problem, known.view.scrapes[-1].at) == (None, NOW)
    assert len(bench.fake.questions) == asked, "what has just been answered is not asked for again"
    answers.clear()
    bench.now += 5.0
    bench.signals._patience_seconds = 600.0
    later = await bench.look([pod(A)])
    assert later.view.scrapes == known.view.scrapes, "nobody waits for it any more"
    again = await bench.look([pod(A)])
    assert again.view.scrapes == known.view.scrapes, "and it is asked once at a time"
    bench.scrape(A, NOW + 5, done=2000)
    answers.set()

    async def rung_again() -> bool:
        assert bench.rung == ["team/chat"] * 2
        return True

    await eventually(rung_again, what="the next answer rings it too")
    fresh = await bench.look([pod(A)])
    assert fresh.view.scrapes[-1].at == NOW + 5


async def test_what_is_asked_of_a_service_that_is_gone_is_asked_no_more(bench: Bench) -> None:
    async def hang(_: Question) -> bytes:
        await bench.fake.released.wait()
        return b""

    bench.fake.behaviour = hang
    bench.signals.close()
    bench.signals = bench.new(patience_seconds=0.0)
    await bench.look([pod(A)])
    (asking,) = [one.asking for one in bench.signals._roles.values()]
    assert asking is not None
    bench.signals.forget("uid-1")
    await asyncio.gather(asking, return_exceptions=True)
    assert (asking.cancelled(), bench.rung) == (True, [])
