"""What the demo tells at its end: the numbers, the table, result.json, and whether the plan was kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from msgspec import Struct
from rich.table import Table

from stowage.api.packing_plan import PackingPlan
from stowage.api.packing_plan_status import StepState
from stowage.demo.watching import Sight, at_or_above
from stowage_scheduler.counted import counted
from stowage_scheduler.packing import Action


class Tier(Struct, frozen=True):
    """Pods of one priority: `pending_*` count that priority alone, the others that priority and above."""

    priority: int
    pending_before: int
    pending_after: int
    running_before: int
    running_after: int
    planned: int
    bound: int

    @property
    def kept(self) -> bool:
        """Whether at least as many pods run as the plan placed."""
        return self.running_after >= self.planned

    @property
    def gap(self) -> int:
        """How many more pods than now might run in a better plan; 0: proved that none can."""
        return max(0, self.bound - self.running_after)


class Report(Struct, frozen=True):
    """The demo in numbers. `solve_seconds` and `execute_seconds` are sums over all plans."""

    title: str
    tiers: tuple[Tier, ...]  # highest priority first
    plans: int
    moves: int
    evictions: int
    certified: bool
    solve_seconds: float
    execute_seconds: float
    total_seconds: float

    @property
    def pending_before(self) -> int:
        """Pods that kube-scheduler left pending."""
        return sum(tier.pending_before for tier in self.tiers)

    @property
    def pending_after(self) -> int:
        """Pods that stay pending."""
        return sum(tier.pending_after for tier in self.tiers)

    @property
    def kept(self) -> bool:
        """Whether, at every priority, at least as many pods run as the plan placed."""
        return all(tier.kept for tier in self.tiers)

    def to_document(self) -> dict[str, Any]:
        """The numbers as JSON values; maps by priority count that priority and above."""
        return {
            "scenario": self.title,
            "pendingBefore": self.pending_before,
            "pendingAfter": self.pending_after,
            "pendingBeforeByPriority": {str(tier.priority): tier.pending_before for tier in self.tiers},
            "pendingAfterByPriority": {str(tier.priority): tier.pending_after for tier in self.tiers},
            "runningBefore": {str(tier.priority): tier.running_before for tier in self.tiers},
            "runningAfter": {str(tier.priority): tier.running_after for tier in self.tiers},
            "placedByPriority": {str(tier.priority): tier.planned for tier in self.tiers},
            "bound": {str(tier.priority): tier.bound for tier in self.tiers},
            "gap": {str(tier.priority): tier.gap for tier in self.tiers},
            "plans": self.plans,
            "moves": self.moves,
            "evictions": self.evictions,
            "certified": self.certified,
            "kept": self.kept,
            "solveSeconds": round(self.solve_seconds, 3),
            "executeSeconds": round(self.execute_seconds, 3),
            "totalSeconds": round(self.total_seconds, 1),
        }

    def write(self, file: Path) -> None:
        """Writes result.json."""
        file.write_text(json.dumps(self.to_document(), indent=2) + "\n", encoding="utf-8")

    def table(self) -> Table:
        """The table for people."""
        table = Table("priority", box=None, padding=(0, 2, 0, 0))
        for head in ("pending", "running, this and above", "planned", "at most"):
            table.add_column(head, justify="right")
        table.add_column("gap")
        for tier in self.tiers:
            table.add_row(
                str(tier.priority),
                f"{tier.pending_before} → {tier.pending_after}",
                f"{tier.running_before} → {tier.running_after}",
                str(tier.planned),
                str(tier.bound),
                str(tier.gap) if tier.gap else "0 (proved best)",
            )
        return table

    def lines(self) -> list[str]:
        """What the table does not say."""
        verdict = "certified: no plan places more pods" if self.certified else "not certified: see the gaps above"
        kept = "every pod that the plan placed runs" if self.kept else "FEWER pods run than the plan placed"
        counts = ((self.moves, "move"), (self.evictions, "eviction"), (self.plans, "plan"))
        cost = ", ".join(counted(*one) for one in counts)
        return [
            f"pending {self.pending_before} → {self.pending_after}, {cost}; {kept}",
            f"{verdict}; {self.solve_seconds:.1f} s to solve, {self.execute_seconds:.1f} s to execute",
        ]


def report(title: str, before: Sight, after: Sight, *, total_seconds: float) -> Report:
    """The numbers of a demo that has come to rest."""
    newest = next((plan for plan in reversed(after.plans) if plan.status.placed_by_priority), None)
    promised = {one.priority: one for one in newest.status.placed_by_priority} if newest else {}
    priorities = sorted({*before.running, *before.pending, *after.running, *after.pending}, reverse=True)
    tiers = []
    for priority in priorities:
        running_before = at_or_above(before.running, priority)
        promise = promised.get(priority)
        asked = running_before + at_or_above(before.pending, priority)
        tiers.append(
            Tier(
                priority=priority,
                pending_before=before.pending.get(priority, 0),
                pending_after=after.pending.get(priority, 0),
                running_before=running_before,
                running_after=at_or_above(after.running, priority),
                # without a plan nothing was promised beyond what ran, and nothing is proved
                planned=promise.after if promise else running_before,
                bound=promise.bound if promise else asked,
            )
        )
    return Report(
        title=title,
        tiers=tuple(tiers),
        plans=len(after.plans),
        moves=sum(_evictions(plan, with_slot=True) for plan in after.plans),
        evictions=sum(_evictions(plan, with_slot=False) for plan in after.plans),
        certified=newest.status.certified if newest else not before.pending,
        solve_seconds=sum(_solve_seconds(plan) for plan in after.plans),
        execute_seconds=sum(_execute_seconds(plan) for plan in after.plans),
        total_seconds=total_seconds,
    )


def _evictions(plan: PackingPlan, *, with_slot: bool) -> int:
    """Evictions that were carried out, of pods that have a slot to go to or of pods that have none."""
    done = {step.id for step in plan.status.steps if step.state is StepState.DONE}
    steps = (step for step in plan.spec.steps if step.action is Action.EVICT and step.id in done)
    return sum(1 for step in steps if (step.slot is not None) == with_slot)


def _solve_seconds(plan: PackingPlan) -> float:
    return float(plan.status.solve.seconds) if plan.status.solve else 0.0


def _execute_seconds(plan: PackingPlan) -> float:
    status = plan.status
    if status.started_at is None or status.finished_at is None:
        return 0.0
    return (status.finished_at - status.started_at).total_seconds()
