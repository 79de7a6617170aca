"""Plans carried out by real processes on a real control plane."""

from __future__ import annotations

import pytest

from harness.story import Story
from harness.waiting import eventually
from harness.workbench import Document, Workbench, condition
from stowage.api.names import COMPONENT_LABEL
from stowage.transport import paths

pytestmark = pytest.mark.usefixtures("extender_for_all", "operator_for_all")


@pytest.fixture
async def story(workbench: Workbench) -> Story:
    return Story(workbench, steering="Extender")


async def test_auto_steers_by_an_extender_that_lives(workbench: Workbench) -> None:
    async def beats() -> bool:
        leases = await workbench.api.get(paths.leases("stowage-system"))
        return any(lease["metadata"].get("labels", {}).get(COMPONENT_LABEL) == "extender" for lease in leases["items"])

    await eventually(beats, what="the extender says that it lives")
    story = Story(workbench, steering="Auto")
    await story.begin()
    plan = await story.plan_in("Done")
    assert plan["spec"]["steering"] == "Extender"


async def test_a_plan_moves_a_pod_to_make_room_for_one_that_waits(story: Story) -> None:
    await story.begin()
    plan = await story.plan_in("Done")
    assert {step["state"] for step in plan["status"]["steps"]} == {"Done"}
    assert [step["action"] for step in plan["spec"]["steps"]] == ["Evict", "Place"]
    await story.bench.until_ready("large", 1)
    await story.bench.until_ready("small", 2)
    targets = {slot["node"] for slot in plan["spec"]["slots"]}
    assert set(await story.bench.bound("small")) | set(await story.bench.bound("large")) == targets
    assert plan["status"]["approvedBy"]["manager"] == "stowage-operator"

    async def told() -> bool:  # after the status is written
        events = (await story.bench.api.get(paths.events(story.bench.namespace)))["items"]
        ours = {event["reason"] for event in events if event.get("reportingController") == "stowage.dev/operator"}
        assert ours == {"PlacementPlanned", "Moving", "Placed"}
        policy = await story.bench.api.get(paths.packing_policy(story.policy))
        assert policy["status"]["lastPlan"] == plan["metadata"]["name"]
        return True

    await eventually(told, what="events and the policy tell of the plan")


async def test_nothing_happens_before_a_person_approves(story: Story) -> None:
    await story.begin(mode="Recommend")
    plan = await story.plan_in("Proposed")
    await story.untouched("small", for_seconds=2)
    await story.approve(plan)
    await story.plan_in("Done")
    await story.bench.until_ready("large", 1)


async def test_an_aborted_plan_evicts_nobody(story: Story) -> None:
    await story.begin(mode="Recommend")
    plan = await story.plan_in("Proposed")
    await story.approve(plan, "Aborted")
    ended = await story.ended(plan, "Aborted")
    assert ended["status"]["reason"] == "AbortedByUser"
    await story.untouched("small", for_seconds=2)
    assert len(await story.plans()) == 1, "it does not come back at once"


async def test_a_disruption_budget_holds_a_plan_back_until_it_allows_the_eviction(story: Story) -> None:
    await story.held_back()
    await story.untouched("small", for_seconds=2)
    await story.let_go()
    await story.plan_in("Done")
    await story.bench.until_ready("large", 1)


async def test_a_plan_whose_target_node_is_removed_gives_way_to_another(story: Story) -> None:
    plan = await story.held_back()
    target = plan["spec"]["slots"][0]["node"]
    await story.bench.api.delete(paths.node(target))
    ended = await story.ended(plan, "Superseded")
    assert ended["status"]["reason"] == "NodeGone"
    assert target in ended["status"]["message"]
    assert {step["state"] for step in ended["status"]["steps"]} == {"Void"}


async def test_a_pod_deleted_before_its_turn_comes_back_in_its_slot(story: Story) -> None:
    plan = await story.held_back()
    gone = plan["spec"]["steps"][0]["pod"]
    await story.bench.api.delete(paths.pod(gone["namespace"], gone["name"]))
    ended = await story.plan_in("Done")
    assert ended["status"]["steps"][0]["reason"] == "AlreadyGone"
    await story.bench.until_ready("large", 1)
    target = plan["spec"]["slots"][0]["node"]
    assert await story.bench.bound("small") == {target: 2}


