"""Plans carried out by real processes on a real control plane."""

from __future__ import annotations

from typing import Any

import pytest

from harness.waiting import always, eventually
from harness.workbench import Document, Workbench, condition
from stowage.transport import paths

QUICK: Document = {
    "mode": "Enforce",
    "trigger": {"quiet": "200ms", "longest": "2s", "unschedulableFor": "500ms"},
    "budget": {"time": "2s", "certifyWithin": "500ms"},
    "disruption": {"minPodAge": "0s", "ownerSettled": "0s"},
}

pytestmark = pytest.mark.usefixtures("extender", "operator")


class Story:
    """Two nodes of 8 CPUs with one small pod each, so that a pod of 6 CPUs waits until one of them moves.

    The two small pods fit together on one node.
    """

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self.policy = f"p-{bench.namespace}"
        self.nodes: list[str] = []

    async def begin(self, **spec: Any) -> None:
        bench = self.bench
        label = {"story": bench.namespace}
        self.nodes = await bench.nodes(2, cpu="8", labels=label)
        await bench.deployment("small", 2, cpu="3", nodeSelector=label)
        await bench.until_ready("small", 2)
        assert set((await bench.bound("small")).values()) == {1}, "the scheduler spreads pods over empty nodes"
        await bench.replica_set("large", 1, cpu="6", nodeSelector=label)
        await bench.until_unschedulable("large", 1)
        await self.apply_policy(label, **spec)

    async def apply_policy(self, label: Document, **spec: Any) -> None:
        document = {
            "apiVersion": "stowage.dev/v1alpha1",
            "kind": "PackingPolicy",
            "metadata": {"name": self.policy},
            "spec": {**QUICK, "nodeSelector": label, **spec},
        }
        await self.bench.create(paths.PACKING_POLICIES, document)

    async def plans(self) -> list[Document]:
        items: list[Document] = (await self.bench.api.get(paths.PACKING_PLANS))["items"]
        return [plan for plan in items if plan["spec"]["policy"] == self.policy]

    async def plan_in(self, *phases: str, timeout_seconds: float = 30) -> Document:
        """The newest plan, once it is in one of the phases."""

        async def found() -> Document:
            plans = await self.plans()
            assert plans, "no plan yet"
            plan = max(plans, key=lambda plan: str(plan["metadata"]["name"]))
            phase = plan.get("status", {}).get("phase")
            assert phase in phases, f"{plan['metadata']['name']}: {phase} {plan.get('status', {}).get('message')}"
            return plan

        return await eventually(found, timeout_seconds=timeout_seconds, what=f"a plan is {' or '.join(phases)}")

    async def approve(self, plan: Document, approval: str = "Approved") -> None:
        await self.bench.api.merge_patch(paths.packing_plan(plan["metadata"]["name"]), {"spec": {"approval": approval}})

    async def held_back(self) -> Document:
        """A running plan whose first eviction is held back by a budget that came after the plan; the plan."""
        await self.begin(mode="Recommend")
        plan = await self.plan_in("Proposed")
        await self.bench.disruption_budget("small", minAvailable=2)
        await self.budget_allows(0)
        await self.approve(plan)

        async def blocked() -> Document:
            plan = await self.plan_in("Running")
            step = plan["status"]["steps"][0]
            assert (step["state"], step.get("reason")) == ("Waiting", "DisruptionBudget"), step
            return plan

        return await eventually(blocked, what="the first eviction waits for its budget")

    async def let_go(self) -> None:
        """Relax the budget that holds the plan back."""
        path = paths.named(paths.in_namespace(paths.DISRUPTION_BUDGETS, self.bench.namespace), "small")
        await self.bench.api.merge_patch(path, {"spec": {"minAvailable": 1}})

    async def budget_allows(self, disruptions: int) -> None:
        path = paths.named(paths.in_namespace(paths.DISRUPTION_BUDGETS, self.bench.namespace), "small")

        async def allows() -> bool:
            budget = await self.bench.api.get(path)
            status = budget.get("status", {})
            fresh = status.get("observedGeneration") == budget["metadata"]["generation"]
            return fresh and status.get("disruptionsAllowed") == disruptions

        await eventually(allows, what=f"the budget allows {disruptions} disruptions")

    async def uids(self, app: str) -> set[str]:
        return {pod["metadata"]["uid"] for pod in await self.bench.pods(app)}

    async def untouched(self, app: str, *, for_seconds: float) -> None:
        before = await self.uids(app)

        async def same() -> bool:
            return await self.uids(app) == before

        await always(same, for_seconds=for_seconds)


@pytest.fixture
async def story(workbench: Workbench) -> Story:
    return Story(workbench)


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
    events = (await story.bench.api.get(paths.events(story.bench.namespace)))["items"]
    ours = {event["reason"] for event in events if event.get("reportingController") == "stowage.dev/operator"}
    assert ours == {"Moving", "Placed"}
    policy = await story.bench.api.get(paths.packing_policy(story.policy))
    assert policy["status"]["lastPlan"] == plan["metadata"]["name"]


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
    ended = await story.plan_in("Aborted")
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
    ended = await story.plan_in("Superseded")
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
    await story.bench.until_ready("late", 1, timeout_seconds=15)
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
