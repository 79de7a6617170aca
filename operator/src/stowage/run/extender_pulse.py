"""Whether an extender lives: it renews a Lease of its own while it sees pods and plans, and the operator looks.

An acknowledged plan says that an extender knew it once. An extender that died since, or has gone blind, lets every pod
go anywhere: then nobody may be evicted.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import Callable
from typing import Any, Final

from stowage.api.names import COMPONENT_LABEL, EXTENDER_MANAGER
from stowage.transport import Api, ApiError, NotFound, paths

BEAT_SECONDS: Final = 2.0
ALIVE_SECONDS: Final = 7  # three beats missed
LOOK_AGAIN_SECONDS: Final = 0.5
RELEASE_WITHIN_SECONDS: Final = 2.0

logger = logging.getLogger(__name__)


class Pulse:
    """The Lease of one extender.

    Args:
        api: the connection.
        namespace: of the Lease; it must exist.
        holder: name of the extender, as in the status of plans.
        sees: whether the extender may be relied on now.
        now: wall clock, seconds since the epoch; only written.
    """

    def __init__(
        self, api: Api, *, namespace: str, holder: str, sees: Callable[[], bool], now: Callable[[], float]
    ) -> None:
        self._api = api
        self._collection = paths.leases(namespace)
        self._name = f"{EXTENDER_MANAGER}-{holder}"
        self._holder = holder
        self._sees = sees
        self._now = now
        self._last_words = ""

    async def run(self) -> None:
        """Renew until cancelled; then take the Lease away, so that nobody relies on this extender any more."""
        try:
            while True:
                sees = self._sees()
                if sees:
                    await self._beat()
                await asyncio.sleep(BEAT_SECONDS if sees else LOOK_AGAIN_SECONDS)
        finally:
            await self._leave()

    async def _beat(self) -> None:
        try:
            async with asyncio.timeout(BEAT_SECONDS):
                await self._api.apply(
                    f"{self._collection}/{self._name}", self._document(), field_manager=EXTENDER_MANAGER
                )
            self._last_words = ""
        except (ApiError, TimeoutError) as error:
            words = str(error) or "no answer in time"
            logger.log(logging.DEBUG if words == self._last_words else logging.WARNING, "%s: %s", self._name, words)
            self._last_words = words

    def _document(self) -> dict[str, Any]:
        now = dt.datetime.fromtimestamp(self._now(), dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "labels": {COMPONENT_LABEL: "extender"}},
            "spec": {"holderIdentity": self._holder, "leaseDurationSeconds": ALIVE_SECONDS, "renewTime": now},
        }

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(RELEASE_WITHIN_SECONDS):
                await self._api.delete(f"{self._collection}/{self._name}")
        except NotFound:
            return
        except (ApiError, TimeoutError) as error:
            logger.warning("lease %s stays behind: %s", self._name, error)


class Pulses:
    """The extenders that live, as one operator sees them: by its own clock, from when it saw a Lease change.

    Args:
        api: the connection.
        namespace: of the Leases.
        clock: monotonic seconds.
    """

    def __init__(self, api: Api, *, namespace: str, clock: Callable[[], float]) -> None:
        self._api = api
        self._path = paths.leases(namespace)
        self._clock = clock
        self._seen: dict[str, tuple[str, float]] = {}  # renewTime, and when it changed, by holder
        self._looked_at: float | None = None

    async def alive(self) -> frozenset[str]:
        """Holders whose Lease was renewed a moment ago; looked up twice a second at most."""
        now = self._clock()
        if self._looked_at is None or now - self._looked_at >= LOOK_AGAIN_SECONDS:
            found = await self._api.get(self._path, {"labelSelector": f"{COMPONENT_LABEL}=extender"})
            specs = [item["spec"] for item in found["items"]]
            renewed = {spec.get("holderIdentity", ""): spec.get("renewTime", "") for spec in specs}
            now = self._looked_at = self._clock()
            self._seen = {
                holder: before if (before := self._seen.get(holder)) and before[0] == time else (time, now)
                for holder, time in renewed.items()
            }
        return frozenset(holder for holder, (_, at) in self._seen.items() if now - at < ALIVE_SECONDS)