async def test_an_owner_scaled_down_on_the_way_leaves_void_steps_and_no_pod_behind(story: Story) -> None:
    plan = await story.held_back()
    gone = plan["spec"]["steps"][0]["pod"]
    # the owner takes the pod of the least deletion cost first
    cost = {"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-100"}}}
    await story.bench.api.merge_patch(paths.pod(gone["namespace"], gone["name"]), cost)
    await story.bench.scale(paths.DEPLOYMENTS, "small", 1)
    ended = await story.plan_in("Done")
    assert ended["status"]["reason"] == "CompletedWithVoidSteps"
    first, second = ended["status"]["steps"]
    assert (first["state"], first["reason"]) == ("Void", "OwnerScaledDown")
    assert second["state"] == "Done"
    await story.bench.until_ready("large", 1)


async def test_a_paused_policy_starts_nothing_and_goes_on_later(story: Story) -> None:
    await story.held_back()
    await story.bench.api.merge_patch(paths.packing_policy(story.policy), {"spec": {"paused": True}})

    async def paused() -> Document:
        plan = await story.plan_in("Running")
        assert plan["status"]["reason"] == "PolicyPaused", plan["status"]["reason"]
        return plan

    await eventually(paused, what="the plan says that the policy is paused")
    await story.let_go()
    await story.budget_allows(1)
    await story.untouched("small", for_seconds=3)
    await story.bench.api.merge_patch(paths.packing_policy(story.policy), {"spec": {"paused": False}})
    await story.plan_in("Done")
    await story.bench.until_ready("large", 1)


async def test_a_pod_kept_away_by_a_plan_is_bound_soon_after_its_end(story: Story) -> None:
    await story.held_back()
    await story.bench.replica_set("late", 1, cpu="2", nodeSelector={"story": story.bench.namespace})
    [late] = await story.bench.until_unschedulable("late", 1)
    assert "reserved by plan" in condition(late, "PodScheduled")["message"]
    await story.let_go()
    await story.plan_in("Done")
    await story.bench.until_ready("late", 1)  # kube-scheduler by itself would look at it after five minutes
    assert len(await story.plans()) == 1, "it was woken, not planned for"


async def test_replicas_of_one_owner_never_share_a_slot(story: Story) -> None:
    bench, label = story.bench, {"story": story.bench.namespace}
    await bench.nodes(4, cpu="8", labels=label)
    await bench.deployment("small", 4, cpu="3", nodeSelector=label)
    await bench.until_ready("small", 4)
    assert set((await bench.bound("small")).values()) == {1}
    await bench.replica_set("large", 2, cpu="6", nodeSelector=label)
    await bench.until_unschedulable("large", 2)
    await story.apply_policy(label)
    plan = await story.plan_in("Done")
    filled = [slot["pod"]["uid"] for slot in plan["status"]["slots"]]
    assert len(filled) == len(set(filled)) == 4
    assert set((await bench.bound("large")).values()) == {1}
    assert sorted((await bench.bound("small")).values()) == [2, 2]
    evicted = [step["podUID"] for step in plan["status"]["steps"] if "podUID" in step]
    assert len(evicted) == len(set(evicted))


async def test_a_plan_that_waits_for_a_step_it_does_not_have_is_ended_and_keeps_nothing_closed(story: Story) -> None:
    bench = story.bench
    (node,) = await bench.nodes(1, cpu="8", labels={"story": bench.namespace})
    spec = {
        "policy": story.policy,
        "approval": "Approved",
        "slots": [{"id": "k001", "class": {"controllerUid": "abc", "requests": "00"}, "node": node}],
        "steps": [
            {
                "id": "s001",
                "action": "Place",
                "pod": {"namespace": bench.namespace, "name": "x", "uid": "u1"},
                "node": node,
                "slot": "k001",
                "after": ["s999"],
            }
        ],
    }
    name = f"{bench.namespace}-plan"
    document = {"apiVersion": "stowage.dev/v1alpha1", "kind": "PackingPlan", "metadata": {"name": name}, "spec": spec}
    await bench.create(paths.PACKING_PLANS, document)
    plan = await story.plan_in("Aborted")
    assert plan["status"]["reason"] == "InvalidSpec"
    assert "s999" in plan["status"]["message"]
    await bench.deployment("guest", 1, cpu="6", nodeSelector={"story": bench.namespace})
    await bench.until_ready("guest", 1)
