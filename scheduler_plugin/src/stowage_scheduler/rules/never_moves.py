"""Pods that never move stay where they are; pods with rules that are not modelled are not placed either."""

from __future__ import annotations

from collections.abc import Iterator

from stowage_scheduler.movability import Movability
from stowage_scheduler.rules.rule import Outcome, Rule, Violation


class NeverMoves(Rule):
    """Only pods that may move leave their node, only pods that can be planned for get one."""

    name = "NeverMoves"
    of_places = False

    def check(self, outcome: Outcome) -> Iterator[Violation]:
        """Departures of pods that never move, and arrivals of pods that are not planned for."""
        movability = Movability(outcome.snapshot, outcome.options)
        for pod in outcome.departures:
            why = movability.immovable(pod)
            if why is not None:
                yield Violation(self.name, pod.key, f"must not be moved: {why}")
        for pod, _ in outcome.arrivals:
            if pod.node is None:
                why_not = movability.unplannable(pod)
                if why_not is not None:
                    yield Violation(self.name, pod.key, f"must not be planned for: {why_not}")
