"""Links to the activators of services: each is asked how many requests wait, and answers when that changes.

An activator is its user's, as all pods of a namespace are: what it says decides about the service beside it alone, and
an answer that is too long or has another form is none.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import aiohttp
import msgspec

from stowage.api.activator_state import STATE_PATH, ActivatorState
from stowage.api.model_service import ModelService
from stowage.api.names import ACTIVATOR_COMPONENT, COMPONENT_LABEL
from stowage.decide.serving.activator_child import STATUS_PORT, activator_name
from stowage.decide.serving.hold import Held
from stowage.transport import Api, ApiError, paths
from stowage_scheduler.cluster import Pod

ASK_SECONDS: Final = 20.0
"""An activator with no news answers after so long …"""
LATE_SECONDS: Final = 5.0
"""… and is given up so much later."""
BETWEEN_SECONDS: Final = 1.0
"""From one answer to the next question: one that changes all the time is not asked all the time."""
LONGEST_BACKOFF_SECONDS: Final = 15.0
MOST_BYTES: Final = 4096
"""Of an answer."""
ADDRESSES_AT_ONCE: Final = 16
MOST_PODS: Final = 16
"""Of a service that are followed: it has one, and two while it is rolled out, but users can make pods that look so."""

Ring = Callable[[str, float], None]
Address = Callable[[str, str], Awaitable[tuple[str, int]]]
"""Finds out where a pod answers, by its namespace and name: host and port. Raises OSError when it is nowhere."""

logger = logging.getLogger(__name__)
_read: Final = msgspec.json.Decoder(ActivatorState).decode


def is_activator(service: ModelService, pod: Pod) -> bool:
    """Whether a pod that runs, with the service's name in its label, is of its activator's Deployment."""
    if pod.labels.get(COMPONENT_LABEL) != ACTIVATOR_COMPONENT:
        return False  # a role may be called activator
    made_by = f"{activator_name(service.name)}-"
    of_it = pod.owner is not None and pod.owner.kind == "ReplicaSet" and pod.owner.name.startswith(made_by)
    return of_it and not pod.finished and service.spec.scaling.scale_to_zero is not None


def address_of(api: Api, instead: str) -> Address:
    """Finds pods by the API server.

    Args:
        api: the connection.
        instead: HOST:PORT of all of them, for trying things out; empty: their own.
    """

    async def find(namespace: str, name: str) -> tuple[str, int]:
        if instead:
            host, _, port = instead.rpartition(":")
            return host, int(port)
        try:
            pod = await api.get(paths.pod(namespace, name))
        except ApiError as error:
            raise ConnectionError(f"its pod cannot be read: {error.reason}") from error
        found = (pod.get("status") or {}).get("podIP")
        if not found:
            raise ConnectionError("its pod has no address")
        return str(found), STATUS_PORT

    return find


class _Link:
    """To one pod."""

    def __init__(self) -> None:
        self.state: ActivatorState | None = None
        self.heard_at = 0.0
        self.task: asyncio.Task[None] | None = None


class Activators:
    """All links of this process, while it leads.

    Args:
        ring: told a service with news.
        address: of a pod.
        clock: seconds since 1970.
    """

    def __init__(self, ring: Ring, address: Address, clock: Callable[[], float]) -> None:
        self._ring = ring
        self._address = address
        self._clock = clock
        self._links: dict[str, dict[str, _Link]] = {}  # by key of a service, then by UID of a pod
        self._leads_since: dict[str, float] = {}
        self._places = asyncio.Semaphore(ADDRESSES_AT_ONCE)
        self._session: aiohttp.ClientSession | None = None

    def follow(self, key: str, pods: Sequence[tuple[str, str]]) -> None:
        """Keep links to these pods of a service's activator, and to no other.

        Args:
            key: of the service, `namespace/name`.
            pods: UID and name of each that is ready, or ends its requests.
        """
        pods = pods[:MOST_PODS]
        known, namespace = self._links.setdefault(key, {}), key.partition("/")[0]
        for uid in known.keys() - {uid for uid, _ in pods}:
            _end(known.pop(uid))
        for uid, name in pods:
            if uid not in known:
                link = known[uid] = _Link()
                link.task = asyncio.create_task(self._keep(link, key, namespace, name))
        if not known:
            del self._links[key]

    def led(self, key: str, *, to_activator: bool) -> None:
        """The Service under the service's own name was applied as leading there, or to the replicas."""
        if to_activator:
            self._leads_since.setdefault(key, self._clock())
        else:
            self._leads_since.pop(key, None)

    def held(self, key: str, *, is_ready: bool) -> Held:
        """What is known of a service's activator.

        Args:
            key: of the service.
            is_ready: whether a pod of it is.
        """
        links = tuple(self._links.get(key, {}).values())
        states = [one.state for one in links if one.state is not None]
        ended = [
            one.heard_at - one.state.idle_seconds for one in links if one.state and one.state.idle_seconds is not None
        ]
        return Held(
            is_ready=is_ready,
            waiting=sum(one.waiting for one in states),
            running=sum(one.running for one in states),
            idle_since=max(ended, default=None),
            heard_at=min((one.heard_at for one in links), default=None) if len(states) == len(links) else None,
            leads_since=self._leads_since.get(key),
        )

    def waiting(self) -> int:
        """Requests that wait, of all services."""
        return sum(one.state.waiting for links in self._links.values() for one in links.values() if one.state)

    def forget(self, key: str) -> None:
        """The service is gone."""
        self.follow(key, ())
        self._leads_since.pop(key, None)

    def clear(self) -> None:
        """Somebody else leads."""
        for key in list(self._links):
            self.follow(key, ())
        self._leads_since.clear()

    async def close(self) -> None:
        """End all links."""
        tasks = [one.task for links in self._links.values() for one in links.values() if one.task is not None]
        self.clear()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _keep(self, link: _Link, key: str, namespace: str, name: str) -> None:
        failures, where = 0, ""
        while True:
            try:
                if not where:
                    async with self._places:
                        host, port = await self._address(namespace, name)
                    where = (
                        f"http://[{host}]:{port}{STATE_PATH}" if ":" in host else f"http://{host}:{port}{STATE_PATH}"
                    )
                self._heard(link, key, await self._ask(where, link.state))
                failures = 0
            except (aiohttp.ClientError, msgspec.DecodeError, OSError) as error:  # TimeoutError is an OSError
                failures += 1
                if failures == 1:
                    logger.warning("service %s: its activator %s does not answer: %s", key, name, error)
            await asyncio.sleep(
                min(BETWEEN_SECONDS * 2**failures / 2 if failures else BETWEEN_SECONDS, LONGEST_BACKOFF_SECONDS)
            )

    async def _ask(self, where: str, before: ActivatorState | None) -> ActivatorState:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # `MOST_BYTES` hold what is read, whatever it could be unpacked to
                timeout=aiohttp.ClientTimeout(total=ASK_SECONDS + LATE_SECONDS, connect=LATE_SECONDS),
            )
        query = {} if before is None else {"version": str(before.version), "seconds": f"{ASK_SECONDS:g}"}
        async with self._session.get(where, params=query, allow_redirects=False) as answer:
            if answer.status != 200 or answer.content_length is None or answer.content_length > MOST_BYTES:
                raise OSError(f"status {answer.status}, {answer.content_length} bytes")
            return _read(await answer.read())

    def _heard(self, link: _Link, key: str, state: ActivatorState) -> None:
        before, link.state, link.heard_at = link.state, state, self._clock()
        if before is None or (state.waiting > 0) is not (before.waiting > 0):
            self._ring(key, 0.0)


def _end(link: _Link) -> None:
    if link.task is not None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            link.task.cancel()
