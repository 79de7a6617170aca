"""Features that a pod needs of its kubelet (plugin NodeDeclaredFeatures, KEP-5328)."""

from __future__ import annotations

from collections.abc import Iterator

from stowage_scheduler.cluster import Node, Pod
from stowage_scheduler.packing import Reason
from stowage_scheduler.rules.rule import Outcome, Rule, Violation


class NodeFeatures(Rule):
    """A pod goes only to nodes that declare all features that it needs."""

    name = "NodeFeatures"

    def refuses(self, pod: Pod, node: Node) -> Reason | None:
        """NodeFeatures on a node that does not declare one of them."""
        return None if set(pod.needed_features) <= set(node.features) else Reason.NODE_FEATURES

    def check(self, outcome: Outcome) -> Iterator[Violation]:
        """Arrivals on nodes that lack a feature."""
        for pod, node in outcome.arrivals:
            if node is not None and not set(pod.needed_features) <= set(node.features):
                yield Violation(
                    self.name, pod.key, f"node {node.name} does not declare {', '.join(pod.needed_features)}"
                )
