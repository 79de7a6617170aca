"""What the operator hears of activators: at once when a request waits, and nothing from who answers badly."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from harness.waiting import eventually
from stowage.run.activator import status_routes
from stowage.run.activator_room import Room
from stowage.run.activators import MOST_PODS, Activators
from stowage.run.metric import Process
from stowage.run.metrics import Metrics

NOW = 1_790_000_000.0
KEY = "team/chat"


class Stage:
    def __init__(self) -> None:
        self.now = NOW
        self.room = Room(10, lambda: self.now)
        self.rung: list[str] = []
        self.asked: list[str] = []
        self.port = 0
        self.activators = Activators(lambda key, _: self.rung.append(key), self._find, lambda: self.now)

    async def _find(self, namespace: str, name: str) -> tuple[str, int]:
        self.asked.append(f"{namespace}/{name}")
        if not self.port:
            raise ConnectionError("its pod has no address")
        return "127.0.0.1", self.port

    async def until_heard(self, waiting: int) -> None:
        async def heard() -> bool:
            held = self.activators.held(KEY, is_ready=True)
            assert held.heard_at is not None
            assert held.waiting == waiting
            return True

        await eventually(heard, what=f"{waiting} are said to wait")


@contextlib.asynccontextmanager
async def opened(routes: list[web.RouteDef] | None = None) -> AsyncIterator[Stage]:
    stage = Stage()
    app = web.Application()
    app.add_routes(routes or status_routes(stage.room, Metrics(process=Process.ACTIVATOR)))
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    stage.port = int(runner.addresses[0][1])
    try:
        yield stage
    finally:
        await stage.activators.close()
        await runner.cleanup()


async def test_a_request_that_waits_rings_the_service() -> None:
    async with opened() as stage:
        stage.activators.follow(KEY, [("u1", "chat-activator-1")])
        await stage.until_heard(waiting=0)
        assert stage.rung == [KEY], "who holds requests is known now"
        with stage.room.place() as place:
            await stage.until_heard(waiting=1)
            assert stage.rung == [KEY, KEY]
            assert stage.activators.waiting() == 1
            place.begin()
            await stage.until_heard(waiting=0)
            assert stage.activators.held(KEY, is_ready=True).running == 1
        stage.now += 7.0

        async def ended() -> bool:
            held = stage.activators.held(KEY, is_ready=True)
            assert held.idle_since == NOW, held
            return held.running == 0

        await eventually(ended, what="the last request is said to have ended")
        assert stage.asked == ["team/chat-activator-1"], "a pod keeps its address"


async def test_several_pods_count_together_and_who_is_gone_no_more() -> None:
    async with opened() as stage:
        stage.activators.follow(KEY, [("u1", "a"), ("u2", "b")])
        with stage.room.place():
            await stage.until_heard(waiting=2)
            stage.activators.follow(KEY, [("u2", "b")])
            assert stage.activators.held(KEY, is_ready=True).waiting == 1
            stage.activators.forget(KEY)
            held = stage.activators.held(KEY, is_ready=False)
            assert (held.waiting, held.heard_at) == (0, None)


async def test_of_many_pods_only_some_are_followed() -> None:
    async with opened() as stage:
        stage.activators.follow(KEY, [(f"u{number}", f"p{number}") for number in range(500)])
        with stage.room.place():
            await stage.until_heard(waiting=MOST_PODS)
        assert len(stage.asked) == MOST_PODS


async def test_a_pod_without_an_address_is_not_known() -> None:
    async with opened() as stage:
        port, stage.port = stage.port, 0
        stage.activators.follow(KEY, [("u1", "a")])

        async def tried() -> bool:
            return len(stage.asked) >= 2

        await eventually(tried, what="it is looked for again")
        assert stage.activators.held(KEY, is_ready=True).heard_at is None
        stage.port = port
        await stage.until_heard(waiting=0)


WRONG = [
    pytest.param(web.json_response({"version": 1, "waiting": -5, "running": 0}), id="negative"),
    pytest.param(web.json_response({"version": 1, "waiting": 1e300, "running": 0}), id="no count"),
    pytest.param(web.json_response({"waiting": 1}), id="half of it"),
    pytest.param(web.Response(text="[" * 4000), id="nested"),
    pytest.param(web.json_response({"version": 1, "waiting": 1, "running": 0, "more": "x" * 5000}), id="too long"),
    pytest.param(
        web.Response(
            body=gzip.compress(b'{"version": 1, "waiting": 1, "running": 0}'), headers={"Content-Encoding": "gzip"}
        ),
        id="to be unpacked",
    ),
    pytest.param(web.Response(status=302, headers={"Location": "/elsewhere"}), id="a way to somebody else"),
]


@pytest.mark.parametrize("answer", WRONG)
async def test_an_answer_of_another_form_is_none(answer: web.Response) -> None:
    body, status, headers = answer.body, answer.status, answer.headers
    asked: list[str] = []

    async def state(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(body=body, status=status, headers=headers)

    async with opened([web.get("/state", state), web.get("/elsewhere", state)]) as stage:
        stage.activators.follow(KEY, [("u1", "a")])

        async def twice() -> bool:
            return len(asked) >= 2

        await eventually(twice, what="it is asked again")
        assert set(asked) == {"/state"}
        assert stage.activators.held(KEY, is_ready=True).heard_at is None
        assert not stage.rung


def test_since_when_the_service_leads_there_is_kept_until_it_does_not() -> None:
    stage = Stage()
    stage.activators.led(KEY, to_activator=True)
    stage.now += 3.0
    stage.activators.led(KEY, to_activator=True)
    assert stage.activators.held(KEY, is_ready=True).leads_since == NOW
    stage.activators.led(KEY, to_activator=False)
    assert stage.activators.held(KEY, is_ready=True).leads_since is None
