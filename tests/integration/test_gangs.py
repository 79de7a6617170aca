"""Gangs of plain pods on a real control plane: created with a gate, let go together or not at all."""

from __future__ import annotations

import pytest

from harness.story import Story
from harness.waiting import always, eventually
from harness.workbench import Document, Workbench
from stowage.transport import paths

GATE = "stowage.dev/gang"

pytestmark = pytest.mark.usefixtures("operator")


@pytest.fixture
async def story(workbench: Workbench) -> Story:
    return Story(workbench, scheduler_name="default-scheduler")


async def gang(
    story: Story, replicas: int, *, size: int | None = None, cpu: str = "3", name: str = "ring", **more: Document
) -> None:
    """A ReplicaSet whose pods are one gang."""
    await story.bench.replica_set(
        name,
        replicas,
        cpu=cpu,
        labels={"stowage.dev/gang": name, "stowage.dev/gang-size": str(size or replicas)},
        nodeSelector={"story": story.bench.namespace},
        scheduler_name=story.scheduler_name,
        schedulingGates=[{"name": GATE}],
        **more,
    )


async def gated(story: Story, name: str = "ring") -> int:
    return sum(bool(pod["spec"].get("schedulingGates")) for pod in await story.bench.pods(name))


async def stays_gated(story: Story, count: int) -> None:
    async def all_gated() -> bool:
        return await gated(story) == count

    await eventually(all_gated, what=f"{count} members wait behind their gate")
    await always(all_gated, for_seconds=4)


async def test_a_gang_that_asks_for_one_rack_gets_one(story: Story) -> None:
    label = {"story": story.bench.namespace}
    await story.bench.nodes(1, cpu="8", labels={**label, "rack": "a"})
    in_b = await story.bench.nodes(2, cpu="4", labels={**label, "rack": "b"})
    await story.bench.nodes(1, cpu="8", labels={**label, "rack": "c"})
    await story.apply_policy(label, steering="Bind")
    await gang(story, 3, cpu="2", annotations={"stowage.dev/required-topology": "rack"}, name="trio")
    await gang(story, 2, cpu="4", annotations={"stowage.dev/required-topology": "rack"}, name="pair")
    await story.bench.until_ready("trio", 3)
    await story.bench.until_ready("pair", 2)
    racks = dict.fromkeys(in_b, "b")
    for name in ("trio", "pair"):
        assert len({racks.get(node, node) for node in await story.bench.bound(name)}) == 1


async def test_a_gang_is_let_go_whole_and_pinned_to_its_nodes(story: Story) -> None:
    label = {"story": story.bench.namespace}
    story.nodes = await story.bench.nodes(2, cpu="8", labels=label)
    await story.apply_policy(label, steering="Bind")
    await gang(story, 4)
    await story.bench.until_ready("ring", 4)
    plan = await story.plan_in("Done")
    assert {step["action"] for step in plan["spec"]["steps"]} == {"Ungate"}
    assert sorted((await story.bench.bound("ring")).values()) == [2, 2]
    planned = {step["pod"]["uid"]: step["node"] for step in plan["spec"]["steps"]}
    pods = await story.bench.pods("ring")
    assert {pod["metadata"]["uid"]: pod["spec"]["nodeName"] for pod in pods} == planned


async def test_a_gang_without_room_for_all_stays_behind_its_gate(story: Story) -> None:
    label = {"story": story.bench.namespace}
    await story.bench.nodes(1, cpu="8", labels=label)
    await story.apply_policy(label, steering="Bind")
    await gang(story, 3)
    await stays_gated(story, 3)
    await story.bench.nodes(1, cpu="8", labels=label)
    await story.bench.until_ready("ring", 3)


async def test_a_gang_is_not_begun_before_all_of_it_exists(story: Story) -> None:
    label = {"story": story.bench.namespace}
    await story.bench.nodes(2, cpu="8", labels=label)
    await story.apply_policy(label, steering="Bind")
    await gang(story, 2, size=3)
    await stays_gated(story, 2)
    await story.bench.scale(paths.REPLICA_SETS, "ring", 3)
    await story.bench.until_ready("ring", 3)


async def test_others_make_room_for_a_gang(story: Story) -> None:
    """Two nodes with one small pod each; the gang needs a whole node twice, and a third one is free for the pods."""
    label = {"story": story.bench.namespace}
    pods: Document = {"nodeSelector": label, "scheduler_name": story.scheduler_name}
    await story.bench.nodes(2, cpu="8", labels=label)
    await story.bench.deployment("small", 2, cpu="3", **pods)
    await story.bench.until_ready("small", 2)
    assert set((await story.bench.bound("small")).values()) == {1}
    await story.bench.nodes(1, cpu="8", labels=label)
    await gang(story, 2, cpu="6")
    await story.apply_policy(label, steering="Bind")
    await story.bench.until_ready("ring", 2)
    await story.bench.until_ready("small", 2)
    plan = await story.plan_in("Done")
    actions = sorted(step["action"] for step in plan["spec"]["steps"])
    assert actions in (["Evict", "Ungate", "Ungate"], ["Evict", "Evict", "Ungate", "Ungate"])


@pytest.mark.usefixtures("extender")
async def test_the_extender_keeps_the_room_of_a_gang(workbench: Workbench) -> None:
    story = Story(workbench)
    label = {"story": workbench.namespace}
    await workbench.nodes(2, cpu="8", labels=label)
    await story.apply_policy(label, steering="Extender")
    await gang(story, 4)
    await workbench.until_ready("ring", 4)
    plan = await story.plan_in("Done")
    assert plan["spec"]["steering"] == "Extender"
    pods = await workbench.pods("ring")
    assert all("tolerations" not in pod["spec"] or GATE not in str(pod["spec"]["tolerations"]) for pod in pods)
