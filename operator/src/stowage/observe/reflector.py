"""Follow one collection of the API server: list in chunks, then watch, for ever.

The method is client-go's reflector: a watch that ends or breaks resumes from the last seen version; a version that
is too old (410) and any other error inside the stream mean a new list, whose difference to what is known tells which
objects vanished unseen. Bookmarks keep the version fresh and prove that the stream is alive.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Generic, NamedTuple, TypeVar

import msgspec

from stowage.transport import Api, ApiError, ApiUnavailable, Gone
from stowage.transport.backoff import Backoff
from stowage.transport.errors import Status
from stowage_scheduler.cluster import Rejected
from stowage_scheduler.kube.malformed import MalformedObject

CHUNK: Final = 500  # objects in one answer of a list
SHORTEST_WATCH_SECONDS: Final = 1.0  # watches that end sooner are started again no faster than this
SETTLED_SECONDS: Final = 30.0  # a watch that lived so long has worked: earlier failures no longer count

logger = logging.getLogger(__name__)

T = TypeVar("T")
_Read = TypeVar("_Read")


class ObjectKey(NamedTuple):
    """Identity of an object within its collection; no namespace: the object is cluster-scoped."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class Present(msgspec.Struct, Generic[T], frozen=True):
    """The object exists and looks like this now."""

    key: ObjectKey
    fact: T


class Refused(msgspec.Struct, frozen=True):
    """The object exists but makes no sense: whatever was known of it no longer holds."""

    key: ObjectKey
    rejected: Rejected


class Absent(msgspec.Struct, frozen=True):
    """The object is gone."""

    key: ObjectKey


Event = Present[T] | Refused | Absent


class _Metadata(msgspec.Struct):
    name: str = ""
    namespace: str = ""
    resourceVersion: str = ""  # noqa: N815 - the field's name on the wire

    @property
    def key(self) -> ObjectKey:
        return ObjectKey(self.namespace, self.name)


class _Named(msgspec.Struct):
    metadata: _Metadata


class _ListMetadata(msgspec.Struct):
    resourceVersion: str = ""  # noqa: N815
    continue_token: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct):
    metadata: _ListMetadata
    items: list[msgspec.Raw] | None = None


class _WatchEvent(msgspec.Struct):
    type: str
    object: msgspec.Raw


_read_list = msgspec.json.Decoder(_List).decode
_read_event = msgspec.json.Decoder(_WatchEvent).decode
_read_named = msgspec.json.Decoder(_Named).decode
_read_status = msgspec.json.Decoder(Status).decode


