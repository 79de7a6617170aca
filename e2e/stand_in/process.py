"""An engine as a process: it loads for a while, serves, and after SIGTERM ends what it has begun."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from stand_in.engine import Engine, sped
from stand_in.engine_metrics import EngineMetrics, Names
from stand_in.server import Role, Server
from stand_in.service import Service
from stowage.decide.serving.performance import Performance

LAST_WORDS_SECONDS: Final = 1.0
"""For answers that are written and not yet sent."""


@dataclass(frozen=True, slots=True)
class Process:
    """What an engine is started with.

    Attributes:
        performance: of the replica, before `speed`.
        model: as requests call it.
        speed: so many times as fast is everything: steps and loading.
        cold_start_seconds: until it listens.
        role: which part of the work it does.
        names: of the metrics.
    """

    performance: Performance
    model: str = "stand-in"
    speed: float = 1.0
    cold_start_seconds: float = 0.0
    role: Role = Role.UNIFIED
    names: Names = Names.CURRENT


@contextlib.asynccontextmanager
async def serving(process: Process, ending: asyncio.Event) -> AsyncIterator[Running]:
    """An engine that runs until the block ends; once it is loaded, its server may be given places to listen at."""
    loaded = asyncio.create_task(asyncio.sleep(process.cold_start_seconds / process.speed))
    ended = asyncio.create_task(ending.wait())
    await asyncio.wait((loaded, ended), return_when=asyncio.FIRST_COMPLETED)
    for task in (loaded, ended):
        task.cancel()
    engine = Engine(sped(process.performance, process.speed))
    service = Service(engine, EngineMetrics(engine, process.model, process.names))
    server = Server(service, process.model, process.role)
    runner = web.AppRunner(
        server.app(), handler_cancellation=True, shutdown_timeout=LAST_WORDS_SECONDS, access_log=None
    )
    await runner.setup()
    steps = asyncio.create_task(service.run())
    try:
        yield Running(server, service, runner)
    finally:
        steps.cancel()
        await runner.cleanup()


@dataclass(frozen=True, slots=True)
class Running:
    """An engine that is loaded."""

    server: Server
    service: Service
    runner: web.AppRunner

    async def end(self) -> None:
        """Takes no further request and ends those that are there."""
        self.server.is_ending = True
        for site in tuple(self.runner.sites):
            await site.stop()
        await self.service.until_idle()


async def run(process: Process, host: str, port: int) -> None:
    """Serves until SIGTERM or SIGINT."""
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, ending.set)
    async with serving(process, ending) as running:
        if ending.is_set():
            return
        await web.TCPSite(running.runner, host, port, backlog=1024).start()
        print(f"{process.model} listens on port {running.runner.addresses[0][1]}", flush=True)
        await ending.wait()
        print("ends its requests", flush=True)
        await running.end()
