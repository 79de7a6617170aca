"""The work queue: causes ring keys, workers reconcile them.

A key is reconciled by one worker at a time, however often it rings; several rings before the work starts are one.
Delayed keys replace timers. A failed key comes back later and later. This is the contract of client-go's work queue,
with asyncio's clock as its only clock. Beyond it, a kind of key may have a bound of its own, so that work that waits
for somebody slow leaves workers to others.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final, Protocol

from stowage.transport import ApiError
from stowage.transport.backoff import Backoff

Key = tuple[str, ...]
"""What to reconcile: a kind of work, then a name if there is more than one; like `("plan", "default-…")`."""

FIRST_RETRY_SECONDS: Final = 0.25
LONGEST_RETRY_SECONDS: Final = 60.0

logger = logging.getLogger(__name__)

Handler = Callable[[Key], Awaitable[float | None]]
"""Reconciles one key; returns after how many seconds it wants to be called again, or None."""


class QueueMetrics(Protocol):
    """Where the queue tells what it does."""

    def queue_depth(self, keys: int) -> None:
        """Number of keys that wait, delayed ones included."""

    def reconciled(self, kind: str, outcome: str, seconds: float) -> None:
        """A key of this kind was reconciled; `outcome` is `ok` or `error`."""

    def queue_failing(self, keys: int) -> None:
        """Number of keys whose last work failed."""


class WorkQueue:
    """Keys that wait for work.

    Args:
        workers: how many keys may be in work at once.
        generator: source of the back-off's jitter.
        metrics: told of depth and outcomes; None: nobody.
        bounds: by kind of key, how many of it may be in work at once; kinds that are not named share all workers.
    """

    def __init__(
        self,
        *,
        workers: int,
        generator: random.Random,
        metrics: QueueMetrics | None = None,
        bounds: Mapping[str, int] | None = None,
    ) -> None:
        self._workers = workers
        self._bounds = dict(bounds or {})
        self._at_work: Counter[str] = Counter()  # by kind
        self._aside: dict[str, list[tuple[float, int, Key]]] = {}  # by kind: what is due beyond its bound
        self._generator = generator
        self._metrics = metrics
        self._due: dict[Key, float] = {}  # when each waiting key may start; the heap may hold older entries
        self._heap: list[tuple[float, int, Key]] = []
        self._order: Iterator[int] = itertools.count()  # keys due at the same instant start in the order they rang
        self._running: set[Key] = set()
        self._backoffs: dict[Key, Backoff] = {}
        self._last_words: dict[Key, str] = {}  # the last logged failure of each failing key
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._due)

    def add(self, key: Key, delay_seconds: float = 0.0) -> None:
        """Ring a key: it is reconciled after the delay, or sooner if it rang for sooner.

        A key that rings while it is in work is reconciled once more afterwards.
        """
        due = asyncio.get_running_loop().time() + max(0.0, delay_seconds)
        if due >= self._due.get(key, float("inf")):
            return
        self._due[key] = due
        heapq.heappush(self._heap, (due, next(self._order), key))
        self._tell_depth()
        self._changed.set()

    async def run(self, handler: Handler) -> None:
        """Work until cancelled; cancelling also cancels the work in progress and waits for it."""
        async with asyncio.TaskGroup() as group:
            while True:
                key = await self._next()
                self._running.add(key)
                self._at_work[key[0]] += 1
                group.create_task(self._work(handler, key), name="reconcile " + "/".join(key))

    async def _next(self) -> Key:
        """Take the key that is due first, once it is due and a worker is free."""
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            wait_seconds: float | None = None
            if len(self._running) < self._workers:
                wait_seconds = self._drop_stale()
                if wait_seconds is not None and wait_seconds <= 0.0:
                    _, _, key = heapq.heappop(self._heap)
                    del self._due[key]
                    self._tell_depth()
                    return key
            timer = None if wait_seconds is None else loop.call_later(wait_seconds, self._changed.set)
            try:
                await self._changed.wait()
            finally:
                if timer is not None:
                    timer.cancel()

    def _drop_stale(self) -> float | None:
        """Clear the top of the heap of entries that do not count; returns seconds until the first that does.

        An entry of a key in work is dropped as well: `_work` puts it back when the key is free. What is due of a kind
        that is at its bound is put aside.
        """
        while self._heap:
            due, _, key = entry = self._heap[0]
            if not self._counts(entry):
                heapq.heappop(self._heap)
                continue
            wait_seconds = due - asyncio.get_running_loop().time()
            if wait_seconds > 0.0 or self._at_work[key[0]] < self._bounds.get(key[0], self._workers):
                return wait_seconds
            heapq.heappush(self._aside.setdefault(key[0], []), heapq.heappop(self._heap))
        return None

    def _counts(self, entry: tuple[float, int, Key]) -> bool:
        due, _, key = entry
        return self._due.get(key) == due and key not in self._running

    def _take_up(self, kind: str) -> None:
        """A worker of this kind is free: the first one that was put aside is due again."""
        aside = self._aside.get(kind)
        while aside:
            entry = heapq.heappop(aside)
            if self._counts(entry):
                heapq.heappush(self._heap, entry)
                return

    async def _work(self, handler: Handler, key: Key) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        outcome = "error"
        try:
            again_seconds = await handler(key)
            outcome = "ok"
            self._backoffs.pop(key, None)
            self._last_words.pop(key, None)
        except Exception as error:  # noqa: BLE001 - one key's defect must not stop the others; logged, comes back
            again_seconds = self._failed(key, error)
        finally:
            self._running.discard(key)
            self._at_work[key[0]] -= 1
            if self._metrics is not None:
                self._metrics.reconciled(key[0], outcome, loop.time() - started)
                self._metrics.queue_failing(len(self._backoffs))
        if key in self._due:  # it rang meanwhile
            heapq.heappush(self._heap, (self._due[key], next(self._order), key))
        self._take_up(key[0])
        if again_seconds is not None:
            self.add(key, again_seconds)
        self._changed.set()

    def _failed(self, key: Key, error: Exception) -> float:
        """Log a failure, once for each new text; returns the seconds to wait."""
        asked = error.retry_after_seconds if isinstance(error, ApiError) else None
        backoff = self._backoffs.setdefault(key, Backoff(self._generator, FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS))
        seconds = backoff.next_seconds(asked)
        words = f"{type(error).__name__}: {error}"
        level = logging.DEBUG if self._last_words.get(key) == words else logging.WARNING
        self._last_words[key] = words
        expected = isinstance(error, ApiError)
        logger.log(
            level,
            "%s failed, again in %.1f s: %s",
            "/".join(key),
            seconds,
            words,
            extra={"key": "/".join(key)},
            exc_info=None if expected else error,
        )
        return seconds

    def _tell_depth(self) -> None:
        if self._metrics is not None:
            self._metrics.queue_depth(len(self._due))
