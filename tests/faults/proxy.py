"""An HTTP proxy between the processes under test and the API server that plays faults and records every request.

It runs in a thread with an event loop of its own, so that a test may block. Its methods may be called from anywhere.
Toward the API server it speaks TLS with the credentials of a kubeconfig, toward its clients plain HTTP on 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
from aiohttp import web

from faults.script import WATCH_FAULTS, Answer, Delay, Drop, Fault, Hold, Match, Rule, Script, Side
from faults.streams import CutShort, OpenWatch
from faults.traffic import Exchange, Request
from faults.upstream import Upstream, read_kubeconfig, write_kubeconfig

T = TypeVar("T")

# of one connection, not of the message (RFC 9110, 7.6.1), and what is set anew for the other side
_OF_THE_CONNECTION = {
    *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding"),
    *("upgrade", "host", "content-length"),
}
_STOP_SECONDS = 10.0
_GOODBYE_SECONDS = 0.2


@dataclass(eq=False)
class Held:
    """A request that the proxy holds.

    Attributes:
        exchange: the request; `exchange.server_status` tells whether the server has answered it.
        rule: that holds it.
    """

    exchange: Exchange
    rule: Rule
    _loop: asyncio.AbstractEventLoop
    _released: asyncio.Event = field(default_factory=asyncio.Event)
    _dropped: bool = False

    def release(self) -> None:
        """Lets it go on as if nothing had happened."""
        self._loop.call_soon_threadsafe(self._released.set)

    def drop(self) -> None:
        """Ends its connection: a request held before the server never gets there, an answer is never heard."""
        self._dropped = True
        self.release()

    async def wait(self) -> bool:
        """Waits for the release; whether it may go on."""
        await self._released.wait()
        return not self._dropped


class FaultProxy:
    """A proxy in front of one API server; a context manager.

    Args:
        upstream: the API server.

    Attributes:
        script: decides the faults; change it by `add`, `remove` and `clear` of the proxy.
        exchanges: all requests so far.
    """

    def __init__(self, upstream: Upstream) -> None:
        self.script = Script()
        self.exchanges: list[Exchange] = []
        self._upstream = upstream
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._lock = threading.Lock()
        self._held: list[Held] = []
        self._watches: list[OpenWatch] = []
        self._tasks: set[asyncio.Task[Any]] = set()  # of requests that are under way
        self._started_at = time.monotonic()  # noqa: TID251
        self._runner: web.ServerRunner | None = None
        self._site: web.TCPSite | None = None
        self._session: aiohttp.ClientSession | None = None
        self.port = 0

    @classmethod
    def for_kubeconfig(cls, file: Path) -> Self:
        """A proxy in front of the API server of a kubeconfig."""
        return cls(read_kubeconfig(file))

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self.port}"

    def kubeconfig(self, folder: Path) -> Path:
        """Writes a kubeconfig for clients of this proxy; its path."""
        return write_kubeconfig(folder / f"proxy-{self.port}.kubeconfig", self.url)

    # scripts

    def add(self, match: Match, fault: Fault, name: str = "") -> Rule:
        """Adds a rule."""
        with self._lock:
            return self.script.add(match, fault, name)

    def remove(self, rule: Rule) -> None:
        """Takes a rule out; requests that it holds stay held."""
        with self._lock:
            self.script.remove(rule)

    def clear(self) -> None:
        """Takes all rules out and releases what they hold."""
        with self._lock:
            self.script.clear()
        for held in self.held():
            held.release()

    # what happens

    def held(self, rule: Rule | None = None) -> list[Held]:
        """The requests held now, all or those of one rule."""
        return [held for held in list(self._held) if rule is None or held.rule is rule]

    def seen(self, match: Match, *, since: int = 0) -> list[Exchange]:
        """The recorded requests of a kind, from an index on."""
        return [exchange for exchange in list(self.exchanges)[since:] if match.fits(exchange.request)]

    def forget_bodies(self) -> None:
        """Keeps of requests that have ended everything but their bodies: long sweeps would fill the memory."""
        for exchange in list(self.exchanges):
            if exchange.ended and exchange.request.body:
                exchange.request = dataclasses.replace(exchange.request, body=b"")

    def watches(self, match: Match | None = None) -> list[OpenWatch]:
        """The watches that are open now."""
        return [watch for watch in list(self._watches) if match is None or match.fits(watch.exchange.request)]

    # faults of watches that are open

    def freeze(self, match: Match | None = None) -> int:
        """Lets the open watches of a kind fall silent; their number."""

        def freeze(watch: OpenWatch) -> None:
            watch.frozen = True

        return self._each(match, freeze)

    def thaw(self, match: Match | None = None) -> int:
        """Delivers what frozen watches kept back and lets them go on; their number."""
        return self._each(match, OpenWatch.thaw)

    def cut(self, match: Match | None = None, *, abruptly: bool = False) -> int:
        """Ends the open watches of a kind; their number."""
        return self._each(match, lambda watch: watch.end(abruptly=abruptly))

    def inject_error(self, code: int, match: Match | None = None) -> int:
        """Puts an ERROR event into the open watches of a kind and ends them; their number."""
        return self._each(match, lambda watch: watch.inject(code))

    def _each(self, match: Match | None, change: Callable[[OpenWatch], Awaitable[None] | None]) -> int:
        async def change_all() -> int:
            chosen = self.watches(match)
            for watch in chosen:
                answer = change(watch)
                if answer is not None:
                    await answer
            return len(chosen)

        return self._run(change_all())

    # the whole server

    def refuse(self) -> None:
        """The server is away: nobody listens, all connections break."""
        self._run(self._refuse())

    def accept(self) -> None:
        """The server is back, at the same port."""
        self._run(self._listen())

    def start(self) -> None:
        """Begins to listen."""
        self._thread.start()
        self._run(self._start())

    def stop(self) -> None:
        """Ends all connections and the thread."""
        self.clear()
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_STOP_SECONDS)
        self._loop.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_STOP_SECONDS)

    async def _start(self) -> None:
        connector = aiohttp.TCPConnector(ssl=self._upstream.tls or False, limit=0)
        # bodies pass as they are: compressed ones stay compressed
        self._session = aiohttp.ClientSession(
            connector=connector, auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None, sock_connect=5)
        )
        self._runner = web.ServerRunner(
            web.Server(self._handle, access_log=None), handle_signals=False, shutdown_timeout=0.1
        )
        await self._runner.setup()
        await self._listen()

    async def _listen(self) -> None:
        if self._site is None and self._runner is not None:
            self._site = web.TCPSite(self._runner, "127.0.0.1", self.port)
            await self._site.start()
            self.port = self._runner.addresses[0][1]

    async def _refuse(self) -> None:
        if self._site is not None:
            await self._site.stop()
            self._site = None
        self._break_connections()

    def _break_connections(self) -> None:
        server = self._runner.server if self._runner is not None else None
        for handler in list(server.connections) if server is not None else []:
            if handler.transport is not None:
                handler.transport.abort()

    async def _stop(self) -> None:
        await self._refuse()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
        if self._runner is not None:
            await self._runner.cleanup()
        # connections of cancelled requests say goodbye in TLS, and nothing tells when they have
        await asyncio.sleep(_GOODBYE_SECONDS)

    # one request

    async def _handle(self, incoming: web.BaseRequest) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        body = await incoming.read()
        with self._lock:
            request = Request(
                index=len(self.exchanges),
                method=incoming.method,
                path=incoming.path,
                query=dict(incoming.query),
                user_agent=incoming.headers.get("User-Agent", ""),
                body=body,
                headers={name.lower(): value for name, value in incoming.headers.items()},
            )
            exchange = Exchange(request, at_seconds=time.monotonic() - self._started_at)  # noqa: TID251
            self.exchanges.append(exchange)
            rule = self.script.decide(request)
        if rule is not None:
            exchange.fault = rule.name or type(rule.fault).__name__.lower()
        try:
            return await self._serve(incoming, exchange, rule)
        except (CutShort, aiohttp.ClientError) as error:
            # the client of a server that broke the connection sees a broken connection
            _abort(incoming)
            raise web.HTTPBadGateway from error
        finally:
            exchange.ended = True

    async def _serve(self, incoming: web.BaseRequest, exchange: Exchange, rule: Rule | None) -> web.StreamResponse:
        fault = rule.fault if rule is not None else None
        if isinstance(fault, Answer):
            exchange.client_status = fault.status
            retry = {} if fault.retry_after_seconds is None else {"Retry-After": str(fault.retry_after_seconds)}
            return web.Response(status=fault.status, body=fault.payload, headers=retry, content_type="application/json")
        await self._meet(exchange, rule, Side.BEFORE)
        assert self._session is not None
        headers = {
            name: value for name, value in exchange.request.headers.items() if name not in _OF_THE_CONNECTION
        } | dict(self._upstream.headers)
        async with self._session.request(
            incoming.method,
            self._upstream.url + incoming.raw_path,
            data=exchange.request.body or None,
            headers=headers,
            allow_redirects=False,
        ) as answer:
            if exchange.request.verb == "watch" and answer.status == 200:
                exchange.server_status = answer.status
                return await self._watch(incoming, exchange, answer, fault if isinstance(fault, WATCH_FAULTS) else None)
            body = await answer.read()
            exchange.server_status = answer.status
            await self._meet(exchange, rule, Side.AFTER)
            exchange.client_status = answer.status
            return web.Response(status=answer.status, body=body, headers=_passed_on(answer))

    async def _meet(self, exchange: Exchange, rule: Rule | None, side: Side) -> None:
        """Plays a fault of requests that is due on this side of the server."""
        fault = rule.fault if rule is not None else None
        if rule is None or not isinstance(fault, Hold | Delay | Drop) or fault.side is not side:
            return
        if isinstance(fault, Delay):
            await asyncio.sleep(fault.seconds)
        elif isinstance(fault, Drop):
            raise CutShort
        else:
            held = Held(exchange, rule, self._loop)
            self._held.append(held)
            try:
                if not await held.wait():
                    raise CutShort
            finally:
                self._held.remove(held)

    async def _watch(
        self, incoming: web.BaseRequest, exchange: Exchange, answer: aiohttp.ClientResponse, fault: Fault | None
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=_passed_on(answer))
        await response.prepare(incoming)
        exchange.client_status = answer.status
        # protobuf has frames, not lines: it passes as it comes
        watch = OpenWatch(exchange, in_lines=answer.content_type.startswith("application/json"))
        self._watches.append(watch)
        gone = asyncio.create_task(_end_with_client(incoming, watch))
        try:
            with contextlib.suppress(ConnectionError):
                await watch.carry(answer.content, response.write, fault)
        finally:
            gone.cancel()
            self._watches.remove(watch)
            if answer.connection is not None and answer.connection.transport is not None:
                answer.connection.transport.abort()  # a TLS connection that ends in order waits for the other side
        return response


async def _end_with_client(incoming: web.BaseRequest, watch: OpenWatch) -> None:
    """A watch that is silent would not notice that its client is gone."""
    while incoming.transport is not None and not incoming.transport.is_closing():  # noqa: ASYNC110 - nothing tells it
        await asyncio.sleep(0.2)
    watch.end()


def _passed_on(answer: aiohttp.ClientResponse) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.lower() not in _OF_THE_CONNECTION}


def _abort(incoming: web.BaseRequest) -> None:
    if incoming.transport is not None:
        incoming.transport.abort()
