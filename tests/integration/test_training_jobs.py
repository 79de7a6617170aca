"""TrainingJobs on a real control plane, with simulated nodes and a coordinator that does as it is told."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from harness.coordinator import FakeCoordinator
from harness.story import Story
from harness.training_job import Job
from harness.waiting import eventually
from harness.workbench import Workbench
from stowage.transport import paths

TRACKING = "stowage.dev/tracking"


@pytest.fixture
async def job(workbench: Workbench, coordinator: FakeCoordinator) -> AsyncIterator[Job]:  # noqa: ARG001 - runs beside
    await workbench.nodes(3, cpu="8", labels={"story": workbench.namespace})
    made = Job(workbench)
    yield made
    await made.delete()  # while the operator lets its pods go


async def test_a_short_spec_becomes_a_job_that_runs_and_succeeds(job: Job, coordinator: FakeCoordinator) -> None:
    await job.apply()
    status = await job.until("Running", epoch=1)
    pods = await job.until_pods("tiny-s0-1", "tiny-s1-1")
    assert all(TRACKING in pod["metadata"]["finalizers"] for pod in pods.values())
    uids = {pod["metadata"]["labels"]["stowage.dev/seat"]: pod["metadata"]["uid"] for pod in pods.values()}
    begin = coordinator.begun[-1]
    assert (begin.epoch, begin.attempt, begin.seats) == (1, 1, tuple(status["members"]))
    assert begin.pods == tuple(uids[seat] for seat in begin.seats)
    placed = next(one for one in status["conditions"] if one["type"] == "Placed")
    assert placed["reason"] == "NoPolicy"

    coordinator.tell("Running", step=12)
    coordinator.tell("Finished")
    status = await job.until("Succeeded")
    assert status["finishedAt"]
    assert status["progress"]["step"] == 12

    async def ended() -> bool:
        return coordinator.ended is not None and coordinator.ended.code == 0

    await eventually(ended, what="the coordinator is told to end")
    for name in pods:
        pod_status = paths.pod(job.bench.namespace, name) + "/status"
        await job.bench.api.merge_patch(pod_status, {"status": {"phase": "Succeeded"}})

    async def counted() -> bool:
        return not any(pod["metadata"].get("finalizers") for pod in (await job.pods()).values())

    await eventually(counted, what="the finished pods are let go")
    assert set(await job.pods()) == set(pods), "pods that have finished stay, with their logs"


async def test_a_process_that_fails_is_started_again_in_the_same_pods(job: Job, coordinator: FakeCoordinator) -> None:
    await job.apply()
    await job.until("Running", epoch=1)
    before = await job.pods()
    coordinator.fails("s1", at=time.time())  # noqa: TID251 - as the operator's clock has it
    status = await job.until("Running", epoch=2)
    assert status["attempt"] == 2
    assert status["restarts"] == [{"scope": "Process", "count": 1}]
    failure = status["lastFailure"]
    assert (failure["event"], failure["seat"], failure["code"]) == ("ProcessExited", "s1", 1)
    after = await job.pods()
    assert {pod["metadata"]["uid"] for pod in after.values()} == {pod["metadata"]["uid"] for pod in before.values()}
    assert [begin.epoch for begin in coordinator.begun] == [1, 2]

    async def told() -> bool:
        events = (await job.bench.api.get(paths.events(job.bench.namespace)))["items"]
        notes = {one["reason"]: one["note"] for one in events if one["regarding"]["kind"] == "TrainingJob"}
        assert notes.keys() == {"Created", "Started", "FailureSeen", "Recovered"}, notes
        assert "(detect " in notes["Recovered"]
        return True

    await eventually(told, what="events tell the failure and the recovery")


async def test_a_deleted_pod_is_followed_by_one_of_the_next_attempt(job: Job, coordinator: FakeCoordinator) -> None:
    await job.apply()
    await job.until("Running", epoch=1)
    await job.bench.api.delete(paths.pod(job.bench.namespace, "tiny-s0-1"))
    status = await job.until("Running", epoch=2)
    await job.until_pods("tiny-s0-2", "tiny-s1-1")
    assert {(seat["seat"], seat["attempt"]) for seat in status["seats"]} == {("s0", 2), ("s1", 1)}
    assert set(coordinator.begun[-1].seats) == {"s0", "s1"}


async def test_suspended_it_has_no_pods_and_goes_on_when_resumed(job: Job, coordinator: FakeCoordinator) -> None:
    await job.apply()
    await job.until("Running", epoch=1)
    await job.set_spec(suspend=True)
    await job.until("Suspended", epoch=2)
    assert coordinator.begun[-1].seats == ()
    await job.until_pods()
    await job.set_spec(suspend=False)
    status = await job.until("Running", epoch=3)
    assert status["attempt"] == 2
    await job.until_pods("tiny-s0-2", "tiny-s1-2")


async def test_a_link_that_breaks_is_made_again_and_nothing_begins_anew(job: Job, coordinator: FakeCoordinator) -> None:
    await job.apply()
    await job.until("Running", epoch=1)
    attached = len(coordinator.attached)
    coordinator.cut()

    async def again() -> bool:
        return len(coordinator.attached) > attached

    await eventually(again, what="the operator attaches again")
    coordinator.tell("Finished")
    await job.until("Succeeded", epoch=1)


async def test_where_a_policy_packs_the_pods_are_placed_as_a_gang(job: Job, coordinator: FakeCoordinator) -> None:
    story = Story(job.bench, scheduler_name="default-scheduler")
    await story.apply_policy({"story": job.bench.namespace}, steering="Bind")
    await job.apply()
    status = await job.until("Running", epoch=1)
    placed = next(one for one in status["conditions"] if one["type"] == "Placed")
    assert placed["reason"] == "Placed"
    plan = await story.plan_in("Done")
    assert [step["action"] for step in plan["spec"]["steps"]] == ["Ungate", "Ungate"]
    pods = await job.pods()
    assert {pod["metadata"]["labels"]["stowage.dev/gang-size"] for pod in pods.values()} == {"2"}
    assert coordinator.begun[-1].epoch == 1


async def test_a_deleted_job_leaves_nothing(job: Job) -> None:
    await job.apply()
    await job.until("Running", epoch=1)
    await job.bench.api.delete(job.path)
    await eventually(job.gone, what="everything of the job is gone")
