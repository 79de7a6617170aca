"""What follows the API server in a test's own process, by the fault proxy, and how to wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from faults.proxy import FaultProxy
from faults.script import Match
from harness.waiting import eventually
from stowage.observe.reflector import Reflector
from stowage.observe.store import Store
from stowage.transport import Api, paths

POD_WATCH = Match(path=f"^{paths.PODS}$", verbs=frozenset({"watch"}))
POD_LIST = Match(path=f"^{paths.PODS}$", verbs=frozenset({"list"}))
CLASS_WATCH = Match(path=f"^{paths.PRIORITY_CLASSES}$", verbs=frozenset({"watch"}))
CLASS_LIST = Match(path=f"^{paths.PRIORITY_CLASSES}$", verbs=frozenset({"list"}))

monotonic = time.monotonic  # noqa: TID251


class Follower:
    """A store that follows the cluster; times are those of `monotonic`."""

    def __init__(self, api: Api) -> None:
        self.store = Store(now=time.time)  # noqa: TID251
        self.reflectors: Mapping[str, Reflector[Any]] = self.store.reflectors(
            api, clock=monotonic, generator=random.Random(1)
        )
        self.changes: list[tuple[str, str]] = []
        self.store.subscribe(lambda kind, key: self.changes.append((kind, key)))

    @property
    def classes(self) -> Reflector[Any]:
        """The reflector of PriorityClasses: objects that need nobody else to come and go."""
        return self.reflectors["PriorityClass"]

    def lists(self) -> dict[str, int]:
        """Finished lists by kind, of the kinds that the server has."""
        return {kind: count for kind, count in self.store.lists().items() if self.reflectors[kind].served}

    def class_names(self) -> set[str]:
        """The PriorityClasses that are known."""
        return {one.name for one in self.store.snapshot(0.0).priority_classes}


@contextlib.asynccontextmanager
async def following(proxy: FaultProxy, folder: Path, *, silence_seconds: float = 70.0) -> AsyncIterator[Follower]:
    """A store that follows the cluster by the proxy, in step with it at the start."""
    async with await Api.connect(kubeconfig=str(proxy.kubeconfig(folder)), user_agent="stowage-test/1") as api:
        api.silence_seconds = silence_seconds
        follower = Follower(api)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(reflector.run()) for reflector in follower.reflectors.values()]
            await asyncio.wait_for(follower.store.wait_synced(), 30)
            # lists are complete before the watches are open; of a collection that is not served there is none
            await until(lambda: len(proxy.watches()) == len(follower.lists()), "all watches are open")
            yield follower
            for task in tasks:
                task.cancel()


async def until(truth: Callable[[], object], what: str, timeout_seconds: float = 30.0) -> float:
    """Waits until something is true; the seconds that it took."""
    started = monotonic()

    async def condition() -> bool:
        return bool(truth())

    await eventually(condition, what=what, timeout_seconds=timeout_seconds)
    return monotonic() - started
