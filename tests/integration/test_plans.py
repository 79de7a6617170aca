"""Plans carried out by real processes on a real control plane."""

from __future__ import annotations

from typing import Any

import pytest

from harness.waiting import always, eventually
from harness.workbench import Document, Workbench
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

    async def begin(self, *, budget: Document | None = None, **spec: Any) -> None:
        bench = self.bench
        label = {"story": bench.namespace}
        self.nodes = await bench.nodes(2, cpu="8", labels=label)
        await bench.deployment("small", 2, cpu="3", nodeSelector=label, topologySpreadConstraints=[])
        await bench.until_ready("small", 2)
        assert set((await bench.bound("small")).values()) == {1}, "the scheduler spreads pods over empty nodes"
        if budget is not None:
            await bench.disruption_budget("small", **budget)
        await bench.replica_set("large", 1, cpu="6", nodeSelector=label)
        await bench.until_unschedulable("large", 1)
        document = {
            "apiVersion": "stowage.dev/v1alpha1",
            "kind": "PackingPolicy",
            "metadata": {"name": self.policy},
            "spec": {**QUICK, "nodeSelector": label, **spec},
        }
        await bench.create(paths.PACKING_POLICIES, document)

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

    async def policy_now(self) -> Document:
        return await self.bench.api.get(paths.packing_policy(self.policy))


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


async def test_nothing_happens_before_a_person_approves(story: Story) -> None:
    await story.begin(mode="Recommend")
    plan = await story.plan_in("Proposed")
    uids = {pod["metadata"]["uid"] for pod in await story.bench.pods("small")}

    async def untouched() -> bool:
        return {pod["metadata"]["uid"] for pod in await story.bench.pods("small")} == uids

    await always(untouched, for_seconds=2)
    await story.approve(plan)
    await story.plan_in("Done")
    await story.bench.until_ready("large", 1)
