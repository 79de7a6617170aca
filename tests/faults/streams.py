"""Watches that the fault proxy passes on, event by event, so that faults can be put between two of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp

from faults.script import Cut, Duplicate, Fault, Freeze, InjectError, status_document
from faults.traffic import Exchange

Send = Callable[[bytes], Awaitable[None]]


class CutShort(Exception):  # noqa: N818 - what a test wants is no error
    """The connection to the client shall end in the middle of its answer."""


@dataclass(eq=False)
class OpenWatch:
    """A watch that is open now; its attributes may be changed by the proxy's loop alone.

    Attributes:
        exchange: the request.
        in_lines: it is made of lines, one for each event; else of anything, and what counts as an event is chance.
        events: how many events were passed on.
        frozen: nothing is passed on any more; what the server sends, its end too, is kept until the thaw.
    """

    exchange: Exchange
    in_lines: bool = True
    events: int = 0
    frozen: bool = False
    _kept: list[bytes] = field(default_factory=list)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _abruptly: bool = False
    _server_ended: bool = False
    _send: Send | None = None

    async def carry(self, content: aiohttp.StreamReader, send: Send, fault: Fault | None) -> None:
        """Passes a watch on until either side ends it.

        Raises:
            CutShort: the client's connection shall be broken.
        """
        self._send = send
        async with asyncio.TaskGroup() as group:
            lines = group.create_task(self._pass_on(content, fault))
            if isinstance(fault, Cut) and fault.after_seconds is not None:
                group.create_task(self._end_later(fault.after_seconds, abruptly=fault.abruptly))
            await self._ended.wait()
            lines.cancel()
        if self._abruptly:
            raise CutShort

    async def _end_later(self, seconds: float, *, abruptly: bool) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        self.end(abruptly=abruptly)

    async def _pass_on(self, content: aiohttp.StreamReader, fault: Fault | None) -> None:
        try:
            await self._before_next(fault)
            async for line in _lines(content) if self.in_lines else content.iter_any():
                for _ in range(fault.times if isinstance(fault, Duplicate) else 1):
                    await self._deliver(line)
                self.events += 1
                await self._before_next(fault)
        except (aiohttp.ClientError, ConnectionError):
            self.end(abruptly=True)
        else:
            self._server_ended = True
            if not self.frozen:
                self.end()

    async def _before_next(self, fault: Fault | None) -> None:
        if isinstance(fault, Freeze) and self.events == fault.after_events:
            self.frozen = True
        elif isinstance(fault, Cut) and fault.after_events == self.events:
            self.end(abruptly=fault.abruptly)
        elif isinstance(fault, InjectError) and self.events == fault.after_events:
            await self.inject(fault.code, ends=fault.ends)

    async def _deliver(self, line: bytes) -> None:
        if self.frozen:
            self._kept.append(line)
        elif not self._ended.is_set() and self._send is not None:
            await self._send(line)

    async def inject(self, code: int, *, ends: bool = True) -> None:
        """Sends an ERROR event, then ends the stream."""
        event = {"type": "ERROR", "object": status_document(code, message="a fault of the test")}
        await self._deliver(json.dumps(event).encode() + b"\n")
        if ends:
            self.end()

    async def thaw(self) -> None:
        """Delivers what was kept back and goes on."""
        self.frozen = False
        kept, self._kept = self._kept, []
        for line in kept:
            await self._deliver(line)
        if self._server_ended:
            self.end()

    def end(self, *, abruptly: bool = False) -> None:
        """Ends the stream."""
        self._abruptly = self._abruptly or abruptly
        self._ended.set()


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length, each with its end; a last one without an end as well."""
    rest = b""
    async for chunk in content.iter_any():
        *ended, rest = (rest + chunk).split(b"\n")
        for line in ended:
            yield line + b"\n"
    if rest:
        yield rest
