"""The fault proxy in front of a small server of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web

from faults.proxy import FaultProxy, Held
from faults.script import Answer, Cut, Delay, Drop, Duplicate, Freeze, Hold, InjectError, Match, Side
from faults.upstream import Upstream, read_kubeconfig
from harness.waiting import eventually

THINGS = "/apis/test/v1/things"
WATCH = {"watch": "true"}


@dataclass
class Server:
    """An API server that knows one collection: it counts what reaches it and sends the events it is told to."""

    reached: list[str] = field(default_factory=list)
    streams: list[web.StreamResponse] = field(default_factory=list)
    url: str = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.reached.append(f"{request.method} {request.path} {(await request.read()).decode()}".strip())
        if "watch" not in request.query:
            return web.json_response({"agent": request.headers.get("User-Agent")}, status=201)
        stream = web.StreamResponse(headers={"Content-Type": "application/json"})
        await stream.prepare(request)
        self.streams.append(stream)
        while not stream.task.done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return stream

    async def send(self, *numbers: int) -> None:
        for number in numbers:
            for stream in self.streams:
                with contextlib.suppress(ConnectionError):  # its client may be gone
                    await stream.write(event(number))


def event(number: int) -> bytes:
    return json.dumps({"type": "MODIFIED", "object": {"number": number}}).encode() + b"\n"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    known = Server()
    app = web.Application()
    app.router.add_route("*", "/{anything:.*}", known.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    known.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield known
    await runner.cleanup()


@pytest.fixture
def proxy(server: Server) -> Iterator[FaultProxy]:
    with FaultProxy(Upstream(server.url)) as running:
        yield running


@pytest.fixture
async def client(proxy: FaultProxy) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(proxy.url, headers={"User-Agent": "tester/1"}) as session:
        yield session


async def held_one(proxy: FaultProxy) -> Held:
    async def one() -> Held | None:
        return next(iter(proxy.held()), None)

    held = await eventually(one, what="a request is held")
    assert held is not None
    return held


async def post(client: aiohttp.ClientSession, body: str = "x") -> int:
    async with client.post(THINGS, data=body, params={"fieldManager": "me"}) as answer:
        await answer.read()
        return answer.status


async def watched(client: aiohttp.ClientSession) -> AsyncIterator[dict[str, object]]:
    async with client.get(THINGS, params=WATCH) as answer:
        async for line in answer.content:
            yield json.loads(line)


async def test_without_a_script_everything_passes_and_is_recorded(
    server: Server, proxy: FaultProxy, client: aiohttp.ClientSession
) -> None:
    async with client.post(f"{THINGS}/a%2Fb", data=b"hello", params={"fieldManager": "me"}) as answer:
        assert (answer.status, await answer.json()) == (201, {"agent": "tester/1"})
    assert server.reached == [f"POST {THINGS}/a/b hello"]
    [exchange] = proxy.exchanges
    assert exchange.request.field_manager == "me"
    assert exchange.request.user_agent == "tester/1"
    assert exchange.request.digest == "2cf24dba5fb0a30e"
    assert (exchange.server_status, exchange.client_status, exchange.ended) == (201, 201, True)
    assert exchange.took_effect


async def test_a_request_held_before_the_server_reaches_it_when_released(
    server: Server, proxy: FaultProxy, client: aiohttp.ClientSession
) -> None:
    proxy.add(Match.nth(2), Hold())
    assert await post(client, "first") == 201
    second = asyncio.create_task(post(client, "second"))
    held = await held_one(proxy)
    assert len(server.reached) == 1
    assert await post(client, "third") == 201
    held.release()
    assert await second == 201
    assert [line.split()[-1] for line in server.reached] == ["first", "third", "second"]
    assert proxy.held() == []


@pytest.mark.parametrize(
    ("side", "reaches"), [pytest.param(Side.BEFORE, False, id="before"), pytest.param(Side.AFTER, True, id="after")]
)
async def test_a_request_whose_client_is_dead_reaches_the_server_only_if_held_after_it(
    server: Server, proxy: FaultProxy, client: aiohttp.ClientSession, side: Side, reaches: bool
) -> None:
    proxy.add(Match(), Hold(side))
    asked = asyncio.create_task(post(client))
    held = await held_one(proxy)
    asked.cancel()  # the client goes, as a killed process does
    held.drop()

    async def ended() -> bool:
        return held.exchange.ended

    await eventually(ended)
    assert bool(server.reached) is reaches
    assert held.exchange.took_effect is reaches
    assert held.exchange.client_status is None


@pytest.mark.parametrize("side", list(Side))
async def test_a_dropped_request_gets_no_answer(
    server: Server, proxy: FaultProxy, client: aiohttp.ClientSession, side: Side
) -> None:
    proxy.add(Match.nth(1), Drop(side))
    with pytest.raises(aiohttp.ClientError):
        await post(client)
    assert len(server.reached) == (side is Side.AFTER)
    assert await post(client) == 201


async def test_a_delayed_request_comes_later(server: Server, proxy: FaultProxy, client: aiohttp.ClientSession) -> None:
    proxy.add(Match.nth(1), Delay(0.3))
    asked = time.monotonic()  # noqa: TID251
    assert await post(client, "slow") == 201
    assert time.monotonic() - asked >= 0.3  # noqa: TID251
    assert [line.split()[-1] for line in server.reached] == ["slow"]


@pytest.mark.parametrize("status", [403, 404, 409, 410, 422, 429, 500, 503])
async def test_the_proxy_answers_in_the_servers_place(
    server: Server, proxy: FaultProxy, client: aiohttp.ClientSession, status: int
) -> None:
    proxy.add(Match(), Answer(status, retry_after_seconds=7))
    async with client.get(THINGS) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (status, "7")
        assert (await answer.json())["code"] == status
    assert server.reached == []
    assert (proxy.exchanges[0].server_status, proxy.exchanges[0].client_status) == (None, status)


async def test_a_watch_is_passed_on_event_by_event(
    server: Server, proxy: FaultProxy, client: aiohttp.ClientSession
) -> None:
    events = watched(client)
    first = asyncio.ensure_future(anext(events))
    await eventually(lambda: asyncio.sleep(0, bool(server.streams)))
    await server.send(1)
    assert (await first)["object"] == {"number": 1}
    await server.send(2)
    assert (await anext(events))["object"] == {"number": 2}
    await events.aclose()  # type: ignore[attr-defined]
    await eventually(lambda: asyncio.sleep(0, not proxy.watches()), what="the proxy notices that the client is gone")


async def numbers(client: aiohttp.ClientSession) -> list[object]:
    """What a watch gives until it ends: numbers, and codes of errors."""
    found: list[object] = []
    try:
        async for item in watched(client):
            body: dict[str, object] = item["object"]  # type: ignore[assignment]
            found.append(body.get("number") or f"{item['type']} {body['code']}")
    except aiohttp.ClientError:
        found.append("broken")
    return found


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        pytest.param(Cut(after_events=2), [1, 2], id="cut"),
        pytest.param(Cut(after_events=2, abruptly=True), [1, 2, "broken"], id="cut in the middle"),
        pytest.param(Cut(after_events=0), [], id="cut at once"),
        pytest.param(InjectError(410, after_events=1), [1, "ERROR 410"], id="an error that ends it"),
        pytest.param(InjectError(500), ["ERROR 500"], id="an error at once"),
    ],
)
async def test_a_watch_meets_the_fault_of_the_script(
    server: Server, proxy: FaultProxy, client: aiohttp.ClientSession, fault: Cut | InjectError, expected: list[object]
) -> None:
    proxy.add(Match.nth(1), fault)
    found = asyncio.create_task(numbers(client))
    await eventually(lambda: asyncio.sleep(0, bool(server.streams)))
    await server.send(1, 2, 3)
    assert await found == expected


async def test_a_watch_may_be_cut_after_a_time(proxy: FaultProxy, client: aiohttp.ClientSession) -> None:
    proxy.add(Match.nth(1), Cut(after_seconds=0.1))
    assert await numbers(client) == []


async def test_events_come_twice(server: Server, proxy: FaultProxy, client: aiohttp.ClientSession) -> None:
    proxy.add(Match(), Duplicate())
    found = asyncio.create_task(numbers(client))
    await eventually(lambda: asyncio.sleep(0, bool(server.streams)))
    await server.send(1, 2)
    await eventually(lambda: asyncio.sleep(0, sum(watch.events for watch in proxy.watches()) == 2))
    proxy.cut()
    assert await found == [1, 1, 2, 2]


async def test_a_frozen_watch_is_silent_until_it_thaws(
    server: Server, proxy: FaultProxy, client: aiohttp.ClientSession
) -> None:
    proxy.add(Match.nth(1), Freeze(after_events=1))
    events = watched(client)
    first = asyncio.ensure_future(anext(events))
    await eventually(lambda: asyncio.sleep(0, bool(server.streams)))
    await server.send(1, 2)
    await first
    second = asyncio.ensure_future(anext(events))
    done, _ = await asyncio.wait({second}, timeout=0.3)
    assert not done
    assert proxy.thaw(Match(path="/things")) == 1
    assert (await second)["object"] == {"number": 2}


async def test_faults_reach_watches_that_are_open_already(
    server: Server, proxy: FaultProxy, client: aiohttp.ClientSession
) -> None:
    found = asyncio.create_task(numbers(client))
    await eventually(lambda: asyncio.sleep(0, bool(proxy.watches())))
    assert proxy.freeze(Match(path="/other")) == 0
    assert proxy.freeze() == 1
    await server.send(1)
    await eventually(lambda: asyncio.sleep(0, proxy.watches()[0].events == 1))
    assert proxy.thaw() == 1
    assert proxy.inject_error(500) == 1
    assert await found == [1, "ERROR 500"]


async def test_a_server_that_is_away_refuses_and_comes_back_at_the_same_address(
    proxy: FaultProxy, client: aiohttp.ClientSession
) -> None:
    found = asyncio.create_task(numbers(client))
    await eventually(lambda: asyncio.sleep(0, bool(proxy.watches())))
    proxy.refuse()
    assert await found == ["broken"]
    with pytest.raises(aiohttp.ClientConnectorError):
        await post(client)
    proxy.accept()
    assert await post(client) == 201


async def test_a_kubeconfig_written_for_the_proxy_leads_to_it(proxy: FaultProxy, tmp_path: object) -> None:
    from pathlib import Path

    assert isinstance(tmp_path, Path)
    assert read_kubeconfig(proxy.kubeconfig(tmp_path)).url == proxy.url