class Reflector(Generic[T]):
    """Keeps a listener in step with one collection.

    Args:
        api: the connection.
        path: path of the collection.
        decode: from the bytes of one object to its fact; raises `MalformedObject` for objects that make no sense.
        on_event: called in order for each change; must not block.
        clock: monotonic seconds.
        generator: source of the back-off's jitter.
        query: further query parameters, such as a field selector.
        sleep: waits for some seconds; tests replace it.
    """

    def __init__(
        self,
        api: Api,
        path: str,
        *,
        decode: Callable[[bytes], T],
        on_event: Callable[[Event[T]], None],
        clock: Callable[[], float],
        generator: random.Random,
        query: Mapping[str, str] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.path = path
        self._api = api
        self._decode = decode
        self._on_event = on_event
        self._clock = clock
        self._query = dict(query or {})
        self._sleep = sleep
        self._backoff = Backoff(generator)
        self._known: set[ObjectKey] = set()
        self._synced = asyncio.Event()
        self._version = ""  # resource version to watch from; empty: list first
        self._failing = False  # said already: an outage is one line for each collection, and one at its end
        self.last_event_at = clock()
        self.disconnected_since: float | None = clock()  # None while a watch is open; silence is no disconnection
        self.lists = 0  # finished lists; more than one means that a watch could not be resumed

    @property
    def synced(self) -> bool:
        """Whether the first list is complete."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        """Return once the first list is complete."""
        await self._synced.wait()

    async def run(self) -> None:
        """Follow the collection for ever; only cancelling or a defect of this program ends it."""
        while True:
            started = self._clock()
            try:
                if not self._version:
                    self._version = await self._list()
                    started = self._clock()
                await self._watch()
                lived_seconds = self._clock() - started
                if lived_seconds >= SETTLED_SECONDS:
                    self._backoff.reset()
                await self._pause(SHORTEST_WATCH_SECONDS - lived_seconds)
            except Gone as error:
                self._disconnected()
                self._version = ""
                await self._after_failure(error, started, quick=True)
            except ApiError as error:
                self._disconnected()
                await self._after_failure(error, started)

    def _connected(self) -> None:
        self.disconnected_since = None
        self.last_event_at = self._clock()  # an accepted watch is a sign of life: quiet kinds have no other for a while
        if self._failing:
            self._failing = False
            logger.info("%s: connected again", self.path)

    def _disconnected(self) -> None:
        if self.disconnected_since is None:
            self.disconnected_since = self._clock()

    async def _after_failure(self, error: ApiError, started: float, *, quick: bool = False) -> None:
        """Wait as the failure asks; `quick`: a watch that had worked may list again at once."""
        settled = self._clock() - started >= SETTLED_SECONDS
        if settled:
            self._backoff.reset()
        seconds = 0.0 if quick and settled else self._backoff.next_seconds(error.retry_after_seconds)
        level = logging.DEBUG if self._failing else logging.INFO if quick else logging.WARNING
        logger.log(level, "%s; again in %.1f s", error, seconds)
        self._failing = not quick
        await self._pause(seconds)

    async def _pause(self, seconds: float) -> None:
        if seconds > 0:
            await self._sleep(seconds)

    async def _list(self) -> str:
        """List all objects, tell what changed and what vanished; returns the version of the list."""
        try:
            seen, version = await self._list_chunks(CHUNK)
        except Gone:  # the token expired: one answer without chunks cannot
            seen, version = await self._list_chunks(0)
        for key in sorted(self._known - seen):
            self._tell(Absent(key))
        self.lists += 1
        self._synced.set()
        return version

    async def _list_chunks(self, limit: int) -> tuple[set[ObjectKey], str]:
        seen: set[ObjectKey] = set()
        query = {**self._query, "limit": str(limit)}
        while True:
            answer = self._read(_read_list, await self._api.get_bytes(self.path, query))
            self.last_event_at = self._clock()
            for raw in answer.items or []:
                seen.add(self._put(raw))
            if not answer.metadata.continue_token:
                return seen, answer.metadata.resourceVersion
            query["continue"] = answer.metadata.continue_token

    async def _watch(self) -> None:
        query = {**self._query, "resourceVersion": self._version}
        async with contextlib.aclosing(self._api.watch(self.path, query, on_open=self._connected)) as lines:
            async for line in lines:
                self._handle(self._read(_read_event, line))

    def _handle(self, event: _WatchEvent) -> None:
        if event.type == "ERROR":
            error = self._read(_read_status, event.object).error(f"WATCH {self.path}", http_status=500)
            self._version = ""  # whatever it was, only a new list is sure to mend it
            raise error
        self.last_event_at = self._clock()
        metadata = self._read(_read_named, event.object).metadata
        if event.type == "DELETED":
            self._tell(Absent(metadata.key))
        elif event.type in {"ADDED", "MODIFIED"}:
            self._put(event.object)
        if metadata.resourceVersion:
            self._version = metadata.resourceVersion

    def _put(self, raw: msgspec.Raw) -> ObjectKey:
        key = self._read(_read_named, raw).metadata.key
        try:
            event: Event[T] = Present(key, self._decode(bytes(raw)))
        except MalformedObject as error:
            event = Refused(key, error.rejected)
        self._tell(event)
        return key

    def _tell(self, event: Event[T]) -> None:
        if isinstance(event, Absent):
            if event.key not in self._known:
                return
            self._known.discard(event.key)
        else:
            self._known.add(event.key)
        self._on_event(event)

    def _read(self, read: Callable[[bytes | msgspec.Raw], _Read], raw: bytes | msgspec.Raw) -> _Read:
        """Decode an envelope; one that is cut or is no JSON means a broken connection, for objects pass unread."""
        try:
            return read(raw)
        except msgspec.DecodeError as error:
            self._version = ""
            raise ApiUnavailable(f"WATCH {self.path}", status=0, reason="NotJson", message=str(error)) from error
