"""A log of what became of objects, change by change, taken straight from the API server."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from stowage.transport import Api, ApiUnavailable

Document = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """One event of a watch: ADDED (also what was there at the start), MODIFIED or DELETED, and the object then."""

    type: str
    object: Document

    @property
    def version(self) -> str:
        """The resourceVersion."""
        return str(self.object["metadata"]["resourceVersion"])


@dataclass
class WatchLog:
    """All changes of one collection, in the order of the API server."""

    changes: list[Change] = field(default_factory=list)

    @property
    def objects(self) -> list[Document]:
        """The objects as they are after the last change, by UID."""
        now: dict[str, Document] = {}
        for change in self.changes:
            uid = change.object["metadata"]["uid"]
            if change.type == "DELETED":
                now.pop(uid, None)
            else:
                now[uid] = change.object
        return list(now.values())


@contextlib.asynccontextmanager
async def watch_log(api: Api, path: str) -> AsyncIterator[WatchLog]:
    """Follows a collection until the end of the block; no change is missed, for a lost watch goes on where it ended."""
    log = WatchLog()
    listed = await api.get(path)
    log.changes += [Change("ADDED", item) for item in listed["items"]]
    following = asyncio.create_task(_follow(api, path, listed["metadata"]["resourceVersion"], log))
    try:
        yield log
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


async def _follow(api: Api, path: str, version: str, log: WatchLog) -> None:
    while True:
        with contextlib.suppress(ApiUnavailable):
            async with contextlib.aclosing(api.watch(path, {"resourceVersion": version})) as stream:
                async for line in stream:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise RuntimeError(f"watch of {path}: {event['object']}")
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        log.changes.append(Change(event["type"], event["object"]))
