"""A policy at work on a real control plane: two small pods in the way of a large one."""

from __future__ import annotations

from typing import Any

from harness.waiting import PATIENCE_SECONDS, always, eventually
from harness.workbench import Document, Workbench
from stowage.transport import paths

QUICK: Document = {
    "mode": "Enforce",
    "trigger": {"quiet": "200ms", "longest": "2s", "unschedulableFor": "500ms"},
    "budget": {"time": "2s", "certifyWithin": "500ms"},
    "disruption": {"minPodAge": "0s", "ownerSettled": "0s"},
}


class Story:
    """Two nodes of 8 CPUs with one small pod each, so that a pod of 6 CPUs waits until one of them moves.

    The two small pods fit together on one node.
    """

    def __init__(self, bench: Workbench, scheduler_name: str = "stowage", steering: str = "Auto") -> None:
        self.bench = bench
        self.scheduler_name = scheduler_name
        self.steering = steering
        self.policy = f"p-{bench.namespace}"
        self.nodes: list[str] = []

    async def begin(self, **spec: Any) -> None:
        bench = self.bench
        label = {"story": bench.namespace}
        self.nodes = await bench.nodes(2, cpu="8", labels=label)
        pods: Document = {"nodeSelector": label, "scheduler_name": self.scheduler_name}
        await bench.deployment("small", 2, cpu="3", **pods)
        await bench.until_ready("small", 2)
        assert set((await bench.bound("small")).values()) == {1}, "the scheduler spreads pods over empty nodes"
        await bench.replica_set("large", 1, cpu="6", **pods)
        await bench.until_unschedulable("large", 1)
        await self.apply_policy(label, **spec)

    async def apply_policy(self, label: Document, **spec: Any) -> None:
        fixed = {"nodeSelector": label, "schedulerNames": [self.scheduler_name], "steering": self.steering}
        document = {
            "apiVersion": "stowage.dev/v1alpha1",
            "kind": "PackingPolicy",
            "metadata": {"name": self.policy},
            "spec": {**QUICK, **fixed, **spec},
        }
        await self.bench.create(paths.PACKING_POLICIES, document)

    async def plans(self) -> list[Document]:
        items: list[Document] = (await self.bench.api.get(paths.PACKING_PLANS))["items"]
        return [plan for plan in items if plan["spec"]["policy"] == self.policy]

    async def plan_in(self, *phases: str, timeout_seconds: float = PATIENCE_SECONDS) -> Document:
        """The newest plan, once it is in one of the phases; where another one may follow at once, see `ended`."""

        async def found() -> Document:
            plans = await self.plans()
            assert plans, "no plan yet"
            plan = max(plans, key=lambda plan: str(plan["metadata"]["name"]))
            phase = plan.get("status", {}).get("phase")
            assert phase in phases, f"{plan['metadata']['name']}: {phase} {plan.get('status', {}).get('message')}"
            return plan

        try:
            return await eventually(found, timeout_seconds=timeout_seconds, what=f"a plan is {' or '.join(phases)}")
        except AssertionError as error:
            raise AssertionError(f"{error}; pods: {await self._pods_in_words()}") from error

    async def ended(self, plan: Document, *phases: str, timeout_seconds: float = PATIENCE_SECONDS) -> Document:
        """A plan, once it is in one of the phases, whatever plan came after it."""

        async def found() -> Document:
            now = await self.bench.api.get(paths.packing_plan(plan["metadata"]["name"]))
            assert now["status"]["phase"] in phases, now["status"]
            return now

        return await eventually(found, timeout_seconds=timeout_seconds, what=f"the plan is {' or '.join(phases)}")

    async def _pods_in_words(self) -> list[str]:
        """Who is where, and what the scheduler says of those that are nowhere."""
        told = []
        for pod in await self.bench.pods():
            scheduled = [one for one in pod["status"].get("conditions", ()) if one["type"] == "PodScheduled"]
            words = scheduled[0].get("message", "") if scheduled else "the scheduler has said nothing"
            told.append(f"{pod['metadata']['name']} {pod['spec'].get('nodeName') or words}")
        return told

    async def approve(self, plan: Document, approval: str = "Approved") -> None:
        await self.bench.api.merge_patch(paths.packing_plan(plan["metadata"]["name"]), {"spec": {"approval": approval}})

    async def held_back(self, **spec: Any) -> Document:
        """A running plan whose first eviction is held back by a budget that came after the plan; the plan."""
        await self.begin(mode="Recommend", **spec)
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
