"""Rules of jobs against a server: who is asked when, who is rung, and what is forgotten."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from msgspec import structs

from harness.prometheus_server import FakePrometheus, Question, always, answer, fake_prometheus, response, vector
from stowage.api.durations import instant
from stowage.api.training_job import TrainingJob
from stowage.api.training_words import JobPhase
from stowage.decide.training.promql_rules import Firing, PromqlRule, Queried
from stowage.observe.breaker import LONGEST_REST_SECONDS
from stowage.observe.prometheus import Endpoint
from stowage.run.operator import monotonic
from stowage.run.prometheus_settings import PrometheusSettings
from stowage.run.queries import SILENT_SECONDS, Queries

NOW = 1_790_000_000.0
SPIKE = PromqlRule("spike", "loss > 10", for_seconds=60.0)
OF_BERT = {"namespace": "team", "stowage_dev_job": "bert"}
OF_OTHER = {"namespace": "other", "stowage_dev_job": "bert"}


def job(namespace: str = "team", rule: str = "spike", epoch_at: float = NOW, **status: Any) -> TrainingJob:
    container = {"name": "trainer", "command": ["python", "train.py"]}
    spec = {
        "template": {"spec": {"containers": [container]}},
        "recovery": {"rules": [{"when": {"promql": {"rule": rule}}, "do": "Pause"}]},
    }
    parsed = TrainingJob.parse({"metadata": {"name": "bert", "namespace": namespace, "uid": "u"}, "spec": spec})
    update = {"phase": JobPhase.RUNNING, "epoch_at": instant(epoch_at), **status}
    return parsed.model_copy(update={"status": parsed.status.model_copy(update=update)})


class World:
    """Rules, a server, and a time that passes when a test says so."""

    def __init__(self, fake: FakePrometheus, *rules: PromqlRule) -> None:
        self.fake = fake
        self.passed_seconds = 0.0
        self.rung: list[str] = []
        self.queries = Queries(
            PrometheusSettings((Endpoint("default", f"http://127.0.0.1:{fake.port}"),), rules),
            lambda key, _: self.rung.append(key),
            clock=lambda: self.now,
            monotonic=lambda: monotonic() + self.passed_seconds,
            generator=random.Random(1),
        )

    @property
    def now(self) -> float:
        return NOW + self.passed_seconds

    async def poll(self, after_seconds: float = 15.0, rule: str = "spike") -> list[str]:
        """Ask once more; the keys that were rung."""
        self.passed_seconds += after_seconds
        self.rung.clear()
        await self.queries.poll(rule)
        return sorted(self.rung)


def held_when(held: Callable[[float, float], bool]) -> Callable[[Question], Awaitable[bytes]]:
    """A server at which the rule holds now, and held at some times; told each time and the step of the question."""

    async def behave(question: Question) -> bytes:
        if question.path.endswith("query"):
            return await vector((OF_BERT, 12))(question)
        begin, end, step = (float(question.asked[name]) for name in ("start", "end", "step"))
        times = [begin + number * step for number in range(int((end - begin) / step) + 1)]
        return answer([{"metric": OF_BERT, "values": [[at, "12"] for at in times if held(at, step)]}], "matrix")

    return behave


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with fake_prometheus() as fake:
        world = World(fake, SPIKE, structs.replace(SPIKE, name="theirs", namespaces=frozenset({"other"})))
        yield world
        world.queries.close()


async def test_a_rule_that_nobody_names_is_not_asked(world: World) -> None:
    await world.poll()
    world.queries.listen(job(rule="unknown"))
    await world.poll()
    assert not world.fake.questions


async def test_a_rule_is_asked_once_for_all_jobs_and_rings_whom_it_concerns(world: World) -> None:
    world.fake.behaviour = vector((OF_BERT, 12))
    for namespace in ("team", "other", "third"):
        world.queries.listen(job(namespace))
    rings = [await world.poll() for _ in range(6)]
    assert len(world.fake.questions) == 1 + 6, "its past once, and what it gives now each time"
    assert rings == [[], [], [], [], ["team/bert"], []], "when it has held for a minute, once"
    since = NOW + 15
    assert world.queries.queried(job()) == Queried((Firing("spike", since, since + 60, 12.0),))
    assert world.queries.queried(job("other")) == Queried()
    world.fake.behaviour = vector((OF_OTHER, 12))
    assert await world.poll() == ["team/bert"], "and when it is over"
    assert world.queries.queried(job()) == Queried()


async def test_names_that_the_settings_do_not_have_are_told(world: World) -> None:
    assert world.queries.queried(job(rule="spkie")) == Queried(unknown=("spkie",))
    assert world.queries.queried(job(rule="theirs")) == Queried(unknown=("theirs",))
    assert world.queries.queried(job("other", rule="theirs")) == Queried()


async def test_a_server_that_is_down_for_a_moment_changes_nothing(world: World) -> None:
    world.fake.behaviour = vector((OF_BERT, 12))
    world.queries.listen(job())
    await world.poll()
    world.fake.behaviour = always(response(b"", "503 X"))
    assert [await world.poll() for _ in range(2)] == [[], []]
    world.fake.behaviour = vector((OF_BERT, 12))
    assert [await world.poll() for _ in range(2)] == [[], ["team/bert"]], "the gap counts"


async def test_a_server_that_stays_down_is_no_evidence_and_the_jobs_say_so(world: World) -> None:
    world.fake.behaviour = vector((OF_BERT, 12))
    world.queries.listen(job())
    for _ in range(5):
        await world.poll()
    assert world.queries.queried(job()).firing
    world.fake.behaviour = always(response(b"", "503 X"))
    await world.poll()
    assert world.queries.queried(job()).firing, "a moment ago it fired"
    assert await world.poll(SILENT_SECONDS) == ["team/bert"]
    assert world.queries.queried(job()) == Queried(silent=("spike",))
    assert await world.poll() == [], "it is said once"
    assert world.queries.silent_rules() == 1
    world.fake.behaviour = vector()
    assert await world.poll(LONGEST_REST_SECONDS) == ["team/bert"]
    assert world.queries.queried(job()) == Queried()
    assert world.queries.silent_rules() == 0


async def test_a_server_that_was_never_there_is_told_too(world: World) -> None:
    world.fake.behaviour = always(response(b"", "503 X"))
    world.queries.listen(job())
    assert await world.poll() == []
    assert await world.poll(SILENT_SECONDS) == ["team/bert"]
    assert world.queries.queried(job()) == Queried(silent=("spike",))


async def test_a_new_process_asks_for_the_past(world: World) -> None:
    """So a rule that fired before the epoch began does not fire again because the operator was started anew."""
    world.fake.behaviour = held_when(lambda at, _step: at >= NOW - 300)
    world.queries.listen(job(epoch_at=NOW - 3600))
    await world.poll()
    (firing,) = world.queries.queried(job()).firing
    assert NOW - 300 <= firing.since <= NOW - 280
    await world.poll()
    assert [one.path.rpartition("/")[2] for one in world.fake.questions] == ["query_range", "query", "query"]
    asked = world.fake.questions[0].asked
    assert float(asked["start"]) == pytest.approx(NOW - 3600 - 75, abs=1)
    assert float(asked["step"]) >= SPIKE.every_seconds


async def test_the_past_has_a_longest_and_a_bounded_number_of_points(world: World) -> None:
    world.fake.behaviour = held_when(lambda _at, _step: True)
    world.queries.listen(job(epoch_at=0.0))
    await world.poll()
    near, far = (question.asked for question in world.fake.questions[:2])
    assert float(near["end"]) - float(near["start"]) == pytest.approx(500 * SPIKE.every_seconds, abs=2)
    assert float(near["step"]) == SPIKE.every_seconds
    assert float(far["end"]) - float(far["start"]) == pytest.approx(86_400, abs=2)
    assert float(far["step"]) == pytest.approx(86_400 / 500, abs=0.1)
    (firing,) = world.queries.queried(job()).firing
    assert firing.since == pytest.approx(float(far["start"]), abs=1)


async def test_what_comes_and_goes_has_not_held_since_yesterday(world: World) -> None:
    """Points far apart may all meet a rule that holds for moments only: it would fire at each start of the operator."""
    world.fake.behaviour = held_when(lambda at, step: at > NOW - 20 or step > SPIKE.every_seconds)
    world.queries.listen(job(epoch_at=0.0))
    await world.poll()
    assert world.queries.queried(job()) == Queried()


async def test_a_past_that_is_too_large_is_done_without(world: World) -> None:
    async def behave(question: Question) -> bytes:
        refused = response(b'{"error": "exceeded maximum resolution"}', "400 X")
        return refused if question.path.endswith("range") else await vector((OF_BERT, 12))(question)

    world.fake.behaviour = behave
    world.queries.listen(job(epoch_at=NOW - 3600))
    await world.poll()
    assert [await world.poll() for _ in range(4)][-1] == ["team/bert"]


async def test_whoever_leads_no_more_forgets_all(world: World) -> None:
    world.fake.behaviour = vector((OF_BERT, 12))
    world.queries.listen(job())
    for _ in range(5):
        await world.poll()
    world.queries.clear()
    asked = len(world.fake.questions)
    await world.poll()
    assert (len(world.fake.questions), world.queries.queried(job())) == (asked, Queried())


async def test_an_answer_after_the_end_of_the_term_is_forgotten(world: World) -> None:
    async def behave(question: Question) -> bytes:
        world.queries.clear()
        return await vector((OF_BERT, 12))(question)

    world.fake.behaviour = behave
    world.queries.listen(job())
    assert await world.poll(100) == []
    assert world.queries.queried(job()) == Queried()


@pytest.mark.parametrize("phase", [JobPhase.SUSPENDED, JobPhase.PAUSED, JobPhase.SUCCEEDED, JobPhase.FAILED])
async def test_jobs_that_do_not_run_are_not_asked_for(world: World, phase: JobPhase) -> None:
    world.queries.listen(job())
    world.queries.listen(job(phase=phase))
    await world.poll()
    assert not world.fake.questions


async def test_of_series_that_concern_nobody_nothing_is_remembered(world: World) -> None:
    strangers = [({**OF_BERT, "namespace": f"n{number}"}, 1.0) for number in range(500)]
    world.fake.behaviour = vector(*strangers)
    world.queries.listen(job())
    await world.poll()
    assert world.queries.remembered() == 0


async def test_rules_are_asked_by_themselves(world: World) -> None:
    asked = asyncio.Event()

    async def behave(question: Question) -> bytes:
        asked.set()
        return await vector((OF_BERT, 12))(question)

    world.fake.behaviour = behave
    world.queries.listen(job())
    world.passed_seconds += 10
    running = asyncio.create_task(world.queries.run())
    async with asyncio.timeout(20):
        await asked.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
