"""Stowage's extender beside the scheduler of the control plane itself: pods need no name of a scheduler."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from harness.waiting import eventually
from harness.workbench import Workbench
from kind_cluster import KindCluster
from release import Release
from scene import SLOWLY_SECONDS, Scene
from stowage.transport.api import Api

ADDRESS = "10.96.89.0"  # as in clusters/scheduler/config.yaml


@pytest.fixture(scope="session")
def cluster(start_cluster: Callable[[str], KindCluster]) -> KindCluster:
    """Its scheduler asks an extender."""
    return start_cluster("extender")


@pytest.fixture(scope="session")
def installed(cluster: KindCluster, image: str) -> Release:
    """The chart with an extender for that scheduler."""
    release = Release(cluster, image)
    extender = {"enabled": True, "clusterIP": ADDRESS, "holder": cluster.control_plane}
    release.install(controlPlaneExtender=extender, packing__defaultPolicy__enabled=False)
    return release


@pytest.fixture
async def api(cluster: KindCluster) -> AsyncIterator[Api]:
    async with await Api.connect(kubeconfig=str(cluster.kubeconfig), user_agent="stowage-e2e") as connected:
        yield connected


async def restart_scheduler(cluster: KindCluster) -> None:
    """Let it connect anew: its connection may be from before the Service was there, to whoever answered then."""

    def leader() -> str:
        lease = cluster.get("lease", "kube-scheduler", "--namespace", "kube-system")
        return str(lease["spec"].get("holderIdentity") or "")

    before = leader()
    cluster.kill(cluster.control_plane, "kube-scheduler")

    async def another() -> bool:
        return leader() not in {"", before}

    await eventually(another, timeout_seconds=SLOWLY_SECONDS, what="the scheduler leads again")


async def test_the_large_pod_gets_its_place(release: Release, workbench: Workbench, cluster: KindCluster) -> None:
    await restart_scheduler(cluster)
    scene = Scene(workbench, cluster)
    scene.scheduler_name, scene.steering = "default-scheduler", "Extender"
    await scene.begin()
    plan = await scene.plan_in("Done", timeout_seconds=SLOWLY_SECONDS)
    await scene.until_packed()
    assert [seen["holder"] for seen in plan["status"]["extenders"]] == [cluster.control_plane]
    assert release.restarts() == {}
