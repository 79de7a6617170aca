"""An activator before replicas that a test plays."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
from aiohttp import web

from harness.waiting import eventually
from stowage.demo.processes import free_port
from stowage.run.activator import ActivatorSettings, serve_requests, status_routes
from stowage.run.activator_room import Room
from stowage.run.metric import Process
from stowage.run.metrics import Metrics

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Replicas:
    """What the Service of the replicas leads to: nobody at first."""

    def __init__(self) -> None:
        self.port = free_port()
        self.got: list[tuple[str, str, bytes, dict[str, str]]] = []
        self.behave: Handler = self._answer
        self._runner: web.AppRunner | None = None

    async def begin(self) -> None:
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", self._take)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def end(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        self.got.append((request.method, request.raw_path, await request.read(), dict(request.headers)))
        return await self.behave(request)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {"X-Engine": "yes", "Connection": "X-Hop", "X-Hop": "1", "Content-Encoding": "zstd"}
        return web.Response(status=201, body=b"to " + body[:10], headers=headers)


class Stage:
    def __init__(self, replicas: Replicas, room: Room, metrics: Metrics, port: int, status_port: int) -> None:
        self.replicas, self.room, self.metrics = replicas, room, metrics
        self.url, self.status_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{status_port}"
        self.client = aiohttp.ClientSession(auto_decompress=False)

    def asks(self, path: str = "/v1/completions", method: str = "POST", **options: Any) -> asyncio.Task[Any]:
        async def ask() -> tuple[int, bytes, dict[str, str]]:
            async with self.client.request(method, self.url + path, **options) as answer:
                return answer.status, await answer.read(), dict(answer.headers)

        return asyncio.create_task(ask())

    async def until(self, waiting: int, running: int = 0) -> None:
        async def so() -> bool:
            assert (self.room.waiting, self.room.running) == (waiting, running)
            return True

        await eventually(so, what=f"{waiting} wait, {running} run")

    def counted(self, outcome: str) -> float | None:
        return self.metrics.registry.get_sample_value("stowage_activator_requests_total", {"outcome": outcome})


@contextlib.asynccontextmanager
async def opened(**settings: Any) -> AsyncIterator[Stage]:
    replicas, metrics = Replicas(), Metrics(process=Process.ACTIVATOR)
    known = ActivatorSettings(
        **{
            "port": 0,
            "forward_to": f"127.0.0.1:{replicas.port}",
            "requests": 5,
            "longest_seconds": 60.0,
            "drain_seconds": 0.1,
            **settings,
        }
    )
    room = Room(known.requests, time.monotonic)  # noqa: TID251
    app = web.Application()
    app.add_routes(status_routes(room, metrics))
    status = web.AppRunner(app, shutdown_timeout=0.1)
    await status.setup()
    await web.TCPSite(status, "127.0.0.1", 0).start()
    try:
        async with serve_requests(known, room, metrics, time.monotonic) as port:  # noqa: TID251
            stage = Stage(replicas, room, metrics, port, int(status.addresses[0][1]))
            async with stage.client:
                yield stage
    finally:
        await status.cleanup()
        await replicas.end()
