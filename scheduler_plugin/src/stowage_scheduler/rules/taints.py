"""Taints NoSchedule and NoExecute, and `spec.unschedulable` (plugins TaintToleration, NodeUnschedulable)."""

from __future__ import annotations

from collections.abc import Iterator

from stowage_scheduler.cluster import Node, Pod
from stowage_scheduler.kube.matching import tolerates_node
from stowage_scheduler.packing import Reason
from stowage_scheduler.rules.rule import Outcome, Rule, Violation


class Taints(Rule):
    """A pod goes only to nodes whose taints it tolerates; cordoning counts as a taint."""

    name = "Taints"

    def refuses(self, pod: Pod, node: Node) -> Reason | None:
        """TaintsNotTolerated on a node with a taint that the pod does not tolerate."""
        return None if tolerates_node(pod, node) else Reason.TAINTS_NOT_TOLERATED

    def check(self, outcome: Outcome) -> Iterator[Violation]:
        """Arrivals on nodes whose taints they do not tolerate."""
        for pod, node in outcome.arrivals:
            if node is not None and not tolerates_node(pod, node):
                yield Violation(self.name, pod.key, f"does not tolerate the taints of node {node.name}")
