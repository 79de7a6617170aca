"""The activator of one model service: it takes requests while there is no replica, and hands them on to the first one.

It knows neither the API server nor the operator, which asks it how many wait. What it holds is lost with it.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Final

import msgspec
from aiohttp import web
from aiohttp.http import HttpProcessingError
from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from stowage import __version__
from stowage.api.activator_state import MOST_STATE_SECONDS, STATE_PATH
from stowage.run import health, process
from stowage.run.activator_forward import Address, Forwarder, Gate, Outcome, client_session
from stowage.run.activator_room import Room
from stowage.run.metric import Process
from stowage.run.metrics import Metrics
from stowage.run.settings import Port, ProcessSettings

monotonic: Final = time.monotonic  # noqa: TID251 - the edge of the process: here its clock is chosen

HEADERS_SECONDS: Final = 30.0
"""A connection without the headers of a request is closed after so long: only requests are counted and bounded."""

logger = logging.getLogger(__name__)


class ActivatorSettings(ProcessSettings):
    """Settings of `stowage activator`."""

    host: str = Field(default="127.0.0.1", description="address where requests come")
    port: Port = 8080
    metrics_port: Port = 8081
    forward_to: str = Field(
        pattern=r"^.+:[0-9]{1,5}$", description="HOST:PORT of the Service of the replicas that answer"
    )
    needs: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="HOST:PORT of further Services that have to take connections, separated by commas"
    )
    requests: int = Field(default=100, ge=1, le=100_000, description="requests that may wait; more are refused")
    longest_seconds: float = Field(default=300.0, gt=0, le=3600, description="that a request waits")
    drain_seconds: float = Field(
        default=300.0, ge=0, le=86_400, description="for requests to end when the process is told to"
    )

    @field_validator("needs", mode="before")
    @classmethod
    def _separated_by_commas(cls, given: object) -> object:
        return [one.strip() for one in given.split(",") if one.strip()] if isinstance(given, str) else given

    @field_validator("needs")
    @classmethod
    def _are_addresses(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for one in given:
            if not one.rpartition(":")[0] or not one.rpartition(":")[2].isdecimal():
                raise ValueError(f"must be HOST:PORT: {one}")
        return given


def status_routes(room: Room, metrics: Metrics) -> list[web.RouteDef]:
    """What the operator, Prometheus and the kubelet ask."""

    async def state(request: web.Request) -> web.Response:
        try:
            version = int(request.query.get("version", "-1"))
            seconds = float(request.query.get("seconds", "0"))
        except ValueError:
            return web.Response(status=400, text="version and seconds must be numbers\n")
        if not 0 <= seconds <= MOST_STATE_SECONDS:
            return web.Response(status=400, text=f"seconds must be 0 to {MOST_STATE_SECONDS:g}\n")
        found = await room.state_after(version, seconds) if seconds else room.state()
        return web.Response(body=msgspec.json.encode(found), content_type="application/json")

    def well() -> list[str]:
        return []

    return [web.get(STATE_PATH, state), *health.routes(metrics.registry, live=well, ready=well)]


@contextlib.asynccontextmanager
async def serve_requests(
    settings: ActivatorSettings, room: Room, metrics: Metrics, clock: Callable[[], float]
) -> AsyncIterator[int]:
    """Take requests while the block runs; after it no new ones, and those that are there get `drain_seconds` to end.

    Yields:
        The port.

    Raises:
        OSError: the port is taken.
    """
    address = _address(settings.forward_to)

    def told(outcome: Outcome, waited_seconds: float) -> None:
        metrics.activator_requests.labels(outcome.value).inc()
        metrics.activator_wait_seconds.observe(waited_seconds)

    async with client_session() as session:
        forwarder = Forwarder(
            address=address,
            gate=Gate([address, *map(_address, settings.needs)]),
            room=room,
            session=session,
            longest_seconds=settings.longest_seconds,
            clock=clock,
            told=told,
        )
        server = web.Server(
            forwarder.handle,
            handler_cancellation=True,
            access_log=None,
            logger=_requests_log(),
            auto_decompress=False,  # bodies are handed on with the headers that tell of their encoding and length
            keepalive_timeout=HEADERS_SECONDS,  # it runs from a connection's begin, while no request is whole
        )
        runner = web.ServerRunner(server, shutdown_timeout=settings.drain_seconds)
        await runner.setup()
        try:
            site = web.TCPSite(runner, settings.host, settings.port)
            await site.start()
            yield int(runner.addresses[0][1])
        finally:
            await runner.cleanup()


async def run(settings: ActivatorSettings) -> None:
    """Run an activator until SIGTERM or SIGINT.

    Raises:
        OSError: a port is taken.
    """
    stop = process.stop_on_signals()
    metrics = Metrics(process=Process.ACTIVATOR)
    room = Room(settings.requests, monotonic)
    metrics.activator_waiting_requests.set_function(lambda: float(room.waiting))
    metrics.activator_running_requests.set_function(lambda: float(room.running))
    app = web.Application()
    app.add_routes(status_routes(room, metrics))
    async with (
        health.serve(app, settings.metrics_host, settings.metrics_port) as status_port,
        serve_requests(settings, room, metrics, monotonic) as port,
    ):
        words = (__version__, port, settings.forward_to, settings.metrics_host, status_port)
        logger.info("stowage %s takes requests on port %d for %s; state on %s:%d", *words)
        await stop.wait()
        logger.info("stopping: %d wait, %d run", room.waiting, room.running)
    logger.info("stopped")


def main(settings: ActivatorSettings) -> int:
    """Run the activator; returns the exit code."""
    return process.main(run(settings), settings)


def _requests_log() -> logging.Logger:
    """Of the server: without what is no request, for anybody can send that, and its lines may hold somebody's key."""

    def is_ours(record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))

    log = logging.getLogger(f"{__name__}.requests")
    log.filters = [is_ours]
    return log


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)
