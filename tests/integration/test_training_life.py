"""The life of TrainingJobs on a real control plane: sizes, suspension, ends, places, and strict namespaces."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from harness.coordinator import FakeCoordinator
from harness.story import Story
from harness.training_job import Job
from harness.waiting import eventually
from harness.workbench import Document, Workbench
from stowage.demo.processes import ManagedProcess
from stowage.transport import paths
from stowage.transport.errors import NotFound

LARGE: Document = {
    "name": "trainer",
    "image": "train:1",
    "command": ["python3", "train.py"],
    "resources": {"limits": {"cpu": "5", "memory": "1Gi"}},
}
"""One fits on a node."""
RESTRICTED = "pod-security.kubernetes.io/enforce"


@pytest.fixture
async def job(workbench: Workbench, coordinator: FakeCoordinator) -> AsyncIterator[Job]:  # noqa: ARG001 - runs beside
    for rack in ("a", "b"):
        await workbench.nodes(2, cpu="8", labels={"story": workbench.namespace, "rack": rack})
    made = Job(workbench)
    yield made
    await made.delete()  # while the operator lets its pods go


async def test_its_size_follows_kubectl_scale_without_a_stop_before_the_new_pods_can_begin(
    job: Job, coordinator: FakeCoordinator
) -> None:
    await job.apply(nodes={"min": 2, "max": 4, "target": 2}, elastic={"cooldown": "0s"})
    await job.until("Running", epoch=1)
    await job.bench.api.merge_patch(f"{job.path}/scale", {"spec": {"replicas": 3}})
    pods = await job.until_pods("tiny-s0-1", "tiny-s1-1", "tiny-s2-2")
    assert [begin.epoch for begin in coordinator.begun] == [1]
    coordinator.waiting = {"s2": pods["tiny-s2-2"]["metadata"]["uid"]}
    coordinator.tell("Running", step=5)
    status = await job.until("Running", epoch=2)
    begin = coordinator.begun[-1]
    assert set(begin.seats) == {"s0", "s1", "s2"}
    assert begin.yield_first_seconds > 0, "the ranks stop at a step boundary"
    assert (status["nodes"]["desired"], status["sizing"]["reason"]) == (3, "Joined")
    assert "restarts" not in status or not status["restarts"], "nothing failed"

    await job.bench.api.merge_patch(f"{job.path}/scale", {"spec": {"replicas": 2}})
    status = await job.until("Running", epoch=3)
    assert len(coordinator.begun[-1].seats) == 2
    await job.until_pods(*(f"tiny-{seat['seat']}-{seat['attempt']}" for seat in status["seats"]))
    scale = await job.bench.api.get(f"{job.path}/scale")
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (2, 2)
    assert "stowage.dev/job=tiny" in scale["status"]["selector"]


async def test_a_job_goes_on_with_fewer_nodes_when_none_replaces_a_lost_one(
    job: Job, coordinator: FakeCoordinator
) -> None:
    await job.apply(nodes={"min": 2, "max": 4}, pod={"containers": [LARGE]}, elastic={"cooldown": "0s"})
    status = await job.until("Running", epoch=1)
    assert status["nodes"]["desired"] == 4, "there is room for four on four nodes"
    await job.set_spec(elastic={"shrinkAfter": "1s"})  # not before: a scheduler may take as long for the first pods
    lost = status["seats"][-1]
    await job.bench.api.merge_patch(paths.node(lost["node"]), {"spec": {"unschedulable": True}})
    await job.bench.api.delete(paths.pod(job.bench.namespace, f"tiny-{lost['seat']}-{lost['attempt']}"))
    status = await job.until("Running", epoch=2)
    assert len(coordinator.begun[-1].seats) == 3
    assert status["sizing"]["reason"] == "NodesMissing"
    assert "4 to 3 nodes" in status["sizing"]["message"]


async def test_made_suspended_it_has_nothing_until_it_is_resumed(job: Job, coordinator: FakeCoordinator) -> None:
    await job.apply(suspend=True, queueName="team-a")
    status = await job.until("Suspended")
    assert (status["epoch"], await job.pods()) == (0, {})
    suspended = next(one for one in status["conditions"] if one["type"] == "Suspended")
    assert (suspended["status"], suspended["reason"]) == ("True", "Suspended")
    await job.set_spec(suspend=False)
    await job.until("Running", epoch=1)
    assert coordinator.begun[-1].attempt == 1
    for pod in (await job.pods()).values():
        assert pod["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
        assert pod["metadata"]["annotations"]["kueue.x-k8s.io/pod-group-total-count"] == "2"


async def test_a_paused_job_keeps_its_state_and_goes_on_by_suspend(job: Job, coordinator: FakeCoordinator) -> None:
    await job.apply(recovery={"rules": [{"when": {"exitCodes": [42]}, "do": "Pause", "message": "look at the data"}]})
    await job.until("Running", epoch=1)
    coordinator.fails("s1", at=time.time(), code=42)  # noqa: TID251 - as the operator's clock has it
    status = await job.until("Paused")
    assert "look at the data" in status["message"]
    await job.until_pods()
    await job.set_spec(suspend=True)
    await job.until("Suspended")
    await job.set_spec(suspend=False)
    status = await job.until("Running")
    assert (status["attempt"], len(status["recoveries"])) == (2, 1), "what happened is not forgotten"


async def test_a_finished_job_is_deleted_after_its_time_to_live_with_all_that_it_owns(
    job: Job, coordinator: FakeCoordinator
) -> None:
    high = await job.bench.priority_class(f"high-{job.bench.namespace}", 1000)
    await job.apply(ttlAfterFinished="0s", pod={"priorityClassName": high})
    await job.until("Running", epoch=1)
    assert {pod["spec"]["priority"] for pod in await job.bench.pods()} == {1000}, "the coordinator's too"
    coordinator.tell("Finished")
    await eventually(job.gone, what="nothing of the job is left")


async def test_a_job_that_runs_into_its_deadline_fails_and_lets_its_nodes_go(job: Job) -> None:
    await job.apply(activeDeadline="1s")
    status = await job.until("Failed")
    assert status["reason"] == "DeadlineExceeded"
    failed = next(one for one in status["conditions"] if one["type"] == "Failed")
    assert "spec.activeDeadline" in failed["message"]


async def test_a_namespace_goes_with_the_jobs_that_run_in_it(job: Job) -> None:
    await job.apply()
    await job.until("Running", epoch=1)
    namespace = paths.named(paths.NAMESPACES, job.bench.namespace)
    await job.bench.api.delete(namespace)

    async def gone() -> bool:
        with contextlib.suppress(NotFound):
            left = await job.bench.api.get(namespace)
            raise AssertionError(left["status"])
        return True

    await eventually(gone, what="the namespace is gone")


async def test_a_job_that_no_schema_could_refuse_says_what_is_wrong_with_it(job: Job) -> None:
    await job.apply(pod={"terminationGracePeriodSeconds": "forever"})

    async def told() -> bool:
        accepted = [one for one in (await job.status()).get("conditions", ()) if one["type"] == "Accepted"]
        return any("terminationGracePeriodSeconds must be a whole number" in one["message"] for one in accepted)

    await eventually(told, what="the condition Accepted names the field")
    assert await job.pods() == {}


async def test_the_packer_places_jobs_by_racks_and_neighbouring_ranks_side_by_side(
    job: Job,
    coordinator: FakeCoordinator,
    extender: ManagedProcess,  # noqa: ARG001 - runs beside
) -> None:
    bench = job.bench
    story = Story(bench, scheduler_name="stowage")
    await story.apply_policy({"story": bench.namespace}, steering="Extender")
    pod = {"schedulerName": "stowage", "containers": [LARGE]}
    racks_of = {one["metadata"]["name"]: one["metadata"]["labels"]["rack"] for one in await nodes_of(bench)}
    await job.apply(nodes=2, pod=pod, topology={"pack": "Required", "keys": ["rack"]})
    status = await job.until("Running", epoch=1)
    assert len({racks_of[seat["node"]] for seat in status["seats"]}) == 1, (
        "both in one rack, though four nodes would do"
    )
    placed = next(one for one in status["conditions"] if one["type"] == "Placed")
    assert (placed["status"], placed["reason"]) == ("True", "Placed")
    plan = await story.plan_in("Done")
    assert {step["action"] for step in plan["spec"]["steps"]} >= {"Ungate"}
    assert coordinator.begun[-1].seats == tuple(status["members"])
    await job.delete()
    wide = Job(bench, "wide")
    await wide.apply(nodes=4, pod=pod, topology={"pack": "Preferred", "keys": ["rack"]})
    pods = await until_placed(wide, 4)
    nodes = {one["metadata"]["labels"]["stowage.dev/seat"]: one["spec"]["nodeName"] for one in pods}
    racks = [racks_of[nodes[f"s{number}"]] for number in range(4)]
    assert racks in (["a", "a", "b", "b"], ["b", "b", "a", "a"]), "ranks that follow each other are neighbours"
    await wide.delete()


async def test_kube_scheduler_alone_keeps_a_job_in_one_rack_and_who_replaces_a_pod_too(
    job: Job, coordinator: FakeCoordinator
) -> None:
    racks_of = {one["metadata"]["name"]: one["metadata"]["labels"]["rack"] for one in await nodes_of(job.bench)}
    await job.apply(nodes=2, pod={"containers": [LARGE]}, topology={"pack": "Required", "keys": ["rack"]})
    status = await job.until("Running", epoch=1)
    (rack,) = {racks_of[seat["node"]] for seat in status["seats"]}
    assert next(one for one in status["conditions"] if one["type"] == "Placed")["reason"] == "NoPolicy"
    await job.bench.api.delete(paths.pod(job.bench.namespace, "tiny-s0-1"))
    status = await job.until("Running", epoch=2)
    assert {racks_of[seat["node"]] for seat in status["seats"]} == {rack}
    assert coordinator.begun[-1].epoch == 2


async def test_a_restricted_namespace_takes_all_pods_of_a_restricted_template(
    job: Job, coordinator: FakeCoordinator
) -> None:
    bench = job.bench
    await bench.api.merge_patch(
        paths.named(paths.NAMESPACES, bench.namespace), {"metadata": {"labels": {RESTRICTED: "restricted"}}}
    )
    locked = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    trainer = {"name": "trainer", "image": "train:1", "command": ["python3", "train.py"], "securityContext": locked}
    secure = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
    volume = {"persistentVolumeClaim": {"claimName": "ckpt"}}
    open_job = Job(bench, "open")
    await open_job.apply()

    async def refused() -> bool:
        accepted = [one for one in (await open_job.status()).get("conditions", ()) if one["type"] == "Accepted"]
        return any(one["reason"] == "ChildRefused" and "PodSecurity" in one["message"] for one in accepted)

    await eventually(refused, what="the job whose template is not restricted says so")
    await open_job.delete()
    await job.apply(
        pod={"containers": [trainer], "securityContext": secure}, suspend=True, checkpoint={"volume": volume}
    )
    await job.until("Suspended")
    await job.set_spec(suspend=False)
    pods = await job.until_pods("tiny-s0-1", "tiny-s1-1")
    assert len(pods) == 2
    names = {one["metadata"]["name"] for one in await bench.pods()}
    assert "tiny-coordinator" in names
    assert coordinator.ended is None


async def nodes_of(bench: Workbench) -> list[Document]:
    found: list[Document] = (await bench.api.get(paths.NODES, {"labelSelector": f"story={bench.namespace}"}))["items"]
    return found


async def until_placed(job: Job, count: int) -> list[Document]:
    async def placed() -> list[Document]:
        pods = list((await job.pods()).values())
        assert len(pods) == count
        assert all(pod["spec"].get("nodeName") for pod in pods)
        return pods

    return await eventually(placed, what=f"{job.name} has its nodes")
