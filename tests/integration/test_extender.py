"""An unmodified kube-scheduler with our extender, steered by PackingPlans written by hand."""

from __future__ import annotations

import itertools
import signal
from collections import Counter
from typing import Any

import msgspec

from harness.waiting import always, eventually
from harness.workbench import Document, Workbench, condition
from stowage.api.names import RELEASED_ANNOTATION
from stowage.api.packing_plan import Approval, PackingPlan, PackingPlanSpec, PlanSlot
from stowage.api.resource import Metadata
from stowage.demo.processes import ManagedProcess, free_port
from stowage.run.extender_feed import read_pod
from stowage.transport import paths
from stowage_scheduler.slots import Slot, slot_class

_numbers = itertools.count(1)


async def plan_for(bench: Workbench, app: str, *nodes: str, approval: Approval = Approval.APPROVED) -> str:
    """Writes a plan with one open slot for a pod of `app` on each of the nodes; its name."""
    sample, *_ = await bench.pods(app)
    pod_class = slot_class(read_pod(msgspec.json.encode(sample)))
    slots = [Slot(f"k{number:03}", pod_class, node) for number, node in enumerate(nodes, 1)]
    spec = PackingPlanSpec(policy="by-hand", approval=approval, slots=tuple(PlanSlot.of(slot) for slot in slots))
    name = f"by-hand-20260101-101500-{next(_numbers):04}"
    await bench.create(paths.PACKING_PLANS, PackingPlan(metadata=Metadata(name=name), spec=spec).to_document())
    opened = [{"id": slot.id, "state": "Open"} for slot in slots]
    await bench.api.merge_patch(paths.packing_plan_status(name), {"status": {"slots": opened}})
    return name


async def acknowledged(bench: Workbench, plan: str) -> list[str]:
    """Who keeps the slots of a plan."""
    document = await bench.api.get(paths.packing_plan(plan))
    entries: list[dict[str, Any]] = document.get("status", {}).get("extenders", [])
    return [entry["holder"] for entry in entries if entry["observedPlan"] == document["metadata"]["uid"]]


async def until_acknowledged(bench: Workbench, plan: str, count: int = 1) -> list[str]:
    """Waits for the handshake."""

    async def enough() -> list[str]:
        holders = await acknowledged(bench, plan)
        return holders if len(holders) >= count else []

    return await eventually(enough, what=f"{count} extenders know {plan}")


async def until_bound(bench: Workbench, app: str, places: dict[str, int]) -> None:
    """Waits until the pods of an app are bound like that, and no others are."""

    async def bound() -> bool:
        found = await bench.bound(app)
        assert found == Counter(places), f"{app} is on {dict(found)}"
        return True

    await eventually(bound, what=f"{app} on {places}")


def message(pod: Document) -> str:
    """Why its scheduler leaves a pod pending."""
    return str(condition(pod, "PodScheduled").get("message", ""))


async def test_planned_pods_get_their_slots_outsiders_do_not_and_are_woken_at_the_end(
    workbench: Workbench, extender: ManagedProcess
) -> None:
    await workbench.replica_set("web", 2)
    await workbench.replica_set("other", 3)
    await workbench.until_unschedulable("web", 2)
    await workbench.until_unschedulable("other", 3)
    prefix = f"{workbench.namespace}-"
    kept, free = f"{prefix}1", f"{prefix}2"
    plan = await plan_for(workbench, "web", kept, kept, kept)
    await until_acknowledged(workbench, plan)

    await workbench.nodes(2, prefix=prefix, cpu="4")
    await until_bound(workbench, "web", {kept: 2})
    await until_bound(workbench, "other", {free: 3})
    await workbench.scale(paths.REPLICA_SETS, "other", 6)
    await workbench.until_unschedulable("other", 2)

    async def refused() -> bool:
        pending = [pod for pod in await workbench.pods("other") if "nodeName" not in pod["spec"]]
        return len(pending) == 2 and all(f"reserved by plan {plan}" in message(pod) for pod in pending)

    await eventually(refused)
    await always(refused, for_seconds=1.5)  # one slot is open: its node has room, but not for these

    await workbench.api.merge_patch(paths.packing_plan_status(plan), {"status": {"phase": "Done"}})

    async def woken() -> bool:  # again and again: the extender may hear of the end late
        mark = f"{plan}/{next(_numbers)}"
        await workbench.api.merge_patch(paths.node(kept), {"metadata": {"annotations": {RELEASED_ANNOTATION: mark}}})
        return await workbench.bound("other") == {free: 4, kept: 2}

    await eventually(woken, what="pods that were refused get the room that is left")
    assert extender.exit_code is None


async def test_replicas_asked_together_never_share_a_slot(workbench: Workbench, extender: ManagedProcess) -> None:
    await workbench.replica_set("web", 12)
    await workbench.until_unschedulable("web", 12)
    prefix = f"{workbench.namespace}-"
    wanted = {f"{prefix}1": 7, f"{prefix}2": 4, f"{prefix}4": 1}
    plan = await plan_for(workbench, "web", *Counter(wanted).elements())
    await until_acknowledged(workbench, plan)

    await workbench.nodes(4, prefix=prefix, cpu="32")  # room for all on each: only the slots decide

    await until_bound(workbench, "web", wanted)
    assert extender.exit_code is None


async def test_a_plan_is_acknowledged_once_approved_by_each_extender_beside_the_others(
    workbench: Workbench, extender: ManagedProcess, start: Any
) -> None:
    metrics_port = free_port()
    start(
        *("extender", "--port", "0", "--metrics-port", str(metrics_port), "--holder", "second"),
        ready_url=f"http://127.0.0.1:{metrics_port}/readyz",
    )
    await workbench.replica_set("web", 1)
    await workbench.until_unschedulable("web", 1)
    plan = await plan_for(workbench, "web", "some-node", approval=Approval.PENDING)
    other = await plan_for(workbench, "web", "some-other-node")
    assert len(await until_acknowledged(workbench, other, count=2)) == 2
    assert await acknowledged(workbench, plan) == []  # it was there first, so it has been seen by now

    await workbench.api.merge_patch(paths.packing_plan(plan), {"spec": {"approval": "Approved"}})

    assert "second" in await until_acknowledged(workbench, plan, count=2)
    assert extender.exit_code is None


async def test_without_an_extender_pods_go_anywhere(workbench: Workbench, extender: ManagedProcess) -> None:
    await workbench.replica_set("web", 1)
    await workbench.replica_set("other", 1)
    await workbench.until_unschedulable("web", 1)
    prefix = f"{workbench.namespace}-"
    await until_acknowledged(workbench, await plan_for(workbench, "web", f"{prefix}1", f"{prefix}1"))
    extender.signal(signal.SIGKILL)
    extender.wait(10)

    await workbench.nodes(1, prefix=prefix)

    await until_bound(workbench, "web", {f"{prefix}1": 1})
    await until_bound(workbench, "other", {f"{prefix}1": 1})
