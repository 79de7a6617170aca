"""A pod waits although a better packing exists, and gets its place: under each way to steer, on real kubelets."""

from __future__ import annotations

import pytest

from programs import run
from scene import SLOWLY_SECONDS, Scene

pytestmark = pytest.mark.usefixtures("release")


@pytest.mark.parametrize(
    ("scheduler_name", "steering"),
    [
        pytest.param("stowage", "Extender", id="by the second scheduler and its extender"),
        pytest.param("default-scheduler", "Bind", id="by bindings beside the untouched default scheduler"),
    ],
)
async def test_the_large_pod_gets_its_place(scene: Scene, scheduler_name: str, steering: str) -> None:
    scene.scheduler_name, scene.steering = scheduler_name, steering
    await scene.begin(budget={"time": "20s", "certifyWithin": "10s"})  # a proof of milliseconds, on a busy machine too
    plan = await scene.plan_in("Done", timeout_seconds=SLOWLY_SECONDS)
    await scene.until_packed()
    assert plan["spec"]["steering"] == steering
    assert plan["status"]["certified"]


async def test_a_recommendation_waits_for_approval(scene: Scene) -> None:
    await scene.begin(mode="Recommend")
    plan = await scene.plan_in("Proposed", timeout_seconds=SLOWLY_SECONDS)
    await scene.untouched("small", for_seconds=3)
    name = plan["metadata"]["name"]
    run(".venv/bin/kubectl-stowage", "approve", name, "--kubeconfig", scene.cluster.kubeconfig)
    await scene.plan_in("Done", timeout_seconds=SLOWLY_SECONDS)
    await scene.until_packed()


async def test_a_disruption_budget_is_respected(scene: Scene) -> None:
    await scene.held_back()
    await scene.untouched("small", for_seconds=5)
    await scene.let_go()
    await scene.plan_in("Done", timeout_seconds=SLOWLY_SECONDS)
    await scene.until_packed()


async def test_a_gang_is_let_go_whole(scene: Scene) -> None:
    scene.scheduler_name, scene.steering = "default-scheduler", "Bind"
    await scene.label_workers()
    await scene.apply_policy(scene.label)
    await scene.bench.replica_set(
        "ring",
        2,
        labels={"stowage.dev/gang": "ring", "stowage.dev/gang-size": "2"},
        schedulingGates=[{"name": "stowage.dev/gang"}],
        **scene.pod(gpus=6),
    )
    await scene.bench.until_ready("ring", 2, timeout_seconds=SLOWLY_SECONDS)
    assert sorted((await scene.bench.bound("ring")).values()) == [1, 1]
