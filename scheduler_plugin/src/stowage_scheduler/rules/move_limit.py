"""The policy's cap on moves and evictions of one plan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from stowage_scheduler.counted import counted
from stowage_scheduler.rules.rule import Outcome, Rule, Violation

if TYPE_CHECKING:
    from stowage_scheduler.solve.model import CountModel


class MoveLimit(Rule):
    """Moves and evictions together stay below the cap."""

    name = "MoveLimit"
    of_places = False

    def constrain(self, model: CountModel) -> None:
        """One row over all running pods of the model; those outside count as they are."""
        limit = model.problem.max_moves
        if limit is not None:
            running = sum(model.problem.classes[c].running[n] for c, n in model.stay)
            model.at_least([(1, stay) for stay in model.stay.values()], running + model.disrupted_outside - limit)

    def check(self, outcome: Outcome) -> Iterator[Violation]:
        """More departures than the cap."""
        limit, drain = outcome.options.max_moves, outcome.options.drain
        asked_for = drain.nodes if drain is not None else frozenset[str]()
        asked = sum(pod.node not in asked_for for pod in outcome.departures)
        if limit is not None and asked > limit:
            words = counted(asked, "move or eviction", "moves and evictions")
            yield Violation(self.name, "plan", f"{words}, at most {limit} allowed")
