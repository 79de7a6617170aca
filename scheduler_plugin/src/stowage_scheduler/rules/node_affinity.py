"""Node selector and required node affinity (kube-scheduler plugin NodeAffinity)."""

from __future__ import annotations

from collections.abc import Iterator

from stowage_scheduler.cluster import Node, Pod
from stowage_scheduler.kube.matching import matches_node_affinity
from stowage_scheduler.packing import Reason
from stowage_scheduler.rules.rule import Outcome, Rule, Violation


class NodeAffinity(Rule):
    """A pod goes only to nodes that its selector and its required affinity name."""

    name = "NodeAffinity"

    def refuses(self, pod: Pod, node: Node) -> Reason | None:
        """NoMatchingNode on a node that does not match."""
        return None if matches_node_affinity(pod, node) else Reason.NO_MATCHING_NODE

    def check(self, outcome: Outcome) -> Iterator[Violation]:
        """Arrivals on nodes that do not match."""
        for pod, node in outcome.arrivals:
            if node is not None and not matches_node_affinity(pod, node):
                yield Violation(self.name, pod.key, f"node {node.name} does not match")
