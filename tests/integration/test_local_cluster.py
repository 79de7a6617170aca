"""The local cluster itself: what the other tests take for granted."""

from __future__ import annotations

import ssl
import time
import urllib.error
import urllib.request

import pytest

from harness.waiting import eventually
from harness.workbench import Workbench
from stowage.demo.local_cluster import LocalCluster
from stowage.demo.processes import ManagedProcess
from stowage.transport import paths
from stowage.transport.api import Api


async def test_pods_of_both_schedulers_are_bound_and_become_ready(
    workbench: Workbench, scheduler: ManagedProcess
) -> None:
    nodes = await workbench.nodes(2, cpu="4", gpus=2, zones=("a", "b"))

    await workbench.replica_set("packed", 4, gpus=1)
    await workbench.replica_set("default", 2, scheduler_name="default-scheduler")

    await workbench.until_ready("packed", 4)
    await workbench.until_ready("default", 2)
    assert await workbench.bound("packed") == dict.fromkeys(nodes, 2)
    assert scheduler.exit_code is None


async def test_a_pod_that_fits_nowhere_is_marked_unschedulable(workbench: Workbench, scheduler: ManagedProcess) -> None:
    await workbench.nodes(1, cpu="2")

    await workbench.replica_set("big", 1, cpu="3")

    [pod] = await workbench.until_unschedulable("big", 1)
    assert "Insufficient cpu" in pod["status"]["conditions"][0]["message"]
    assert scheduler.exit_code is None


async def test_a_job_runs_until_its_pod_is_told_to_succeed(workbench: Workbench) -> None:
    await workbench.nodes(1)

    await workbench.job("for-ever", scheduler_name="default-scheduler")
    finishes = {"sim.stowage.dev/ready-after": "200ms", "sim.stowage.dev/complete-after": "200ms"}
    await workbench.job("finishes", scheduler_name="default-scheduler", annotations=finishes)

    async def finished() -> bool:
        return [pod["status"]["phase"] for pod in await workbench.pods("finishes")] == ["Succeeded"]

    await eventually(finished, what="the pod has succeeded")
    await workbench.until_ready("for-ever", 1)


async def test_a_pod_can_take_its_time_to_end(api: Api, workbench: Workbench) -> None:
    await workbench.nodes(1)
    slowly = {"sim.stowage.dev/terminate-after": "2s"}
    await workbench.replica_set("slow", 1, scheduler_name="default-scheduler", annotations=slowly)
    [pod] = await workbench.until_ready("slow", 1)
    name = pod["metadata"]["name"]

    began = time.monotonic()  # noqa: TID251 - by how long it takes at least; nobody promises at most
    await api.delete(paths.pod(workbench.namespace, name))

    async def gone() -> bool:
        return all(item["metadata"]["name"] != name for item in await workbench.pods("slow"))

    await eventually(gone, what="the pod has ended")
    assert time.monotonic() - began >= 1.0  # noqa: TID251


def test_who_does_not_log_in_is_refused(cluster: LocalCluster) -> None:
    server = cluster.kubectl("config", "view", "--output=jsonpath={.clusters[0].cluster.server}")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{server}/api/v1/nodes", context=ssl._create_unverified_context())
    with refused.value as reply:
        assert reply.status == 403
