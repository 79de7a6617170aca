"""Nodes that facts about other pods close: another pod's anti-affinity, or a pod that nobody could read.

The builder leaves such nodes out of what a class may use; this checks that none slipped through.
"""

from __future__ import annotations

from collections.abc import Iterator

from stowage_scheduler.entanglement import ClosedDomains
from stowage_scheduler.rules.rule import Outcome, Rule, Violation


class ClosedNodes(Rule):
    """Nothing arrives where a standing pod's anti-affinity forbids it, or where the room is not known."""

    name = "ClosedNodes"

    def check(self, outcome: Outcome) -> Iterator[Violation]:
        """Arrivals on nodes that are closed for them."""
        unread = {rejected.node for rejected in outcome.snapshot.rejected}
        closed = ClosedDomains(outcome.snapshot, outcome.nodes)
        for pod, node in outcome.arrivals:
            if node is None:
                continue
            if node.name in unread:
                yield Violation(self.name, pod.key, f"node {node.name} has a pod that could not be read")
            if node.name in closed.closed_nodes(pod):
                yield Violation(self.name, pod.key, f"another pod's anti-affinity closes node {node.name}")
