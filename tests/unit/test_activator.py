"""The activator of a service: requests wait for a replica, go to it once, and their answers come as they are made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from harness.waiting import eventually
from unit.activator_stage import Replicas, Stage, opened

LARGE = b"x" * 1_000_000


async def test_a_request_waits_until_a_replica_is_there_and_gets_its_answer_as_it_is() -> None:
    async with opened() as stage:
        asked = stage.asks("/v1/a%2Fb?c=%20d", data=b"hello", headers={"Authorization": "Bearer k", "Cookie": "a=b"})
        await stage.until(waiting=1)
        await stage.replicas.begin()
        status, body, headers = await asked
        assert (status, body) == (201, b"to hello")
        assert (headers["X-Engine"], headers["Content-Encoding"], headers["Connection"]) == ("yes", "zstd", "close")
        assert "X-Hop" not in headers, "what speaks of one connection is not handed on"
        ((method, path, sent, told),) = stage.replicas.got
        assert (method, path, sent) == ("POST", "/v1/a%2Fb?c=%20d", b"hello")
        assert (told["Authorization"], told["Cookie"]) == ("Bearer k", "a=b")
        await stage.until(waiting=0)
        assert stage.counted("answered") == 1


async def test_all_that_wait_go_to_the_first_replica_and_each_once() -> None:
    async with opened() as stage:
        asked = [stage.asks(data=f"{number}".encode()) for number in range(5)]
        await stage.until(waiting=5)
        await stage.replicas.begin()
        assert {(await one)[0] for one in asked} == {201}
        assert sorted(body for _, _, body, _ in stage.replicas.got) == [b"0", b"1", b"2", b"3", b"4"]


async def test_with_a_replica_a_request_does_not_wait() -> None:
    async with opened(longest_seconds=0.5) as stage:
        await stage.replicas.begin()
        assert (await stage.asks("/v1/models", "GET"))[0] == 201
        assert (await stage.asks("/health", "GET"))[0] == 201
        assert len(stage.replicas.got) == 2


async def test_more_than_may_wait_are_refused_and_may_come_again() -> None:
    async with opened(requests=2) as stage:
        held = [stage.asks(data=b"held") for _ in range(2)]
        await stage.until(waiting=2)
        status, body, headers = await stage.asks(data=LARGE)
        assert (status, headers["Retry-After"]) == (429, "10")
        assert b"hold.requests" in body
        await stage.replicas.begin()
        assert [(await one)[0] for one in held] == [201, 201]
        assert stage.counted("full") == 1


async def test_who_has_waited_for_longest_is_told_to_come_again() -> None:
    async with opened(longest_seconds=0.1) as stage:
        status, body, headers = await stage.asks(data=b"x")
        assert (status, headers["Retry-After"]) == (503, "10")
        assert b"hold.longest" in body
        assert stage.counted("too_late") == 1
        assert stage.room.waiting == 0


async def test_a_request_whose_client_has_gone_waits_no_more_and_is_never_sent() -> None:
    async with opened() as stage:
        gone, stays = stage.asks(data=b"gone"), stage.asks(data=b"stays")
        await stage.until(waiting=2)
        gone.cancel()
        await stage.until(waiting=1)
        await stage.replicas.begin()
        await stays
        assert [body for _, _, body, _ in stage.replicas.got] == [b"stays"]
        assert stage.counted("left") == 1


async def test_tokens_come_as_they_are_made_and_a_client_that_goes_is_heard_of() -> None:
    ended, go_on = asyncio.Event(), asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        try:
            await answer.write(b"data: one\n\n")
            await go_on.wait()
            while True:
                await answer.write(b"data: more\n\n")
                await asyncio.sleep(0.01)
        finally:
            ended.set()
        return answer

    async with opened() as stage:
        stage.replicas.behave = stream
        await stage.replicas.begin()
        async with stage.client.post(stage.url, data=b"x") as answer:
            assert await answer.content.readuntil(b"\n\n") == b"data: one\n\n"
            assert answer.headers["Content-Type"] == "text/event-stream"
            await stage.until(waiting=0, running=1)
            go_on.set()
            assert await answer.content.readuntil(b"\n\n") == b"data: more\n\n"
        await asyncio.wait_for(ended.wait(), 20)
        await stage.until(waiting=0, running=0)


async def test_a_body_of_any_size_goes_through_in_pieces() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(8):
            yield LARGE

    async with opened() as stage:
        asked = stage.asks(data=pieces())
        await stage.until(waiting=1)
        await stage.replicas.begin()
        assert (await asked)[0] == 201
        assert [len(body) for _, _, body, _ in stage.replicas.got] == [8 * len(LARGE)]


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
async def test_a_request_that_was_sent_is_not_sent_again(method: str) -> None:
    async def break_off(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with opened() as stage:
        stage.replicas.behave = break_off
        await stage.replicas.begin()
        status, body, headers = await stage.asks(method=method, data=b"x" if method != "GET" else None)
        assert status == 502
        assert b"not sent again" in body
        assert "Retry-After" not in headers
        assert len(stage.replicas.got) == 1
        assert stage.counted("broken") == 1


async def test_an_answer_that_breaks_off_is_broken_off() -> None:
    async def break_off(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return answer

    async with opened() as stage:
        stage.replicas.behave = break_off
        await stage.replicas.begin()
        with pytest.raises(aiohttp.ClientError):
            await stage.asks(data=b"x")
        assert len(stage.replicas.got) == 1


async def test_an_answer_is_handed_on_before_the_whole_body_was_sent() -> None:
    async def refuse(_: web.Request) -> web.StreamResponse:
        return web.Response(status=413)

    more = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"some"
        await more.wait()

    async with opened() as stage:
        stage.replicas.behave = refuse

        async def take(request: web.Request) -> web.StreamResponse:
            stage.replicas.got.append((request.method, request.raw_path, b"", {}))
            return await stage.replicas.behave(request)

        stage.replicas._take = take  # type: ignore[method-assign]
        await stage.replicas.begin()
        assert (await stage.asks(data=endless()))[0] == 413


async def test_load_balancers_that_ask_how_it_is_wake_nobody() -> None:
    async with opened() as stage:
        before = stage.room.state().version
        assert (await stage.asks("/health", "GET"))[0] == 200
        assert stage.room.state().version == before


async def test_it_waits_for_all_that_are_needed() -> None:
    other = Replicas()
    try:
        async with opened(needs=f"127.0.0.1:{other.port}") as stage:
            asked = stage.asks(data=b"x")
            await stage.replicas.begin()
            await stage.until(waiting=1)
            assert not stage.replicas.got
            await other.begin()
            assert (await asked)[0] == 201
            assert not other.got
    finally:
        await other.end()


async def test_a_path_that_is_none_goes_nowhere() -> None:
    async with opened() as stage:
        await stage.replicas.begin()
        reader, writer = await asyncio.open_connection("127.0.0.1", int(stage.url.rpartition(":")[2]))
        writer.write(b"GET http://elsewhere.example/x HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b" 400 " in await reader.readline()
        writer.close()
        assert not stage.replicas.got


async def test_who_follows_hears_of_a_request_at_once() -> None:
    async with opened() as stage:

        async def state(**query: Any) -> dict[str, Any]:
            async with stage.client.get(f"{stage.status_url}/state", params=query) as answer:
                assert answer.status == 200
                found: dict[str, Any] = await answer.json()
                return found

        first = await state()
        assert first == {"version": 0, "waiting": 0, "running": 0, "oldestSeconds": 0.0, "idleSeconds": None}
        following = asyncio.create_task(state(version=0, seconds=50))
        asked = stage.asks(data=b"x")
        heard = await asyncio.wait_for(following, 20)
        assert (heard["waiting"], heard["running"], heard["idleSeconds"]) == (1, 0, 0.0)
        assert (await state(version=heard["version"], seconds=0.01))["waiting"] == 1, "nothing has changed since"
        await stage.replicas.begin()
        await asked
        await stage.until(waiting=0)
        last = await state()
        assert last["waiting"] == last["running"] == 0
        assert last["idleSeconds"] >= 0.0
        async with stage.client.get(f"{stage.status_url}/metrics") as answer:
            assert 'stowage_activator_requests_total{outcome="answered"} 1.0' in await answer.text()
        for query in ("version=x", "seconds=1e9", "seconds=nan"):
            async with stage.client.get(f"{stage.status_url}/state?{query}") as answer:
                assert answer.status == 400


async def test_requests_that_wait_are_carried_through_when_it_is_told_to_end() -> None:
    async with aiohttp.ClientSession(auto_decompress=False) as client:

        async def held(url: str) -> int:
            async with client.post(url, data=b"x") as answer:
                return answer.status

        async with opened(drain_seconds=30.0) as stage:
            asked = asyncio.create_task(held(stage.url))
            await stage.until(waiting=1)
            ends = asyncio.create_task(_once_closed(stage))
        await ends
        assert await asked == 201


async def _once_closed(stage: Stage) -> None:
    """A replica comes when no new requests are taken any more."""
    port = int(stage.url.rpartition(":")[2])

    async def closed() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return True
        writer.close()
        return False

    await eventually(closed, what="no new requests are taken")
    await stage.replicas.begin()
