"""Leadership: one process acts, the others stand by.

The `leaderelection` of the official client compares wall clocks and knows no transitions: it cannot fence. Here the
lease is judged by this process's monotonic clock alone (another clock never matters, only whether the record changed),
and each new term has an epoch of its own, `spec.leaseTransitions`, which goes into every intent that is written.
Method and times are those of client-go: 15 s lease, 10 s to renew, 2 s between tries.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import random
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final

from msgspec import Struct

from stowage.transport import Api, ApiError, NotFound, paths

LEASE_SECONDS: Final = 15
RENEW_WITHIN_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 2.0
RELEASE_WITHIN_SECONDS: Final = 2.0


class Terms(Struct, frozen=True):
    """Times of a lease, in seconds.

    Attributes:
        lease: a holder not heard of for so long is replaced.
        renew_within: a holder that could not renew for so long stops; shorter than `lease`, so that terms never meet.
        retry: between two tries.
    """

    lease: int = LEASE_SECONDS
    renew_within: float = RENEW_WITHIN_SECONDS
    retry: float = RETRY_SECONDS


logger = logging.getLogger(__name__)


async def no_floor() -> int:
    """There is no earlier epoch to stay above."""
    return 0


class Lease:
    """A Lease object, campaigned for.

    Args:
        api: the connection.
        namespace: of the Lease; it must exist.
        name: of the Lease.
        identity: of this process; a random part is added, so that a restart is a new holder.
        clock: monotonic seconds.
        now: wall clock, seconds since the epoch; only written, for people to read.
        generator: source of the jitter between tries.
        terms: times of the lease.
        floor: gives the highest epoch in use; asked when the Lease does not exist, so that a deleted Lease does not
            let epochs go back.
        on_gained: called with the epoch when a term begins.
        on_lost: called when a term ends, before anybody else can begin one.
    """

    def __init__(
        self,
        api: Api,
        *,
        namespace: str,
        name: str,
        identity: str,
        clock: Callable[[], float],
        now: Callable[[], float],
        generator: random.Random,
        terms: Terms = Terms(),  # noqa: B008 - frozen
        floor: Callable[[], Awaitable[int]] = no_floor,
        on_gained: Callable[[int], None] = lambda _: None,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self.identity = f"{identity}_{uuid.uuid4()}"
        self._api = api
        self._collection = paths.leases(namespace)
        self._name = name
        self._clock = clock
        self._now = now
        self._generator = generator
        self._terms = terms
        self._floor = floor
        self._on_gained = on_gained
        self._on_lost = on_lost
        self._seen: tuple[Any, ...] = ()  # holder, time and transitions as last read …
        self._seen_at = clock()  # … and when they last changed, by our clock
        self._renewed_at: float | None = None  # start of the last successful write of this term; None: no term
        self._epoch = 0
        self._gained = asyncio.Event()
        self._last_words = ""  # of the last failure: each is said once

    @property
    def leading(self) -> bool:
        """Whether this process may act now; False by itself once a renewal is overdue, even if nothing ran since."""
        return self._renewed_at is not None and self._clock() - self._renewed_at < self._terms.renew_within

    @property
    def epoch(self) -> int:
        """Number of the current or last term; 0 before the first."""
        return self._epoch

    async def wait_leading(self) -> None:
        """Return once this process leads."""
        await self._gained.wait()

    async def run(self) -> None:
        """Campaign and renew until cancelled; then let the lease go, so that the next holder need not wait."""
        try:
            while True:
                asked_seconds = await self._step()
                pause_seconds = self._terms.retry * self._generator.uniform(0.8, 1.2)
                # a leader keeps its pace, or it would give way for a word; who only waits may wait as asked
                await asyncio.sleep(pause_seconds if self.leading else max(pause_seconds, asked_seconds))
        finally:
            await self._release()

    async def _step(self) -> float:
        """One try: renew our term, or begin one if the lease is free. A failed try costs the term only by time.

        Returns:
            For how many seconds the server asks to be left alone.
        """
        self._end_if_late()  # what was asked of us meanwhile was dropped: another term begins, which rings everything
        started = self._clock()
        asked_seconds = 0.0
        try:
            async with asyncio.timeout(self._patience_seconds(started)):
                await self._try(started)
            self._last_words = ""
        except (ApiError, TimeoutError) as error:
            if isinstance(error, ApiError):
                asked_seconds = error.retry_after_seconds or 0.0
            words = str(error) or "no answer in time"
            level = logging.DEBUG if words == self._last_words else logging.WARNING
            logger.log(level, "lease %s: %s", self._name, words)
            self._last_words = words
        self._end_if_late()
        return asked_seconds

    def _end_if_late(self) -> None:
        if self._renewed_at is not None and not self.leading:
            self._end("not renewed in time")

    def _patience_seconds(self, started: float) -> float:
        """How long a try may take: a leader must know in time that it no longer leads."""
        if self._renewed_at is None:
            return self._terms.renew_within
        return max(0.1, self._renewed_at + self._terms.renew_within - started)

    async def _try(self, started: float) -> None:
        """Read the lease, and write it if it is ours or free."""
        try:
            found = await self._api.get(f"{self._collection}/{self._name}")
        except NotFound:
            self._end_if_leading("the lease was deleted")
            epoch = max(await self._floor(), self._epoch) + 1
            await self._api.create(self._collection, self._document(epoch))
            self._begin(epoch, started)
            return
        spec = found.get("spec") or {}
        seen = (spec.get("holderIdentity"), spec.get("renewTime"), spec.get("leaseTransitions"))
        if seen != self._seen:
            self._seen, self._seen_at = seen, self._clock()
        holder = spec.get("holderIdentity") or ""
        if holder != self.identity:
            self._end_if_leading(f"taken by {holder or 'nobody'}")
        ours = self._renewed_at is not None
        wait_seconds = float(spec.get("leaseDurationSeconds") or self._terms.lease)
        # our own name without a term means that a term was lost: nobody else can have that name, so it is free
        if holder not in {"", self.identity} and self._clock() - self._seen_at < wait_seconds:
            return
        epoch = self._epoch if ours else max(int(spec.get("leaseTransitions") or 0), self._epoch) + 1
        document = self._document(epoch, acquired=spec.get("acquireTime") if ours else None)
        document["metadata"] = found["metadata"]  # with resourceVersion: only one of several candidates can win
        await self._api.replace(f"{self._collection}/{self._name}", document)
        self._begin(epoch, started)

    def _document(self, epoch: int, *, acquired: str | None = None) -> dict[str, Any]:
        now = dt.datetime.fromtimestamp(self._now(), dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name},
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": self._terms.lease,
                "acquireTime": acquired or now,
                "renewTime": now,
                "leaseTransitions": epoch,
            },
        }

    def _begin(self, epoch: int, started: float) -> None:
        """Our write succeeded: the term counts from before the request was sent."""
        fresh = self._renewed_at is None
        self._renewed_at = started
        self._epoch = epoch
        if fresh:
            logger.info("leading, epoch %d, as %s", epoch, self.identity)
            self._gained.set()
            self._on_gained(epoch)

    def _end_if_leading(self, why: str) -> None:
        if self._renewed_at is not None:
            self._end(why)

    def _end(self, why: str) -> None:
        logger.info("no longer leading: %s", why)
        self._renewed_at = None
        self._gained.clear()
        self._on_lost()

    async def _release(self) -> None:
        """Give the lease up, if it is still ours."""
        if self._renewed_at is None:
            return
        self._end("shutting down")
        try:
            async with asyncio.timeout(RELEASE_WITHIN_SECONDS):
                found = await self._api.get(f"{self._collection}/{self._name}")
                if found["spec"].get("holderIdentity") == self.identity:
                    spec = {**found["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
                    await self._api.replace(f"{self._collection}/{self._name}", {**found, "spec": spec})
        except (ApiError, TimeoutError) as error:
            logger.warning("lease %s not released, it ends by itself: %s", self._name, error)


def term_of(lease: Lease) -> Callable[[], bool]:
    """Whether the term that runs now still does, asked later: the lease is held, and no other term came between."""
    epoch = lease.epoch
    return lambda: lease.leading and lease.epoch == epoch
