"""Several tenants who ask the same endpoint: nobody waits for another's slow queries, or rests for its faults."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from harness.prometheus_server import FakePrometheus, Question, fake_prometheus, response, vector
from harness.waiting import eventually
from stowage.observe.breaker import FAILURES_TO_REST, LONGEST_REST_SECONDS
from stowage.observe.fair_places import FairPlaces
from stowage.observe.prometheus import AT_ONCE, AT_ONCE_OF_TENANT, Asker, Endpoint, Prometheus
from stowage.observe.prometheus_session import QueryError, QueryFailure
from stowage.run.operator import monotonic

NOW = 1_790_000_000.0
SLOW, OTHER = Asker("slow", "chat"), Asker("other", "chat")


class Shared:
    """An endpoint that hangs or fails for queries called `bad`."""

    def __init__(self, fake: FakePrometheus) -> None:
        self.fake = fake
        self.hangs = True
        self.ahead_seconds = 0.0
        self.client = Prometheus(
            Endpoint("default", f"http://127.0.0.1:{fake.port}"),
            clock=lambda: NOW,
            monotonic=lambda: monotonic() + self.ahead_seconds,
            generator=random.Random(1),
        )
        fake.behaviour = self.behave

    async def behave(self, question: Question) -> bytes:
        if question.asked["query"] != "bad":
            return await vector(({"a": "b"}, 1))(question)
        if self.hangs:
            await self.fake.released.wait()
        return response(b'{"error": "query timed out"}', "503 X")

    async def fails(self, asker: Asker, query: str = "bad") -> QueryFailure:
        with pytest.raises(QueryError) as raised:
            await self.client.ask(query, asker)
        return raised.value.failure


@pytest.fixture
async def shared() -> AsyncIterator[Shared]:
    async with fake_prometheus() as fake:
        shared = Shared(fake)
        yield shared
        shared.client.close()


async def test_slow_queries_of_one_tenant_leave_a_place_to_others(shared: Shared) -> None:
    slow = [asyncio.create_task(shared.fails(SLOW)) for _ in range(3 * AT_ONCE)]

    async def hang() -> bool:
        assert len(shared.fake.questions) == AT_ONCE_OF_TENANT
        return True

    await eventually(hang, what="all that may hang do")
    assert await shared.client.ask("good", OTHER), "while the others hang"
    assert len(shared.fake.questions) == AT_ONCE_OF_TENANT + 1
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)


async def test_who_fails_again_and_again_rests_alone(shared: Shared) -> None:
    shared.hangs = False
    for _ in range(FAILURES_TO_REST):
        assert await shared.fails(SLOW) is QueryFailure.FAILED
    assert await shared.fails(SLOW, "good") is QueryFailure.RESTING
    assert await shared.client.ask("good", OTHER)
    assert await shared.client.ask("good", Asker("slow", "another service"))
    shared.ahead_seconds += LONGEST_REST_SECONDS
    assert await shared.client.ask("good", SLOW)


async def test_what_fails_for_several_in_a_row_rests_for_all(shared: Shared) -> None:
    shared.hangs = False
    for asker in (SLOW, OTHER, SLOW):
        assert await shared.fails(asker) is QueryFailure.FAILED
    assert await shared.fails(Asker("third", "chat"), "good") is QueryFailure.RESTING
    shared.ahead_seconds += LONGEST_REST_SECONDS
    assert await shared.client.ask("good", OTHER)


async def _holds(places: FairPlaces, tenant: str, name: str, held: list[str], free: asyncio.Event) -> None:
    async with places.place(tenant):
        held.append(name)
        await free.wait()


async def test_tenants_take_turns() -> None:
    places, held = FairPlaces(2, 1), list[str]()
    frees = {name: asyncio.Event() for name in ("a1", "b1", "a2", "a3", "b2", "c1")}
    tasks = {}
    for name, free in frees.items():
        tasks[name] = asyncio.create_task(_holds(places, name[0], name, held, free))
        await asyncio.sleep(0)
    assert held == ["a1", "b1"], "of one tenant at most one"
    for name in ("a1", "b1", "a2", "b2", "c1", "a3"):
        frees[name].set()
        await tasks[name]
        await asyncio.sleep(0)
    assert held == ["a1", "b1", "a2", "b2", "c1", "a3"]


async def test_who_no_longer_waits_keeps_nobody_waiting() -> None:
    places, held = FairPlaces(1, 1), list[str]()
    free = asyncio.Event()
    first, second, third = (
        asyncio.create_task(_holds(places, tenant, tenant, held, free)) for tenant in ("a", "b", "c")
    )
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)  # it is the turn of the second one, which is cancelled then
    second.cancel()
    free.set()
    await asyncio.gather(second, third, return_exceptions=True)
    assert held[-1] == "c"
    async with asyncio.timeout(5), places.place("d"):
        held.append("d")
    assert held[-1] == "d"
