"""From a request that waits to a replica's answer: sent once a replica takes connections, and never twice."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from enum import StrEnum
from typing import Final, TypeVar

import aiohttp
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from stowage.run.activator_room import Full, Place, Room

PROBE_SECONDS: Final = 0.2
"""Between two looks whether a replica takes connections."""
CONNECT_SECONDS: Final = 2.0
RETRY_SECONDS: Final = 10
"""After which a client that was refused may come again, as it is told."""
HEALTH_PATHS: Final = frozenset({"/health", "/healthz", "/ping"})
"""Load balancers ask there again and again: that shall wake nobody."""
HOP_BY_HOP: Final = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"),
        *("te", "trailer", "transfer-encoding", "upgrade", "expect"),
    }
)
"""Headers that speak of one connection alone (RFC 9110, section 7.6.1)."""
OWN_HEADERS: Final = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
"""What the client library would add where a request says nothing."""

Address = tuple[str, int]
_Answer = TypeVar("_Answer", bound=web.StreamResponse)

logger = logging.getLogger(__name__)


class Outcome(StrEnum):
    """What became of a request."""

    ANSWERED = "answered"
    FULL = "full"
    TOO_LATE = "too_late"
    LEFT = "left"  # its client went
    BROKEN = "broken"  # it was sent, and no whole answer came


class Gate:
    """Whether replicas take connections: one look for all that wait.

    Args:
        addresses: of the Services that have to.
    """

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = tuple(addresses)
        self._waiters = 0
        self._looking: asyncio.Task[None] | None = None

    async def is_open(self) -> bool:
        """Whether all take connections now."""
        return all(await asyncio.gather(*(_takes_connections(one) for one in self._addresses)))

    async def opened(self) -> None:
        """Wait until they do."""
        self._waiters += 1
        try:
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look())
            await asyncio.shield(self._looking)
        finally:
            self._waiters -= 1

    async def _look(self) -> None:
        while self._waiters and not await self.is_open():  # noqa: ASYNC110 - no event tells of a replica
            await asyncio.sleep(PROBE_SECONDS)


class Forwarder:
    """Answers requests: by a replica, or with why not.

    Args:
        address: of the Service of the replicas that answer.
        gate: opens when there are some.
        room: counts.
        session: of `client_session`.
        longest_seconds: that a request waits.
        clock: seconds that only go forward.
        told: called with what became of each request, and for how many seconds it waited.
    """

    def __init__(
        self,
        *,
        address: Address,
        gate: Gate,
        room: Room,
        session: aiohttp.ClientSession,
        longest_seconds: float,
        clock: Callable[[], float],
        told: Callable[[Outcome, float], None],
    ) -> None:
        host, port = address
        self._base = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        self._gate = gate
        self._room = room
        self._session = session
        self._longest_seconds = longest_seconds
        self._clock = clock
        self._told = told

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        if not request.raw_path.startswith("/"):
            return _refusal(400, "only paths are answered")
        is_health = request.method in {"GET", "HEAD"} and request.path in HEALTH_PATHS
        if is_health and not await self._gate.is_open():
            return _closing(web.Response(text="no replica runs; requests are held\n"))
        began = self._clock()
        outcome, waited_from = Outcome.LEFT, began
        place: Place | None = None
        try:
            with self._room.place() as place:
                answer, outcome = await self._forward(request, place, began + self._longest_seconds)
        except Full:
            outcome = Outcome.FULL
            answer = _refusal(429, "as many requests wait for a replica as may: scaling.scaleToZero.hold.requests")
        finally:
            until = place.began_at if place is not None and place.began_at is not None else self._clock()
            self._told(outcome, until - waited_from)
        return answer

    async def _forward(
        self, request: web.BaseRequest, place: Place, deadline: float
    ) -> tuple[web.StreamResponse, Outcome]:
        while True:
            try:
                async with asyncio.timeout(max(0.0, deadline - self._clock())):
                    await self._gate.opened()
            except TimeoutError:
                words = "no replica was ready in time: scaling.scaleToZero.hold.longest"
                return _refusal(503, words), Outcome.TOO_LATE
            place.begin()
            try:
                return await self._send(request)
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
                place.wait()  # no connection was made, so nothing of it was sent
                await asyncio.sleep(PROBE_SECONDS)

    async def _send(self, request: web.BaseRequest) -> tuple[web.StreamResponse, Outcome]:
        """Send it, and hand on the answer as it comes.

        Raises:
            aiohttp.ClientConnectorError: there was no connection; nothing was sent.
            aiohttp.ConnectionTimeoutError: the same.
        """
        begun: web.StreamResponse | None = None
        try:
            async with self._session.request(
                request.method,
                URL(self._base + request.raw_path, encoded=True),
                headers=_handed_on(request.headers),
                data=_chunks(request.content) if request.can_read_body else None,
                allow_redirects=False,
                skip_auto_headers=OWN_HEADERS,
            ) as answer:
                begun = web.StreamResponse(
                    status=answer.status, reason=answer.reason, headers=_handed_on(answer.headers)
                )
                _closing(begun)
                await begun.prepare(request)
                async for chunk in answer.content.iter_any():
                    await begun.write(chunk)
                await begun.write_eof()
                return begun, Outcome.ANSWERED
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise
        except (aiohttp.ClientError, OSError) as error:
            logger.warning("a request was sent and not answered in full: %s", error)
            if begun is None:
                words = "the replica did not answer; the request was sent to it, and is not sent again"
                return _closing(web.Response(status=502, text=f"{words}\n")), Outcome.BROKEN
            if request.transport is not None:
                request.transport.abort()  # a broken connection, or the client would take it for a whole answer
            return begun, Outcome.BROKEN


class _Unanswered(aiohttp.ClientError):
    """A request was sent, at least in part, and no answer came."""


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Without this the library sends idempotent requests once more when the connection breaks."""
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise
    except (aiohttp.ClientError, OSError) as error:
        raise _Unanswered(f"{type(error).__name__}: {error}") from error


def client_session() -> aiohttp.ClientSession:
    """A session that takes everything as it is: each request on a connection of its own, and sent once."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        middlewares=(_once,),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        max_line_size=65536,
        max_field_size=65536,
    )


async def _takes_connections(address: Address) -> bool:
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(*address)
    except OSError:  # TimeoutError is one
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


async def _chunks(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """What has come of a body so far, and then the rest as it comes."""
    async for chunk in content.iter_any():
        yield chunk


def _handed_on(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    named = {one.strip().lower() for value in headers.getall("Connection", ()) for one in value.split(",")}
    return CIMultiDict((key, value) for key, value in headers.items() if key.lower() not in HOP_BY_HOP | named)


def _refusal(status: int, words: str) -> web.Response:
    headers: Mapping[str, str] = {} if status == 400 else {"Retry-After": str(RETRY_SECONDS)}
    return _closing(web.Response(status=status, text=f"{words}\n", headers=headers))


def _closing(answer: _Answer) -> _Answer:
    """The next request makes a connection of its own, and finds a replica without us."""
    answer.force_close()
    return answer
