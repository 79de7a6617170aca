"""A node that is not Ready receives nothing (kube-scheduler leaves that to taints, which may lag)."""

from __future__ import annotations

from collections.abc import Iterator

from stowage_scheduler.cluster import Node, Pod
from stowage_scheduler.packing import Reason
from stowage_scheduler.rules.rule import Outcome, Rule, Violation


class Readiness(Rule):
    """Nodes that are not Ready receive no pods."""

    name = "Readiness"

    def refuses(self, pod: Pod, node: Node) -> Reason | None:  # noqa: ARG002 - the same for every pod
        """NoReadyNode on a node that is not Ready."""
        return None if node.ready else Reason.NO_READY_NODE

    def check(self, outcome: Outcome) -> Iterator[Violation]:
        """Arrivals on unknown nodes or nodes that are not Ready."""
        for pod, node in outcome.arrivals:
            if node is None:
                yield Violation(self.name, pod.key, f"node {outcome.after[pod.uid]} does not exist")
            elif not node.ready:
                yield Violation(self.name, pod.key, f"node {node.name} is not Ready")
