"""Looks at a role whose endpoint is away, slow or refuses: nobody waits for it, and what was missed is asked for."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from harness.prometheus_server import Question, always, response
from harness.waiting import eventually
from stowage.api.model_service_reasons import ScalingReason, ServiceReason
from stowage.decide.serving.decision import Decision
from stowage.decide.serving.memory import Memory
from stowage.decide.serving.pipeline import decide
from stowage.decide.serving.settings import Settings
from stowage.decide.serving.trust import distrust
from unit.serving_views import PERFORMANCE
from unit.signals_bench import HEAD, NOW, A, Bench, pod, service, signals_bench


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with signals_bench() as made:
        yield made


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


async def test_an_endpoint_that_nobody_defined(bench: Bench) -> None:
    look = await bench.look([pod(A)], service(metrics={"prometheus": "other"}))
    assert look.problem is ServiceReason.UNKNOWN_ENDPOINT
    assert look.message == "the operator's settings have no Prometheus of the name other"
    assert not bench.fake.questions


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
    bench.fake.questions.clear()
    bench.now = NOW + 9
    await bench.look(pods)
    assert len(bench.fake.questions) == 3, "answers are small again"


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
    assert (early.view.scrapes, early.is_awaited) == ((), True)
    bench.now += 11.0
    assert not (await bench.look([pod(A)])).is_awaited, "for a while"
    bench.now = NOW
    answers.set()

    async def rung() -> bool:
        assert bench.rung == ["team/chat"]
        return True

    await eventually(rung, what="the answer rings its service")
    asked = len(bench.fake.questions)
    known = await bench.look([pod(A)])
    assert (known.problem, known.is_awaited, known.view.scrapes[-1].at) == (None, False, NOW)
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
