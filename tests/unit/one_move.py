"""One story, told in many ways: a pod moves from n1 to n2 to make room for one that waits."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from stowage.api.packing_plan_status import PlanPhase, StepState
from stowage.api.reasons import StepReason
from stowage.decide.execution import Advance, advance
from stowage.decide.plan_facts import PlanFacts, PolicyFacts
from stowage.decide.situation import Situation
from stowage_scheduler.cluster import Snapshot
from unit.builders import NOW, POLICY, evict, node, place, pod, replica_set, slot, snapshot

# n1 has web-1 (5 cpu) and other-1 (4 cpu) of 10; pending new-1 needs 6 cpu.
# The plan moves web-1 to n2 and places new-1 on n1 beside other-1.
WEB = pod("web-1", "n1", app="web")
NEW = pod("new-1", cpu=6, app="new", priority=10)
OTHER = pod("other-1", "n1", cpu=4, app="other")
TO_N2 = slot(1, WEB, "n2")
TO_N1 = slot(2, NEW, "n1")
MOVE = evict(1, WEB, "k001")
PLACE = place(2, NEW, TO_N1, "s001")
NODES = (node("n1"), node("n2"))
OWNERS = (replica_set("web", 1), replica_set("new", 1), replica_set("other", 1))
REPLACEMENT = pod("web-2", app="web", unschedulable_since=None)
APPROVED: dict[str, Any] = {"phase": PlanPhase.APPROVED, "epoch": 3, "approved_at": NOW - 1}
RUNNING: dict[str, Any] = {"phase": PlanPhase.RUNNING, "epoch": 3, "approved_at": NOW - 5, "started_at": NOW - 4}


def cluster(*facts: Any) -> Snapshot:
    return snapshot(*NODES, *OWNERS, *facts)


def run(
    facts: PlanFacts, seen: Snapshot, policy: PolicyFacts | None = POLICY, *, now: float = NOW, **rest: Any
) -> Advance:
    return advance(facts, Situation(seen, policy, now, epoch=3, **rest))


def after(facts: PlanFacts, step: Advance) -> PlanFacts:
    """The plan as it reads once the advance is written."""
    return structs.replace(
        facts,
        phase=step.phase,
        reason=step.reason,
        message=step.message,
        epoch=step.epoch,
        step_status=step.step_status,
        slot_status=step.slot_status,
        approved_at=step.approved_at,
        started_at=step.started_at,
        unready_at_start=step.unready_at_start,
    )


def states(step: Advance) -> dict[str, tuple[StepState, StepReason | None]]:
    return {step_id: (status.state, status.reason) for step_id, status in step.step_status.items()}


BEFORE = cluster(WEB, OTHER, NEW)
