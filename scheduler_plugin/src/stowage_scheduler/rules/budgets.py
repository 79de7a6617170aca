"""PodDisruptionBudgets, so that no plan asks for an eviction that the API server would refuse for ever.

A moved pod is down until its replacement is Ready, one after the other; an evicted pod stays down. So
under a budget that allows `a` disruptions a plan may evict at most `a` pods, and move any number of
them one by one as long as one disruption is left over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from stowage_scheduler.counted import counted
from stowage_scheduler.kube import budgets as by_labels
from stowage_scheduler.rules.rule import Outcome, Rule, Violation

if TYPE_CHECKING:
    from stowage_scheduler.solve.model import CountModel


class Budgets(Rule):
    """Evictions fit into each budget, and moves leave room for one more."""

    name = "Budgets"
    of_places = False

    def constrain(self, model: CountModel) -> None:
        """Two rows per budget: evictions up to what is allowed; moves only while one disruption is left."""
        problem = model.problem
        for index, budget in enumerate(problem.budgets):
            covered = [c for c in model.classes if index in problem.classes[c].budgets]
            if not covered:
                continue
            lost = [(1, model.lost[c]) for c in covered if c in model.lost]
            leaving_outside, lost_outside = model.outside_budget(index)
            model.at_most(lost, budget.allowed - lost_outside)
            # leaving - lost <= all running * (allowed - lost), written as one row
            most = sum(c.running_total for c in problem.covered_by[index])
            stays = [(n, c) for c, n in model.stay if c in covered]
            running = sum(problem.classes[c].running[n] for n, c in stays)
            terms = [(-1, model.stay[c, n]) for n, c in stays] + [(most - 1, variable) for _, variable in lost]
            model.at_most(terms, most * (budget.allowed - lost_outside) - running - leaving_outside + lost_outside)

    def check(self, outcome: Outcome) -> Iterator[Violation]:
        """Budgets that the plan would break or wait for without end."""
        lost: Counter[str] = Counter()
        moved: Counter[str] = Counter()
        allowed: dict[str, int] = {}
        budgets = by_labels.Budgets(outcome.snapshot.budgets)
        for pod in outcome.departures:
            for budget in budgets.of(pod):
                name = f"{budget.namespace}/{budget.name}"
                allowed[name] = budget.disruptions_allowed
                (moved if pod.uid in outcome.after else lost)[name] += 1
        for name, limit in allowed.items():
            if lost[name] > limit or (moved[name] and lost[name] >= limit):
                asked = f"{counted(lost[name], 'eviction')} and {counted(moved[name], 'move')}"
                yield Violation(self.name, name, f"{asked}, {counted(limit, 'disruption')} allowed")
