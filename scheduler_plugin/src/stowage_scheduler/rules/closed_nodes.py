"""Nodes with a pod that nobody could read: what room is left there is not known.

The builder leaves such nodes out of what a class may use; this checks that none slipped through.
"""

from __future__ import annotations

from collections.abc import Iterator

from stowage_scheduler.rules.rule import Outcome, Rule, Violation


class ClosedNodes(Rule):
    """Nothing arrives where the room is not known."""

    name = "ClosedNodes"

    def check(self, outcome: Outcome) -> Iterator[Violation]:
        """Arrivals on nodes that are closed for them."""
        unread = {rejected.node for rejected in outcome.snapshot.rejected}
        for pod, node in outcome.arrivals:
            if node is not None and node.name in unread:
                yield Violation(self.name, pod.key, f"node {node.name} has a pod that could not be read")
