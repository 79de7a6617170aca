"""Following 5,000 nodes and 50,000 pods of a real API server: how soon, with how much memory.

`operator` and `extender` are the real processes. CPU seconds are theirs alone, wall seconds are shared with etcd, the
API server and whatever else the machine does.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import aiohttp
import pytest

from harness.large_cluster import BareCluster, bare_cluster
from harness.large_objects import LargeCluster
from harness.measurements import Record, at_most
from harness.process_figures import ProcessFigures
from harness.waiting import eventually
from stowage.demo.processes import ManagedProcess, free_port
from stowage.transport import paths
from stowage.transport.api import Api

OBJECTS = LargeCluster(nodes=5_000, pods=50_000, pending=50)
SIZE = {"nodes": OBJECTS.nodes, "pods": OBJECTS.pods}
CHANGED_PODS = 2_000
START_SECONDS = 120.0
LOOK_SECONDS = 0.5
AT_REST = 0.05  # of a processor

clock = time.perf_counter


@pytest.fixture(scope="module")
def large() -> Iterator[BareCluster]:
    """The cluster, loaded, and its API server at rest."""
    with bare_cluster(f"stowage-bench-{os.getpid()}") as bare:
        asyncio.run(fill(bare))
        yield bare


async def fill(bare: BareCluster) -> None:
    """Write all objects, and wait until the API server has read them all into its cache."""
    await bare.load(chain(OBJECTS.workload_documents(), OBJECTS.node_documents(), OBJECTS.pod_documents()))
    async with await Api.connect(kubeconfig=str(bare.cluster.kubeconfig), user_agent="stowage-bench") as api:

        async def cached() -> bool:
            # version 0: from the cache of the API server, however old
            listed = await api.get(paths.PODS, {"limit": "1", "resourceVersion": "0"})
            return len(listed["items"]) + int(listed["metadata"].get("remainingItemCount", 0)) >= OBJECTS.pods

        await eventually(cached, timeout_seconds=START_SECONDS, what="the API server has all pods")


def start(bare: BareCluster, folder: Path, command: str, *arguments: str) -> tuple[ManagedProcess, int]:
    """Start a process of Stowage; it and its port for health and metrics."""
    port = free_port()
    process = ManagedProcess.start(
        command,
        [sys.executable, "-m", "stowage.cli", command, "--metrics-port", str(port), *arguments],
        folder=bare.cluster.folder,
        logs=folder,
        environment=bare.cluster.environment,
    )
    return process, port


@pytest.mark.parametrize(
    ("command", "arguments", "seconds", "megabytes"),
    [
        pytest.param("operator", ("--solver-workers", "1"), 20, 400, id="operator"),
        pytest.param("extender", ("--port", "0"), 20, 400, id="extender"),
    ],
)
def test_following(
    large: BareCluster,
    record: Record,
    tmp_path: Path,
    command: str,
    arguments: tuple[str, ...],
    seconds: float,
    megabytes: float,
) -> None:
    started = clock()
    process, port = start(large, tmp_path, command, *arguments)
    with process:
        process.wait_until_serving(f"http://127.0.0.1:{port}/readyz", timeout_seconds=START_SECONDS)
        ready_seconds = clock() - started
        synced = ProcessFigures.of(process.pid)
        stormy_seconds, after = asyncio.run(storm(large, process.pid, port))
    bench = f"{command}, 5,000 nodes and 50,000 pods"
    soon = record(bench, "start to synchronised", ready_seconds, "s", target=at_most(seconds), **SIZE)
    record(bench, "CPU until synchronised", synced.cpu_seconds, "s")
    small = record(bench, "memory, synchronised", synced.resident_mb, "MB", target=at_most(megabytes))
    record(bench, "memory, peak", after.peak_mb, "MB", target=at_most(megabytes))
    record(bench, "CPU per changed pod", (after.cpu_seconds - synced.cpu_seconds) / CHANGED_PODS * 1e6, "µs")
    record(bench, "changed pods followed", CHANGED_PODS / stormy_seconds, "pods/s")
    assert soon.met
    assert small.met


async def storm(bare: BareCluster, pid: int, port: int) -> tuple[float, ProcessFigures]:
    """Change many pods at once; the seconds until the process has nothing left to do, and its figures then."""
    started = clock()
    await bare.load((OBJECTS.pod(number, ready=False) for number in range(CHANGED_PODS)), watched=True)
    before = ProcessFigures.of(pid)
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        now = ProcessFigures.of(pid)
        if now.cpu_seconds - before.cpu_seconds <= AT_REST * LOOK_SECONDS:
            break
        before = now
    lasted = clock() - started - LOOK_SECONDS
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/readyz") as response:
        assert response.status == 200
    await bare.load((OBJECTS.pod(number) for number in range(CHANGED_PODS)), watched=True)
    return lasted, now
