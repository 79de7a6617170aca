"""Nodes of a real control plane are emptied while nothing waits, and pods that wait come first."""

from __future__ import annotations

import pytest

from harness.story import Story
from harness.waiting import always, eventually
from harness.workbench import Document, Workbench, condition
from stowage.transport import paths

pytestmark = pytest.mark.usefixtures("operator", "extender")

QUIET: Document = {"mode": "WhenQuiet", "after": "3s"}


async def fragmented(story: Story) -> None:
    """Three nodes of 8 CPUs. The second can be emptied by one move, the third, which is used less, by two."""
    bench, label = story.bench, {"story": story.bench.namespace}
    for apps in ({"big": "5"}, {"middle": "4"}, {"small": "1500m", "tiny": "1500m"}):
        story.nodes += await bench.nodes(1, cpu="8", labels=label)
        for app, cpu in apps.items():
            await bench.deployment(app, 1, cpu=cpu, nodeSelector=label, scheduler_name=story.scheduler_name)
            await bench.until_ready(app, 1)
            assert await bench.bound(app) == {story.nodes[-1]: 1}
        await cordon(bench, story.nodes[-1], unschedulable=True)
    for name in story.nodes:
        await cordon(bench, name, unschedulable=None)


async def cordon(bench: Workbench, name: str, *, unschedulable: bool | None) -> None:
    await bench.api.merge_patch(paths.node(name), {"spec": {"unschedulable": unschedulable}})


async def until_told(story: Story, reason: str, what: str) -> Document:
    """Wait until the policy gives that reason; its status is written after the plan that it speaks of."""

    async def told() -> Document:
        policy = await story.bench.api.get(paths.packing_policy(story.policy))
        found = condition(policy, "Consolidated")
        assert found.get("reason") == reason, found
        return found

    return await eventually(told, what=what)


@pytest.mark.parametrize("steering", ["Extender", "Bind"])
async def test_one_node_is_emptied_by_the_fewest_moves_and_then_there_is_quiet(
    workbench: Workbench, steering: str
) -> None:
    story = Story(workbench, steering=steering)
    await fragmented(story)
    others = ("big", "small", "tiny")
    before = [await story.uids(app) for app in others]
    _, second, third = story.nodes
    await story.apply_policy({"story": workbench.namespace}, consolidation=QUIET)
    plan = await story.plan_in("Done")
    assert plan["spec"]["empties"] == [second]
    assert [(step["action"], step["node"]) for step in plan["spec"]["steps"]] == [("Evict", second)]
    await workbench.until_ready("middle", 1)
    assert await workbench.bound("middle") == {third: 1}
    assert [await story.uids(app) for app in others] == before

    over = await until_told(story, "NothingToEmpty", "the policy says that nothing is left to empty")
    assert over["status"] == "True"

    async def one_plan() -> bool:
        return len(await story.plans()) == 1

    await always(one_plan, for_seconds=5)
    node = await workbench.api.get(paths.node(second))
    assert not [taint for taint in node["spec"].get("taints", ()) if taint["key"] == "stowage.dev/reserved"]
    label = {"story": workbench.namespace}
    await workbench.deployment("next", 1, cpu="500m", nodeSelector=label, scheduler_name=story.scheduler_name)
    await workbench.until_ready("next", 1)
    assert second not in await workbench.bound("next"), "the emptiest node is left alone, for there are others"


async def test_a_proposal_ends_as_soon_as_a_pod_waits(workbench: Workbench) -> None:
    story = Story(workbench)
    await fragmented(story)
    await story.apply_policy({"story": workbench.namespace}, mode="Recommend", consolidation=QUIET)
    plan = await story.plan_in("Proposed")
    assert plan["spec"]["empties"] == [story.nodes[1]]
    await until_told(story, "Consolidating", "the policy says that it empties a node")
    label = {"story": workbench.namespace}
    await workbench.replica_set("large", 1, cpu="20", nodeSelector=label, scheduler_name=story.scheduler_name)
    ended = await story.ended(plan, "Superseded")
    assert ended["status"]["reason"] == "PodWaits"
    await until_told(story, "NotQuiet", "the policy says that it is not quiet")
    await story.untouched("middle", for_seconds=2)


async def test_who_rejects_a_proposal_does_not_get_it_back_at_once(workbench: Workbench) -> None:
    story = Story(workbench)
    await fragmented(story)
    await story.apply_policy({"story": workbench.namespace}, mode="Recommend", consolidation=QUIET)
    await story.approve(await story.plan_in("Proposed"), "Aborted")
    await story.plan_in("Aborted")
    await until_told(story, "ConsolidationSnoozed", "the policy says that it waits")
    assert len(await story.plans()) == 1
