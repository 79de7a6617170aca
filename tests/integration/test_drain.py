"""Nodes of a real control plane are drained: planned first, then cordoned, then emptied by a PackingPlan."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable

import pytest

from harness.story import Story
from harness.waiting import eventually
from harness.workbench import Document, Workbench, condition, pod_template
from stowage.api.names import DRAINS_ANNOTATION
from stowage.demo.local_cluster import LocalCluster
from stowage.transport import paths

pytestmark = pytest.mark.usefixtures("extender_for_all")

Drain = Callable[..., Awaitable[tuple[int, Document, str]]]


@pytest.fixture
def drain(cluster: LocalCluster, operator_lease: str) -> Drain:
    """Runs `stowage drain`: exit code, its document, standard error."""

    async def run(*arguments: str) -> tuple[int, Document, str]:
        flags = ("--operator-lease", operator_lease, "--budget", "1s", "-o", "json")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "stowage.cli", "drain", *flags, *arguments),
            env={**os.environ, **cluster.environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, json.loads(out or "{}"), err.decode()

    return run


async def cordoned(bench: Workbench, node: str) -> bool:
    return bool((await bench.api.get(paths.node(node)))["spec"].get("unschedulable"))


@pytest.fixture(params=["Extender", "Bind"])
async def story(request: pytest.FixtureRequest, workbench: Workbench) -> Story:
    """Three nodes of 8 CPUs; `web` has a pod of 3 CPUs on each of the first two, and fits nowhere but on these."""
    story = Story(workbench, steering=request.param)
    label = {"story": workbench.namespace}
    story.nodes = await workbench.nodes(2, cpu="8", labels=label)
    await workbench.deployment("web", 2, cpu="3", nodeSelector=label)
    await workbench.until_ready("web", 2)
    await story.apply_policy(label, mode="Recommend")
    return story


async def test_a_drained_node_is_empty_and_its_pods_stand_where_the_plan_said(story: Story, drain: Drain) -> None:
    bench, (old, new) = story.bench, story.nodes
    before = await story.uids("web")
    code, answer, said = await drain(old)
    assert code == 0, said
    assert answer["drained"] is True
    assert await bench.bound("web") == {new: 2}
    await bench.until_ready("web", 2)
    assert len(before & await story.uids("web")) == 1, "one pod was evicted, once"
    assert await cordoned(bench, old)
    (plan,) = await story.plans()
    assert plan["status"]["phase"] == "Done"
    assert plan["spec"]["approval"] == "Approved"
    assert plan["spec"]["steering"] == story.steering
    assert plan["metadata"]["annotations"][DRAINS_ANNOTATION] == old
    assert plan["status"]["approvedBy"]["manager"] == "stowage-cli"
    assert [end["phase"] for end in answer["plans"]] == ["Done"]


async def test_nothing_is_touched_when_a_pod_can_not_leave(story: Story, drain: Drain) -> None:
    bench, (old, _) = story.bench, story.nodes
    template = pod_template("bare", cpu="1", nodeSelector={"kubernetes.io/hostname": old})
    pods = paths.in_namespace(paths.PODS, bench.namespace)
    await bench.create(pods, {"metadata": {"name": "bare", **template["metadata"]}, "spec": template["spec"]})
    await bench.until_ready("bare", 1)
    before = await story.uids("web")
    code, answer, _ = await drain(old)
    assert code == 1
    assert [(one["pod"], one["reason"]) for one in answer["obstacles"]] == [(f"{bench.namespace}/bare", "Bare")]
    assert not await cordoned(bench, old)
    assert not await story.plans()
    assert await story.uids("web") == before
    code, answer, said = await drain(old, "--force")
    assert code == 0, said
    assert await bench.pods("bare") == []
    assert set(await bench.bound("web")) == {story.nodes[1]}


async def test_nothing_is_touched_when_a_pod_would_find_no_place(story: Story, drain: Drain) -> None:
    bench, (old, new) = story.bench, story.nodes
    await bench.replica_set("large", 1, cpu="4", nodeSelector={"kubernetes.io/hostname": new})
    await bench.until_ready("large", 1)
    before = await story.uids("web")
    code, answer, _ = await drain(old)
    assert code == 1
    assert [one["reason"] for one in answer["plan"]["unplaced"]] == ["InsufficientCpu"]
    assert not await cordoned(bench, old)
    assert not await story.plans()
    assert await story.uids("web") == before


async def test_a_drain_without_an_operator_touches_nothing(story: Story, drain: Drain) -> None:
    code, _, said = await drain(story.nodes[0], "--operator-lease", "stowage-system/nobody")
    assert code == 3
    assert "nobody would carry the plan out" in said
    assert not await cordoned(story.bench, story.nodes[0])


async def test_a_paused_policy_is_not_drained_under(story: Story, drain: Drain) -> None:
    await story.bench.api.merge_patch(paths.packing_policy(story.policy), {"spec": {"paused": True}})
    code, _, said = await drain(story.nodes[0])
    assert code == 1
    assert "is paused" in said
    assert not await cordoned(story.bench, story.nodes[0])


async def test_a_drain_that_takes_too_long_stops_its_plan(story: Story, drain: Drain) -> None:
    bench, (old, _) = story.bench, story.nodes
    before = await story.uids("web")
    # held by a finalizer, the evicted pod does not go
    for pod in await bench.pods("web"):
        path = paths.pod(bench.namespace, pod["metadata"]["name"])
        await bench.api.merge_patch(path, {"metadata": {"finalizers": ["test.stowage.dev/stays"]}})
    code, _, said = await drain(old, "--timeout", "12s")
    assert code == 1
    assert "not drained in time; the nodes stay cordoned" in said
    (plan,) = await story.plans()
    assert plan["spec"]["approval"] == "Aborted" or plan["status"]["phase"] == "Done"
    assert len(before & await story.uids("web")) == 2, "both are there: one of them is on its way out"
    for pod in await bench.pods("web"):
        path = paths.pod(bench.namespace, pod["metadata"]["name"])
        await bench.api.merge_patch(path, {"metadata": {"finalizers": None}})


async def slow_pods(
    bench: Workbench, apps: tuple[str, ...], *, replicas: int, ready_after: str, **disruption: object
) -> tuple[Story, str]:
    """Pods of these apps on one node, another node to go to, and a policy with brakes; the node to drain."""
    story = Story(bench, steering="Bind")
    label = {"story": bench.namespace}
    (old,) = await bench.nodes(1, cpu="16", labels=label)
    for app in apps:
        annotations = {"sim.stowage.dev/ready-after": ready_after}
        await bench.deployment(app, replicas, cpu="1", nodeSelector=label, annotations=annotations)

    async def bound() -> bool:
        return all([sum((await bench.bound(app)).values()) == replicas for app in apps])

    await eventually(bound, what="all pods stand on the node")
    await bench.nodes(1, cpu="16", labels=label)
    limits = {"minPodAge": "0s", "ownerSettled": "0s", **disruption}
    await story.apply_policy(label, mode="Recommend", disruption=limits)
    return story, old


def times(pods: list[Document]) -> list[tuple[str, str]]:
    """When each pod was made and when it became Ready, in the order of making; to the second."""
    return sorted((pod["metadata"]["creationTimestamp"], condition(pod, "Ready")["lastTransitionTime"]) for pod in pods)


async def test_the_first_move_goes_alone(workbench: Workbench, drain: Drain) -> None:
    story, old = await slow_pods(workbench, ("a", "b", "c"), replicas=1, ready_after="3s", canary=True)
    code, _, said = await drain(old)
    assert code == 0, said
    for app in "abc":
        await workbench.until_ready(app, 1)
    (first, *others) = times([pod for app in "abc" for pod in await workbench.pods(app)])
    assert all(first[1] <= made for made, _ in others), "the others were evicted once the first was Ready"
    (plan,) = await story.plans()
    assert plan["status"]["reason"] == "Completed"


async def test_pods_of_one_controller_go_one_by_one_without_a_budget(workbench: Workbench, drain: Drain) -> None:
    _, old = await slow_pods(workbench, ("a",), replicas=3, ready_after="2s", maxUnavailablePerOwner=1)
    code, _, said = await drain(old)
    assert code == 0, said
    first, second, third = times(await workbench.until_ready("a", 3))
    assert first[1] <= second[0]
    assert second[1] <= third[0]


async def test_a_plan_ends_when_a_replacement_does_not_become_ready(workbench: Workbench, drain: Drain) -> None:
    story, old = await slow_pods(
        workbench, ("a",), replicas=3, ready_after="1h", maxUnavailablePerOwner=1, stopRule={"readyWithin": "3s"}
    )
    before = await story.uids("a")
    code, answer, said = await drain(old)
    assert code == 1
    assert [(end["phase"], end["reason"]) for end in answer["plans"]] == [("Aborted", "ReplacementNotReady")], said
    assert len(before & await story.uids("a")) == 2, "nobody else was evicted"
