"""Temporary places on a real control plane: two pods under one disruption change places, and one goes over a third."""

from __future__ import annotations

import signal
import uuid
from collections import Counter

import pytest

from harness.story import Story
from harness.waiting import eventually
from harness.workbench import Document, Workbench
from integration.conftest import SHORT_TERMS, Start
from stowage.demo.processes import ManagedProcess, free_port
from stowage.transport import paths

WEB = {"tier": "web"}


class Ring(Story):
    """Three full nodes whose only arrangement with room for all goes over n3, for one pod of `web` may be down.

    n1 (8): big (6); n2 (7): small (5); n3 (7): tiny (1). `waits` (3) needs n1 and `last` (7) needs n3.
    """

    keeps_leavers = False  # whether pods of `web` that are evicted stay on their nodes until `let_leavers_go`

    async def begin(self, **spec: object) -> None:
        bench = self.bench
        label = {"story": bench.namespace}
        pods: Document = {"scheduler_name": self.scheduler_name, "nodeSelector": label}
        for host, cpu, app, size, labels in (
            ("n3", "7", "tiny", "1", {}),
            ("n2", "7", "small", "5", WEB),
            ("n1", "8", "big", "6", WEB),
        ):
            self.nodes += await bench.nodes(1, cpu=cpu, labels={**label, "host": host})
            for other in self.nodes[:-1]:
                await self._cordon(other, cordoned=True)
            await bench.replica_set(app, 1, cpu=size, labels=labels, **pods)
            await bench.until_ready(app, 1)
        for node in self.nodes:
            await self._cordon(node, cordoned=False)
        await bench.disruption_budget("web", selector={"matchLabels": WEB}, minAvailable=1)
        for app, size, host in (("waits", "3", "n1"), ("last", "7", "n3")):
            await bench.replica_set(app, 1, cpu=size, **{**pods, "nodeSelector": {**label, "host": host}})
            await bench.until_unschedulable(app, 1)
        await self._budget_allows_one()
        if self.keeps_leavers:
            await self._finalize(["test.stowage.dev/stays"])
        await self.apply_policy(label, **spec)

    async def let_leavers_go(self) -> None:
        await self._finalize(None)

    async def _finalize(self, finalizers: list[str] | None) -> None:
        for app in ("big", "small"):
            for pod in await self.bench.pods(app):
                path = paths.pod(self.bench.namespace, pod["metadata"]["name"])
                await self.bench.api.merge_patch(path, {"metadata": {"finalizers": finalizers}})

    async def _cordon(self, node: str, *, cordoned: bool) -> None:
        await self.bench.api.merge_patch(paths.node(node), {"spec": {"unschedulable": cordoned}})

    async def _budget_allows_one(self) -> None:
        path = paths.named(paths.in_namespace(paths.DISRUPTION_BUDGETS, self.bench.namespace), "web")

        async def allows() -> bool:
            return bool((await self.bench.api.get(path)).get("status", {}).get("disruptionsAllowed") == 1)

        await eventually(allows, what="the budget allows one disruption")

    async def everybody_has_a_place(self, plan: Document) -> None:
        n3, n2, n1 = self.nodes
        for app, node in (("small", n1), ("waits", n1), ("big", n2), ("tiny", n2), ("last", n3)):
            await self.bench.until_ready(app, 1)
            assert await self.bench.bound(app) == {node: 1}, app
        steps = {step["id"]: step for step in plan["spec"]["steps"]}
        done = {entry["id"]: entry for entry in plan["status"]["steps"]}
        [onward] = [step for step in steps.values() if "replacementOf" in step]
        assert onward["node"] == n3
        assert {entry["state"] for entry in done.values()} == {"Done"}
        evicted = [done[step["id"]]["podUID"] for step in steps.values() if step["action"] == "Evict"]
        assert max(Counter(evicted).values()) == 1, "nobody is evicted twice"
        assert done[onward["id"]]["podUID"] != onward["pod"]["uid"], "the intent names the pod that came"


@pytest.mark.usefixtures("extender", "operator")
async def test_an_extender_steers_over_a_temporary_place(workbench: Workbench) -> None:
    ring = Ring(workbench, steering="Extender")
    await ring.begin()
    await ring.everybody_has_a_place(await ring.plan_in("Done"))


@pytest.mark.usefixtures("operator")
async def test_bindings_lead_over_a_temporary_place(workbench: Workbench) -> None:
    ring = Ring(workbench, scheduler_name="default-scheduler", steering="Bind")
    await ring.begin()
    await ring.everybody_has_a_place(await ring.plan_in("Done"))


@pytest.mark.usefixtures("extender")
async def test_a_new_leader_sends_on_who_stands_in_a_temporary_place(workbench: Workbench, start: Start) -> None:
    lease_name = f"stowage-operator-{uuid.uuid4().hex[:6]}"

    def lead() -> ManagedProcess:
        port = str(free_port())
        arguments = ("--metrics-port", port, "--lease-name", lease_name, "--solver-workers", "1")
        return start("operator", *arguments, *SHORT_TERMS, ready_url=f"http://127.0.0.1:{port}/readyz")

    first = lead()
    ring = Ring(workbench, steering="Extender")
    ring.keeps_leavers = True  # or the place is left again before anybody looks
    await ring.begin()
    n3 = ring.nodes[0]

    async def stands_there() -> bool:
        return n3 in await workbench.bound("big") | await workbench.bound("small")

    await eventually(stands_there, what="one of them is in its temporary place")
    first.signal(signal.SIGKILL)
    lead()
    await ring.let_leavers_go()
    await ring.everybody_has_a_place(await ring.plan_in("Done", timeout_seconds=120))
