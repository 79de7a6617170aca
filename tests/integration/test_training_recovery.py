"""Recovery of TrainingJobs on a real control plane: nodes that die with their pods, and nodes that are tainted."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from harness.coordinator import FakeCoordinator
from harness.training_job import Job
from harness.waiting import eventually
from harness.workbench import Document, Workbench
from stowage.transport import paths

STUCK = "example.com/stuck"
SILENT = "sim.stowage.dev/silent"
UNHEALTHY = {"key": "stowage.dev/unhealthy", "effect": "NoSchedule"}


@pytest.fixture
async def job(workbench: Workbench, coordinator: FakeCoordinator) -> AsyncIterator[Job]:  # noqa: ARG001 - runs beside
    await workbench.nodes(3, cpu="8", labels={"story": workbench.namespace})
    made = Job(workbench)
    yield made
    await made.delete()


async def silence(bench: Workbench, node: str) -> None:
    """Its kubelet reports no more, and the control plane has noticed."""
    path = paths.node(node)
    await bench.api.merge_patch(path, {"metadata": {"annotations": {SILENT: "true"}}})
    found = (await bench.api.get(path))["status"]["conditions"]
    lost = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "silent"}
    conditions = [*(one for one in found if one["type"] != "Ready"), lost]
    await bench.api.merge_patch(path + "/status", {"status": {"conditions": conditions}})


def seat(status: Document, name: str) -> Document:
    found: Document = next(one for one in status["seats"] if one["seat"] == name)
    return found


async def test_a_dead_node_whose_pod_does_not_go_holds_nobody(job: Job, coordinator: FakeCoordinator) -> None:
    await job.apply()
    status = await job.until("Running", epoch=1)
    old = paths.pod(job.bench.namespace, "tiny-s1-1")
    finalizers = (await job.bench.api.get(old))["metadata"]["finalizers"]
    await job.bench.api.merge_patch(old, {"metadata": {"finalizers": [*finalizers, STUCK]}})
    dead = seat(status, "s1")["node"]
    await silence(job.bench, dead)
    coordinator.loses("s1", at=time.time())  # noqa: TID251 - as the operator's clock has it
    status = await job.until("Running", epoch=2)
    assert (seat(status, "s0")["attempt"], seat(status, "s1")["attempt"]) == (1, 2)
    assert seat(status, "s1")["node"] != dead
    assert coordinator.begun[-1].seats == tuple(status["members"])

    async def let_go() -> bool:
        metadata = (await job.bench.api.get(old))["metadata"]
        assert metadata["finalizers"] == [STUCK], "it is counted"
        assert metadata["deletionGracePeriodSeconds"] == 0, "nobody waits for its kubelet"
        return True

    await eventually(let_go, what="the old pod is deleted by force")
    await job.bench.api.merge_patch(old, {"metadata": {"finalizers": None}})


async def test_a_node_that_nobody_should_use_is_tainted_once_and_an_admin_has_the_last_word(job: Job) -> None:
    """The status says so, whoever wrote it: an operator that was killed before it acted included."""
    await job.apply(nodes=1)
    status = await job.until("Running", epoch=1)
    api, node = job.bench.api, seat(status, "s0")["node"]

    async def said(at: str) -> None:
        bad = {"node": node, "at": at, "reason": "DeviceUnhealthy (nvidia.com/gpu/0)", "cordon": True}
        await api.merge_patch(job.path + "/status", {"status": {"avoidedNodes": [bad]}})

    async def taints() -> list[Document]:
        return (await api.get(paths.node(node)))["spec"].get("taints") or []

    async def tainted() -> bool:
        return UNHEALTHY in await taints()

    await said("2026-01-01T10:00:00Z")
    await eventually(tainted, what="the node is tainted")
    annotations = (await api.get(paths.node(node)))["metadata"]["annotations"]
    assert f"{job.bench.namespace}/tiny: DeviceUnhealthy" in annotations["stowage.dev/unhealthy-reason"]
    pods = await job.pods()
    assert not any(pod["metadata"].get("deletionTimestamp") for pod in pods.values()), "who runs there may stay"

    await api.merge_patch(paths.node(node), {"spec": {"taints": None}})
    await said("2026-01-01T10:00:01Z")
    await eventually(tainted, what="it failed again, and is tainted again")
    await api.merge_patch(paths.node(node), {"spec": {"taints": None}})
    resumed = (await job.status())["epoch"]
    await job.set_spec(recovery={"spares": 1})

    async def has_a_spare() -> bool:
        return len((await job.status())["seats"]) > 1

    await eventually(has_a_spare, what="the operator has looked at the job once more")
    assert await taints() == []
    assert (await job.status())["epoch"] == resumed
