"""The audit of the doorbell: what the API server has, against what kopf has said.

kopf tells nobody whether its watches live. Its word is not needed: a list of metadata, twice a minute, shows what
should have rung. What did not ring for a whole period rings here, so that nothing waits for ever, and the watch that
did not tell it is deaf and must be started anew.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Mapping
from typing import Final

import msgspec

from stowage.observe.trouble import Trouble, trouble_of
from stowage.transport import Api, ApiError, NotFound
from stowage.transport.backoff import Backoff

AUDIT_SECONDS: Final = 20.0
CHUNK: Final = 500

logger = logging.getLogger(__name__)

Ring = Callable[[str, str, bool], None]
"""Told the kind of key, the name of the object and whether the object is gone."""


class _Metadata(msgspec.Struct):
    name: str
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""  # noqa: N815 - the field's name on the wire


class _Item(msgspec.Struct):
    metadata: _Metadata


class _ListMetadata(msgspec.Struct):
    continue_token: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct):
    metadata: _ListMetadata
    items: list[_Item] | None = None


_read_list = msgspec.json.Decoder(_List).decode


class Audit:
    """Compares, for each kind, what exists with what was heard.

    Args:
        api: the connection.
        collections: path of each kind's collection.
        ring: called for what the watch did not tell.
        deaf: called with a kind whose watch has missed something.
        generator: source of the jitter.
        seconds: between two audits.
        optional: kinds whose definition need not be installed; where no object was heard of, that is no trouble.
    """

    def __init__(
        self,
        api: Api,
        collections: Mapping[str, str],
        *,
        optional: Collection[str] = (),
        ring: Ring,
        deaf: Callable[[str], None],
        generator: random.Random,
        seconds: float = AUDIT_SECONDS,
    ) -> None:
        self._api = api
        self._collections = dict(collections)
        self._ring = ring
        self._deaf = deaf
        self._generator = generator
        self._seconds = seconds
        self._optional = frozenset(optional)
        self._heard: dict[str, dict[str, str]] = {kind: {} for kind in collections}
        self._waiting: dict[str, dict[str, str]] = {kind: {} for kind in collections}
        self.troubles: dict[str, Trouble] = {}  # by kind: why the server does not give a list
        self._absent: set[str] = set()  # kinds whose definition is not installed
        self.found = 0  # changes that the audit alone has told

    def heard(self, kind: str, name: str, version: str, *, gone: bool) -> None:
        """The watch told of an object: kept, to be compared with the next list."""
        heard = self._heard[kind]
        if gone:
            heard.pop(name, None)
        else:
            heard[name] = version

    async def run(self) -> None:
        """Audit all kinds for ever."""
        async with asyncio.TaskGroup() as group:
            for kind in self._collections:
                group.create_task(self._follow(kind), name=f"audit of {kind}")

    async def _follow(self, kind: str) -> None:
        backoff = Backoff(self._generator, limit_seconds=self._seconds)
        while True:
            pause_seconds = self._seconds * self._generator.uniform(0.9, 1.1)
            try:
                versions = await self._versions(self._collections[kind])
            except ApiError as error:
                if isinstance(error, NotFound) and kind in self._optional and not self._heard[kind]:
                    self._not_installed(kind)
                    await asyncio.sleep(pause_seconds)
                    continue
                pause_seconds = backoff.next_seconds(error.retry_after_seconds)
                known, now = self.troubles.get(kind), trouble_of(error)
                logger.log(logging.DEBUG if known and known.reason is now.reason else logging.WARNING, "%s", error)
                self.troubles[kind] = now
            else:
                backoff.reset()
                self._absent.discard(kind)
                if self.troubles.pop(kind, None) is not None:
                    logger.info("%s: answered again", self._collections[kind])
                self._compare(kind, versions)
            await asyncio.sleep(pause_seconds)

    def _not_installed(self, kind: str) -> None:
        self.troubles.pop(kind, None)
        if kind not in self._absent:
            self._absent.add(kind)
            logger.warning("%s: the definition is not installed, so there are none", self._collections[kind])

    async def _versions(self, path: str) -> dict[str, str]:
        found: dict[str, str] = {}
        query = {"limit": str(CHUNK)}
        while True:
            answer = _read_list(await self._api.get_bytes(path, query, metadata_only=True))
            found |= {_full_name(item.metadata): item.metadata.resourceVersion for item in answer.items or []}
            if not answer.metadata.continue_token:
                return found
            query["continue"] = answer.metadata.continue_token

    def _compare(self, kind: str, versions: Mapping[str, str]) -> None:
        """Ring what the watch has had a whole period to tell, and has not."""
        heard, waiting = self._heard[kind], self._waiting[kind]
        unheard = {name: version for name, version in versions.items() if _newer(version, heard.get(name))}
        gone = {name: "" for name in heard if name not in versions}
        late = [name for name, version in (unheard | gone).items() if waiting.get(name) == version]
        self._waiting[kind] = {name: version for name, version in (unheard | gone).items() if name not in late}
        for name in late:
            logger.warning("%s %s changed unheard", kind, name)
            self.found += 1
            self.heard(kind, name, versions.get(name, ""), gone=name in gone)
            self._ring(kind, name, name in gone)
        if late:
            self._deaf(kind)


def _full_name(metadata: _Metadata) -> str:
    return f"{metadata.namespace}/{metadata.name}" if metadata.namespace else metadata.name


def _newer(version: str, heard: str | None) -> bool:
    if heard is None:
        return True
    if version.isdecimal() and heard.isdecimal():
        return int(version) > int(heard)
    return version != heard
