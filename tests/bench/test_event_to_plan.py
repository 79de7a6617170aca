"""From a pod that becomes Unschedulable to the PackingPlan that helps it, with the real operator and API server.

The policy's trigger waits for nothing here; what the controller itself waits, to answer many events at once, is shown
beside it. etcd holds what a scheduler and kubelets would have written.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

from harness.instances import dump, paper_instance
from harness.large_cluster import BareCluster, bare_cluster, start_stowage
from harness.measurements import Record, at_most
from harness.plan_watch import POLICY, first_plan
from harness.process_figures import ProcessFigures, descendants
from stowage.run.controller import POLICY_DELAY_SECONDS
from stowage.transport import paths
from stowage.transport.api import Api

SEEDS = range(1, 9)
NODES, PODS_PER_NODE = 8, 4
clock = time.perf_counter


@pytest.fixture(scope="module")
def bare() -> Iterator[BareCluster]:
    """A control plane with nothing in it."""
    with bare_cluster() as found:
        yield found


def test_event_to_plan(bare: BareCluster, record: Record, tmp_path: Path) -> None:
    with start_stowage(bare, tmp_path, "operator", "--solver-workers", "1") as process:
        seconds = asyncio.run(all_seeds(bare))
        figures = ProcessFigures.of(process.pid)
        workers = [ProcessFigures.of(pid).resident_mb for pid in descendants(process.pid)]
    bench = f"event to plan, {NODES * PODS_PER_NODE} pods on {NODES} nodes"
    record(bench, "pod Unschedulable to PackingPlan, median", median(seconds), "s", rounds=seconds)
    own = median(seconds) - POLICY_DELAY_SECONDS
    record(bench, f"without the wait of {POLICY_DELAY_SECONDS:g} s for more events", own * 1e3, "ms")
    record(bench, "slowest", max(seconds), "s")
    record(bench, "memory of the operator", figures.resident_mb, "MB", target=at_most(400))
    record(bench, "memory of its solver processes", sum(workers), "MB", each=workers)
    assert len(seconds) >= len(SEEDS) / 2


async def all_seeds(bare: BareCluster) -> list[float]:
    """Seconds from event to plan, of all instances for which there is a plan."""
    async with await Api.connect(kubeconfig=str(bare.cluster.kubeconfig), user_agent="stowage-bench") as api:
        await api.create(paths.PACKING_POLICIES, POLICY)
        return [taken for seed in SEEDS if (taken := await one_seed(bare, api, seed)) is not None]


async def one_seed(bare: BareCluster, api: Api, seed: int) -> float | None:
    """Seconds from event to plan; None if no pod of the instance waits."""
    items = dump(paper_instance(NODES, PODS_PER_NODE, 1, 95, seed, placeable=True))["items"]
    waiting = [item for item in items if item["kind"] == "Pod" and "nodeName" not in item["spec"]]
    if not waiting:
        return None
    for folder in ("pods", "replicasets", "minions", "stowage.dev/packingplans"):
        await bare.forget(folder)
    await bare.load([item for item in items if item not in waiting], watched=True)
    await asyncio.sleep(2 * POLICY_DELAY_SECONDS)  # the operator has nothing left to do
    async with first_plan(api) as plan:
        started = clock()
        await bare.load(waiting, watched=True)
        seen = await plan
    return seen - started
