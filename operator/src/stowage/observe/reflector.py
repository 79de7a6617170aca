"""Follow one collection of the API server: list in chunks, then watch, for ever.

The method is client-go's reflector: a watch that ends or breaks resumes from the last seen version; a version that
is too old (410) and any other error inside the stream mean a new list, whose difference to what is known tells which
objects vanished unseen. Bookmarks keep the version fresh and prove that the stream is alive: one that was silent for
longer than they take is left, and a new list tells what it did not.

However long the API server is away, the reflector goes on trying; what is wrong meanwhile is its `trouble`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Generic, NamedTuple, NoReturn, TypeVar

import msgspec

from stowage.observe.trouble import Trouble, TroubleReason, trouble_of
from stowage.observe.versions import Verdict, Versions
from stowage.transport import Api, ApiError, ApiUnavailable, Forbidden, Gone, NotFound
from stowage.transport.backoff import Backoff
from stowage.transport.errors import Status
from stowage_scheduler.cluster import Rejected
from stowage_scheduler.kube.malformed import MalformedObject

CHUNK: Final = 500  # objects in one answer of a list
SHORTEST_WATCH_SECONDS: Final = 1.0  # watches that end sooner are started again no faster than this
SETTLED_SECONDS: Final = 30.0  # a watch that lived so long has worked: earlier failures no longer count
LONGEST_PAUSE_SECONDS: Final = 20.0  # so that a server that comes back is followed within half a minute
ABSENT_SECONDS: Final = 60.0  # between two looks for a collection that the server does not have
RESUME_SECONDS: Final = 2.5  # longest pause after a watch that broke and can be resumed: it asks for no list

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
        optional: without the collection, or the right to read it, there are no objects; it is looked for now and then.
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
        optional: bool = False,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.path = path
        self._api = api
        self._decode = decode
        self._on_event = on_event
        self._clock = clock
        self._query = dict(query or {})
        self._optional = optional
        self.served = True  # False while the server does not have the collection
        self._sleep = sleep
        self._backoff = Backoff(generator, limit_seconds=LONGEST_PAUSE_SECONDS)
        self._versions: Versions[ObjectKey] = Versions()
        self._synced = asyncio.Event()
        self._version = ""  # resource version to watch from; empty: list first
        self._open = False  # the server has accepted the present watch
        self._failing = False  # said already: an outage is one line for each collection, and one at its end
        self.last_event_at = clock()
        self.disconnected_since: float | None = clock()  # None while a watch is open; silence is no disconnection
        self.trouble: Trouble | None = None  # why no watch is open; None while one is, and before the first failure
        self.lists = 0  # finished lists; more than one means that a watch could not be resumed
        self.on_failure: Callable[[str], None] = lambda _: None  # told the reason of each failure
        self.repeated = 0  # events that told nothing new
        self._patience: asyncio.Timeout | None = None  # with the present watch
        self._doubt = ""
        self._moved_at = clock()
        self._pause_seconds = 0.0

    @property
    def synced(self) -> bool:
        """Whether the first list is complete."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        """Return once the first list is complete."""
        await self._synced.wait()

    def stuck_seconds(self) -> float:
        """For how long nothing happened here that should have: no answer, no failure, no event, no time-out.

        A server that is away is no reason, for each try to reach it ends. What stays is a defect of this process.
        """
        return max(0.0, self._clock() - self._moved_at - self._pause_seconds)

    def distrust(self, why: str) -> None:
        """Leave the present watch, which keeps something back, and list anew."""
        if self._patience is not None and not self._patience.expired():
            self._doubt = why
            self._patience.reschedule(asyncio.get_running_loop().time())

    async def run(self) -> None:
        """Follow the collection for ever; only cancelling or a defect of this program ends it."""
        while True:
            started = self._clock()
            self._open = False
            try:
                if not self._version:
                    self._version = await self._list()
                    self._say_served(served=True)
                    started = self._clock()
                await self._watch()
                lived_seconds = self._clock() - started
                if lived_seconds >= SETTLED_SECONDS:
                    self._backoff.reset()
                await self._pause(SHORTEST_WATCH_SECONDS - lived_seconds)
            except Gone as error:
                self._disconnected(error)
                self._version = ""
                await self._after_failure(error, started, quick=True)
            except ApiError as error:
                if self._optional and isinstance(error, NotFound | Forbidden):
                    await self._absent(error)
                    continue
                broke = self._open
                self._disconnected(error)
                if broke and trouble_of(error).reason is TroubleReason.SILENT:
                    self._version = ""  # it may have kept back for a minute what the server believes to be told
                await self._after_failure(error, started, resumes=broke and bool(self._version))

    def _moved(self) -> None:
        self._moved_at, self._pause_seconds = self._clock(), 0.0

    def _connected(self) -> None:
        self._moved()
        self._open = True
        self.disconnected_since = None
        self.trouble = None
        self.last_event_at = self._clock()  # an accepted watch is a sign of life: quiet kinds have no other for a while
        if self._failing:
            self._failing = False
            logger.info("%s: connected again", self.path)

    async def _absent(self, error: ApiError) -> None:
        """The server does not have the collection: nothing is in it, and that is all there is to know.

        The same for one that may not be read, for a server says so of those that it lacks as well. One that was there
        a moment ago is looked for sooner: while a server starts it lacks what definitions add.
        """
        had_it = self.served and self.lists > 0
        self._version = ""
        for key in sorted(self._versions.keys()):
            self._vanished(key)
        self._connected()
        self._say_served(served=False, why=" or may not be read" if isinstance(error, Forbidden) else "")
        self._synced.set()
        await self._pause(LONGEST_PAUSE_SECONDS if had_it else ABSENT_SECONDS)

    def _say_served(self, *, served: bool, why: str = "") -> None:
        if served is not self.served:
            words = "is served now" if served else f"is not served{why}; looked for every {ABSENT_SECONDS:g} s"
            logger.info("%s %s", self.path, words)
        self.served = served

    def _disconnected(self, error: ApiError) -> None:
        if self.disconnected_since is None:
            self.disconnected_since = self._clock()
        self.trouble = trouble_of(error)
        self.on_failure(self.trouble.reason.value)

    async def _after_failure(
        self, error: ApiError, started: float, *, quick: bool = False, resumes: bool = False
    ) -> None:
        """Wait as the failure asks.

        Args:
            error: the failure.
            started: when the watch began.
            quick: a watch that had worked may list again at once.
            resumes: the next try is a cheap one.
        """
        settled = self._clock() - started >= SETTLED_SECONDS
        if settled:
            self._backoff.reset()
        asked = error.retry_after_seconds
        seconds = 0.0 if quick and settled else self._backoff.next_seconds(asked)
        if resumes and asked is None:
            seconds = min(seconds, RESUME_SECONDS)
        level = logging.DEBUG if self._failing else logging.INFO if quick else logging.WARNING
        logger.log(level, "%s; again in %.1f s", error, seconds)
        self._failing = not quick
        await self._pause(seconds)

    async def _pause(self, seconds: float) -> None:
        self._moved()
        if seconds > 0:
            self._pause_seconds = seconds
            await self._sleep(seconds)
        self._moved()

    async def _list(self) -> str:
        """List all objects, tell what changed and what vanished; returns the version of the list."""
        try:
            seen, version = await self._list_chunks(CHUNK)
        except Gone:  # the token expired: one answer without chunks cannot
            seen, version = await self._list_chunks(0)
        for key in sorted(self._versions.keys() - seen):
            self._vanished(key)
        self._versions.listed(version)
        self.lists += 1
        self._synced.set()
        return version

    async def _list_chunks(self, limit: int) -> tuple[set[ObjectKey], str]:
        seen: set[ObjectKey] = set()
        query = {**self._query, "limit": str(limit)}
        while True:
            answer = self._read(_read_list, await self._api.get_bytes(self.path, query))
            self.last_event_at = self._clock()
            self._moved()
            for raw in answer.items or []:
                seen.add(self._put(raw))
            if not answer.metadata.continue_token:
                return seen, answer.metadata.resourceVersion
            query["continue"] = answer.metadata.continue_token

    async def _watch(self) -> None:
        query = {**self._query, "resourceVersion": self._version}
        try:
            async with (
                asyncio.timeout(None) as self._patience,
                contextlib.aclosing(self._api.watch(self.path, query, on_open=self._connected)) as lines,
            ):
                async for line in lines:
                    self._handle(self._read(_read_event, line))
        except TimeoutError:
            self._broken(self._doubt, reason="Timeout")
        finally:
            self._patience = None

    def _handle(self, event: _WatchEvent) -> None:
        if event.type == "ERROR":
            error = self._read(_read_status, event.object).error(f"WATCH {self.path}", http_status=500)
            self._version = ""  # whatever it was, only a new list is sure to mend it
            raise error
        self.last_event_at = self._clock()
        self._moved()
        metadata = self._read(_read_named, event.object).metadata
        if event.type == "BOOKMARK":
            if not self._versions.promised(metadata.resourceVersion):
                self._broken(f"the server went back to version {metadata.resourceVersion}")
        elif event.type in {"ADDED", "MODIFIED", "DELETED"}:
            deleted = event.type == "DELETED"
            match self._versions.judge(metadata.key, metadata.resourceVersion, deleted=deleted):
                case Verdict.REPEATED:
                    self.repeated += 1
                    return
                case Verdict.TOO_LATE:
                    self._broken(f"{metadata.key} of version {metadata.resourceVersion} came after a later bookmark")
            if deleted:
                self._vanished(metadata.key, metadata.resourceVersion)
            else:
                self._put(event.object)
        if metadata.resourceVersion:
            self._version = metadata.resourceVersion

    def _broken(self, why: str, *, reason: str = "OutOfOrder") -> NoReturn:
        """The stream keeps no promise: only a new list is sure."""
        self._version = ""
        raise ApiUnavailable(f"WATCH {self.path}", status=0, reason=reason, message=why)

    def _put(self, raw: msgspec.Raw) -> ObjectKey:
        metadata = self._read(_read_named, raw).metadata
        key = metadata.key
        try:
            event: Event[T] = Present(key, self._decode(bytes(raw)))
        except MalformedObject as error:
            event = Refused(key, error.rejected)
        self._versions.put(key, metadata.resourceVersion)
        self._on_event(event)
        return key

    def _vanished(self, key: ObjectKey, version: str = "") -> None:
        known = key in self._versions
        self._versions.drop(key, version)
        if known:
            self._on_event(Absent(key))

    def _read(self, read: Callable[[bytes | msgspec.Raw], _Read], raw: bytes | msgspec.Raw) -> _Read:
        """Decode an envelope; one that is cut or is no JSON means a broken connection, for objects pass unread."""
        try:
            return read(raw)
        except msgspec.DecodeError as error:
            self._version = ""
            raise ApiUnavailable(f"WATCH {self.path}", status=0, reason="NotJson", message=str(error)) from error
