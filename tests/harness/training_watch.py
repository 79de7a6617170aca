"""What a watch of all TrainingJobs has told: the latest of each, and when each first had an epoch or a phase."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from stowage.transport import ApiError, paths
from stowage.transport.api import Api

PAUSE_SECONDS = 0.2

clock = time.perf_counter


@dataclass
class Watched:
    """Jobs by name.

    Attributes:
        status: the latest of each.
        epochs: when an epoch was first seen in a status, by (job, epoch).
        ended: when a job was first seen to have ended.
        writes: changes of any job that were seen.
    """

    status: dict[str, dict[str, Any]] = field(default_factory=dict)
    epochs: dict[tuple[str, int], float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    writes: int = 0

    def phase(self, job: str) -> str:
        """The phase of a job."""
        return str(self.status.get(job, {}).get("phase", ""))

    def take(self, document: dict[str, Any]) -> None:
        """One job as it is now."""
        name, status = document["metadata"]["name"], document.get("status", {})
        self.status[name] = status
        self.epochs.setdefault((name, status.get("epoch", 0)), clock())
        if "finishedAt" in status:
            self.ended.setdefault(name, clock())


@contextlib.asynccontextmanager
async def watched_jobs(api: Api, namespace: str) -> AsyncIterator[Watched]:
    """The jobs of a namespace, watched while the block lasts."""
    watched, path = Watched(), paths.in_namespace(paths.TRAINING_JOBS, namespace)
    opened = asyncio.Event()

    async def follow() -> None:
        while True:
            with contextlib.suppress(ApiError):  # a definition that was just made is not served yet
                listed = await api.get(path)
                for item in listed["items"]:
                    watched.take(item)
                query = {"resourceVersion": listed["metadata"]["resourceVersion"], "allowWatchBookmarks": "false"}
                async with contextlib.aclosing(api.watch(path, query, on_open=opened.set)) as lines:
                    async for line in lines:
                        event = msgspec.json.decode(line)
                        if event["type"] in {"ADDED", "MODIFIED"}:
                            watched.writes += 1
                            watched.take(event["object"])
            await asyncio.sleep(PAUSE_SECONDS)

    task = asyncio.create_task(follow())
    await opened.wait()
    try:
        yield watched
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
