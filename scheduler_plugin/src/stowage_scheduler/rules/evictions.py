"""Whether running pods may lose their place at all (policy `disruption.evictLowerPriority`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from stowage_scheduler.movability import Movability
from stowage_scheduler.rules.rule import Outcome, Rule, Violation

if TYPE_CHECKING:
    from stowage_scheduler.solve.model import CountModel


class Evictions(Rule):
    """With evictions switched off, every running pod ends with a place."""

    name = "Evictions"
    of_places = False

    def constrain(self, model: CountModel) -> None:
        """Forbid losses."""
        if not model.problem.may_evict:
            for variable in model.lost.values():
                model.at_most([(1, variable)], 0)

    def check(self, outcome: Outcome) -> Iterator[Violation]:
        """Pods that lose their place although none may; of a drain those that leave without a promise are exempt."""
        if outcome.options.drain is not None:
            movability = Movability(outcome.snapshot, outcome.options)
            for pod in outcome.evicted:
                if not movability.leaves_for_good(pod):
                    yield Violation(self.name, pod.key, "loses its place, but a drain finds one for everybody")
        elif not outcome.options.evict_lower_priority:
            for pod in outcome.evicted:
                yield Violation(self.name, pod.key, "loses its place, but the policy allows moves only")
