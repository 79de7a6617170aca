"""What happens to a plan under way when Stowage itself is killed, upgraded, rolled back or removed."""

from __future__ import annotations

import time

from harness.waiting import eventually
from harness.workbench import Document
from release import STANDARD, Release
from scene import SLOWLY_SECONDS, Scene


async def evicted_once(scene: Scene, before: set[str]) -> None:
    """One of the two small pods was moved, and it once."""

    async def two() -> set[str]:  # the pod that was moved may still be on its way out
        small = await scene.uids("small")
        assert len(small) == 2
        return small

    after = await eventually(two, timeout_seconds=SLOWLY_SECONDS, what="the pod that was moved is gone")
    assert len(after & before) == 1


async def test_an_operator_killed_in_the_middle_of_a_plan_ends_it_after_its_return(
    release: Release, scene: Scene
) -> None:
    await scene.held_back()
    before = await scene.uids("small")
    selector = ("--namespace", release.namespace, "--selector", "app.kubernetes.io/component=operator")
    release.cluster.kubectl("delete", "pods", *selector, "--grace-period=0", "--force")
    await scene.let_go()
    await scene.plan_in("Done", timeout_seconds=SLOWLY_SECONDS)
    await scene.until_packed()
    await evicted_once(scene, before)


async def test_an_upgrade_in_the_middle_of_a_plan_and_a_rollback_leave_it_alone(release: Release, scene: Scene) -> None:
    plan = await scene.held_back()
    before = await scene.uids("small")
    release.install(**STANDARD, operator__logLevel="debug")
    release.rollback()
    (same,) = await scene.plans()
    assert same["metadata"]["uid"] == plan["metadata"]["uid"]
    assert same["status"]["phase"] == "Running"
    assert await scene.uids("small") == before
    await scene.let_go()
    await scene.plan_in("Done", timeout_seconds=SLOWLY_SECONDS)
    await scene.until_packed()
    await evicted_once(scene, before)


async def test_a_second_operator_takes_over_from_one_that_is_killed(release: Release, scene: Scene) -> None:
    release.install(**STANDARD, replicaCount=2)
    try:
        await scene.held_back()
        first = release.leader()
        nodes = release.nodes_of("operator")
        assert len(set(nodes.values())) == 2, f"replicas are spread over nodes: {nodes}"
        release.cluster.kill(nodes[first.partition("_")[0]], "stowage operator")
        began = time.monotonic()  # noqa: TID251

        async def taken_over() -> bool:
            return release.leader() not in {"", first}

        await eventually(taken_over, timeout_seconds=SLOWLY_SECONDS, what="another operator leads")
        print(f"another operator leads after {time.monotonic() - began:.1f} s")  # noqa: TID251
        await scene.let_go()
        await scene.plan_in("Done", timeout_seconds=SLOWLY_SECONDS)
        await scene.until_packed()
    finally:
        release.install(**STANDARD, replicaCount=1)


async def test_a_worker_that_stops_in_the_middle_of_a_plan_and_comes_back(release: Release, scene: Scene) -> None:
    stopped = release.cluster.workers[0]
    release.leave(stopped)
    plan = await scene.held_back()
    release.cluster.pause(stopped)
    try:
        release.cluster.wait("condition=Ready=Unknown", f"node/{stopped}")
        await scene.ended(plan, "Aborted", "Superseded", timeout_seconds=SLOWLY_SECONDS)
    finally:
        release.cluster.unpause(stopped)
    release.cluster.wait("condition=Ready", f"node/{stopped}")
    await scene.let_go()
    await scene.packed_by_recommendation()


async def test_uninstalling_leaves_workloads_and_resources_and_installing_again_goes_on(
    release: Release, scene: Scene
) -> None:
    await scene.begin(mode="Recommend")
    plan = await scene.plan_in("Proposed", timeout_seconds=SLOWLY_SECONDS)
    before = await scene.uids("small")
    release.uninstall()
    (kept,) = await scene.plans()
    assert kept["metadata"]["uid"] == plan["metadata"]["uid"]
    assert not finalizers(kept)
    assert await scene.uids("small") == before
    release.install(**STANDARD)
    plan = await scene.plan_in("Proposed", timeout_seconds=SLOWLY_SECONDS)
    await scene.approve(plan)
    await scene.plan_in("Done", timeout_seconds=SLOWLY_SECONDS)
    await scene.until_packed()


def finalizers(document: Document) -> list[str]:
    found: list[str] = document["metadata"].get("finalizers", [])
    return found
