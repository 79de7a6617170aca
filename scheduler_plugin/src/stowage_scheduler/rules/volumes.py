"""Where volumes can be used (plugins VolumeBinding and VolumeZone), and what CSI drivers attach to a node.

Claims were looked up when the snapshot was assembled (`kube.volume_resolution`). Attachments are requests like any
other (plugin NodeVolumeLimits), so the rule of resources constrains the model for them.
"""

from __future__ import annotations

from collections.abc import Iterator

from stowage_scheduler.cluster import Node, Pod
from stowage_scheduler.kube.volume_matching import volumes_admit
from stowage_scheduler.packing import Reason
from stowage_scheduler.rules.rule import Outcome, Rule, Violation


class Volumes(Rule):
    """A pod goes only to nodes that can use all of its volumes."""

    name = "Volumes"

    def refuses(self, pod: Pod, node: Node) -> Reason | None:
        """VolumeNodeAffinity on a node that a volume can not be used on."""
        return None if volumes_admit(pod.volume_needs, node) else Reason.VOLUME_NODE_AFFINITY

    def check(self, outcome: Outcome) -> Iterator[Violation]:
        """Arrivals that their volumes can not follow, or whose volumes can not be had at all."""
        for pod, node in outcome.arrivals:
            if pod.volume_obstacle:
                yield Violation(self.name, pod.key, pod.volume_obstacle)
            if node is not None and not volumes_admit(pod.volume_needs, node):
                yield Violation(self.name, pod.key, f"its volumes can not be used on node {node.name}")
