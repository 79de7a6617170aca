"""Nodes that are being drained: nobody comes, and everybody who may leave does, or nobody does.

The builder closes such nodes; this checks the finished plan by the names of the nodes alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from stowage_scheduler.rules.rule import Outcome, Rule, Violation


class DrainedNodes(Rule):
    """Nothing arrives on a node that is drained."""

    name = "DrainedNodes"

    def check(self, outcome: Outcome) -> Iterator[Violation]:
        """Arrivals on drained nodes, and pods that get a place though the drain does not speak of them."""
        drain = outcome.options.drain
        if drain is None:
            return
        for pod, node in outcome.arrivals:
            if node is not None and node.name in drain.nodes:
                yield Violation(self.name, pod.key, f"node {node.name} is being drained")
            if pod.node is None:
                yield Violation(self.name, pod.key, "waits, and a drain has no place for it")
