"""The HTTP side of a process: /metrics, /healthz (restart me) and /readyz (use me)."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

Check = Callable[[], list[str]]
"""Says what is wrong, one sentence each; an empty list is good news."""


def routes(registry: CollectorRegistry, *, live: Check, ready: Check) -> list[web.RouteDef]:
    """The three routes; 503 lists what is wrong. An answer at all shows that the event loop runs."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    def verdict(problems: list[str]) -> web.Response:
        return web.Response(text="\n".join(problems) or "ok", status=503 if problems else 200)

    async def healthz(_: web.Request) -> web.Response:
        return verdict(live())

    async def readyz(_: web.Request) -> web.Response:
        return verdict(ready())

    return [web.get("/metrics", metrics), web.get("/healthz", healthz), web.get("/readyz", readyz)]


@contextlib.asynccontextmanager
async def serve(app: web.Application, host: str, port: int) -> AsyncIterator[int]:
    """Serve an app while the block runs.

    Yields:
        The port it listens on; of use when `port` is 0.

    Raises:
        OSError: the port is taken.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
