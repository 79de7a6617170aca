"""Drives an engine by a clock, and gives each request its tokens as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from stand_in.engine import Engine, Sequence
from stand_in.engine_metrics import EngineMetrics, FinishedReason

MOST_BEHIND_SECONDS = 0.5
"""Steps that come late, as on a busy machine, catch up; those that come later than this do not."""


class Service:
    """An engine at work. Its clock is that of the running event loop, in seconds."""

    def __init__(self, engine: Engine, metrics: EngineMetrics) -> None:
        self.engine, self.metrics = engine, metrics
        self._streams: dict[Sequence, asyncio.Queue[int]] = {}
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self) -> None:
        """Takes step after step; ends when cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._work.clear()
            started = loop.time()
            while (seconds := self.engine.begin(started)) is not None:
                due = started + seconds
                await asyncio.sleep(due - loop.time())
                self._give(self.engine.end(loop.time()))
                started = max(due, loop.time() - MOST_BEHIND_SECONDS)
            await self._work.wait()

    async def tokens(self, prompt_tokens: int, output_tokens: int, *, is_prefilled: bool = False) -> AsyncIterator[int]:
        """One request: the number of each of its tokens, from 1. Who stops asking gives it up."""
        loop = asyncio.get_running_loop()
        sequence = Sequence(prompt_tokens, output_tokens, loop.time(), is_prefilled=is_prefilled)
        stream = self._streams[sequence] = asyncio.Queue()
        self._idle.clear()
        given = 0
        try:
            await asyncio.sleep(self.engine.performance.overhead_seconds)
            self.engine.add(sequence)
            self._work.set()
            while given < output_tokens:
                given = await stream.get()
                yield given
        finally:
            del self._streams[sequence]
            if not sequence.has_ended:
                self.engine.remove(sequence)
                self.metrics.end(sequence, FinishedReason.ABORT, loop.time())
            if not self._streams:
                self._idle.set()

    async def until_idle(self) -> None:
        """Waits until no request is left."""
        await self._idle.wait()

    def _give(self, sequences: list[Sequence]) -> None:
        for sequence in sequences:
            self.metrics.token(sequence)
            if sequence.has_ended:
                self.metrics.end(sequence, FinishedReason.LENGTH, sequence.last_token_at)
            self._streams[sequence].put_nowait(sequence.generated)
