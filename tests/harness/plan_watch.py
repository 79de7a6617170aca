"""When a PackingPlan appears, and a policy that waits for nothing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

from stowage.transport import paths
from stowage.transport.api import Api

AT_ONCE = {"quiet": "0s", "longest": "0s", "unschedulableFor": "0s"}
POLICY: dict[str, Any] = {
    "apiVersion": "stowage.dev/v1alpha1",
    "kind": "PackingPolicy",
    "metadata": {"name": "bench"},
    "spec": {"mode": "Recommend", "trigger": AT_ONCE, "disruption": {"minPodAge": "0s", "ownerSettled": "0s"}},
}

clock = time.perf_counter


@contextlib.asynccontextmanager
async def first_plan(api: Api) -> AsyncIterator[asyncio.Task[float]]:
    """A task that ends when a plan is created, with the time of that."""
    version = (await api.get(paths.PACKING_PLANS))["metadata"]["resourceVersion"]
    opened = asyncio.Event()

    async def look() -> float:
        query: dict[str, Any] = {"resourceVersion": version}
        async with contextlib.aclosing(api.watch(paths.PACKING_PLANS, query, on_open=opened.set)) as lines:
            async for line in lines:
                if b'"ADDED"' in line[:40]:
                    return clock()
        raise AssertionError("no plan while the watch lasted")

    task = asyncio.create_task(look())
    await opened.wait()
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
