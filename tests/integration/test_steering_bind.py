"""Steering Bind on a real control plane: pods of the untouched default scheduler, nodes kept by taints."""

from __future__ import annotations

import pytest

from harness.story import Story
from harness.waiting import eventually
from harness.workbench import Document, Workbench, condition, pod_template
from stowage.transport import paths

RESERVED = "stowage.dev/reserved"

pytestmark = pytest.mark.usefixtures("operator")


@pytest.fixture
async def story(workbench: Workbench) -> Story:
    return Story(workbench, scheduler_name="default-scheduler")


async def taints(story: Story) -> dict[str, list[Document]]:
    nodes = [await story.bench.api.get(paths.node(name)) for name in story.nodes]
    return {node["metadata"]["name"]: node["spec"].get("taints") or [] for node in nodes}


async def no_reservation_is_left(story: Story) -> None:
    async def none_left() -> bool:
        return not any(taint["key"] == RESERVED for kept in (await taints(story)).values() for taint in kept)

    await eventually(none_left, what="no node is kept for a plan")
    for name in story.nodes:
        annotations = (await story.bench.api.get(paths.node(name)))["metadata"].get("annotations", {})
        assert "stowage.dev/reserved-until" not in annotations


async def test_a_plan_is_carried_out_without_any_extender(story: Story) -> None:
    await story.begin(steering="Bind")
    plan = await story.plan_in("Done")
    assert plan["status"]["reason"] == "Completed"
    assert [step["action"] for step in plan["spec"]["steps"]] == ["Evict", "Bind"]
    await story.bench.until_ready("large", 1)
    await story.bench.until_ready("small", 2)
    targets = {slot["node"] for slot in plan["spec"]["slots"]}
    assert set(await story.bench.bound("small")) | set(await story.bench.bound("large")) == targets
    await no_reservation_is_left(story)


async def test_auto_binds_where_no_extender_lives(story: Story) -> None:
    await story.begin()
    plan = await story.plan_in("Done")
    assert plan["spec"]["steering"] == "Bind"


async def test_the_nodes_are_kept_while_the_plan_waits_and_given_back_when_it_is_aborted(story: Story) -> None:
    plan = await story.held_back(steering="Bind")
    uid = plan["metadata"]["uid"]
    kept = {
        name: [taint["value"] for taint in found if taint["key"] == RESERVED]
        for name, found in (await taints(story)).items()
    }
    assert kept == {name: [uid] for name in story.nodes}
    await story.bench.replica_set(
        "late", 1, cpu="2", nodeSelector={"story": story.bench.namespace}, scheduler_name="default-scheduler"
    )
    [late] = await story.bench.until_unschedulable("late", 1)
    assert "untolerated taint" in condition(late, "PodScheduled")["message"]
    await story.approve(plan, "Aborted")
    await no_reservation_is_left(story)
    await story.bench.until_ready("late", 1)


async def test_taints_of_others_survive_a_plan(story: Story) -> None:
    plan = await story.held_back(steering="Bind")
    node = story.nodes[0]
    theirs = {"key": "example.com/team", "value": "a", "effect": "PreferNoSchedule"}
    found = (await taints(story))[node]
    await story.bench.api.merge_patch(paths.node(node), {"spec": {"taints": [*found, theirs]}})
    await story.let_go()
    await story.plan_in("Done")
    await no_reservation_is_left(story)
    assert theirs in (await taints(story))[node]
    assert plan["metadata"]["uid"]


async def test_a_plan_whose_taint_somebody_removes_ends_before_it_does_harm(story: Story) -> None:
    plan = await story.held_back(steering="Bind")
    await story.bench.api.merge_patch(paths.node(story.nodes[0]), {"spec": {"taints": None}})
    ended = await story.ended(plan, "Superseded")
    assert ended["status"]["reason"] == "ReservationLost"
    await no_reservation_is_left(story)


async def test_a_taint_left_behind_by_a_plan_that_does_not_run_is_swept(story: Story) -> None:
    story.nodes = await story.bench.nodes(1)
    left = {"key": RESERVED, "value": "0d9f6a1e-0000-4000-8000-000000000000", "effect": "NoSchedule"}
    await story.bench.api.merge_patch(paths.node(story.nodes[0]), {"spec": {"taints": [left]}})
    await story.begin(steering="Bind")
    await no_reservation_is_left(story)


async def test_a_replacement_that_lands_elsewhere_leaves_the_plan_what_it_made_room_for(story: Story) -> None:
    await story.held_back(steering="Bind")
    await story.bench.nodes(1, cpu="4", labels={"story": story.bench.namespace})  # open to the replacement alone
    await story.let_go()
    ended = await story.plan_in("Done")
    await story.bench.until_ready("large", 1)
    await story.bench.until_ready("small", 2)
    evicted = [step["podUID"] for step in ended["status"]["steps"] if step["state"] == "Done" and "podUID" in step]
    assert len(evicted) == len(set(evicted))
    await no_reservation_is_left(story)


async def test_room_taken_by_somebody_who_binds_past_every_taint_is_not_fought_for(story: Story) -> None:
    plan = await story.held_back(steering="Bind")
    target = plan["spec"]["slots"][0]["node"]
    document = pod_template("intruder", cpu="4", nodeName=target)
    document["metadata"]["name"] = "intruder"
    await story.bench.api.create(paths.in_namespace(paths.PODS, story.bench.namespace), document)
    ended = await story.ended(plan, "Superseded")
    assert ended["status"]["reason"] == "LostRace"
    await story.untouched("small", for_seconds=2)
    await no_reservation_is_left(story)
