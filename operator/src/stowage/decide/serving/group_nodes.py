"""Nodes that are being emptied: pods of groups that stand there have to leave, and do so before they are evicted.

An eviction that a disruption budget refuses leaves no trace, so what announces it counts: `kubectl drain` cordons
first, autoscalers and providers write taints. CloudNativePG moves its primaries by the same marks.
"""

from __future__ import annotations

from typing import Final

from stowage.decide.training.rules import MAINTENANCE_TAINTS
from stowage_scheduler.cluster import Node, Pod
from stowage_scheduler.kube.matching import UNSCHEDULABLE_TAINT, tolerates

_MARKS: Final = MAINTENANCE_TAINTS | {UNSCHEDULABLE_TAINT.key}


def has_to_leave(pod: Pod, node: Node | None) -> bool:
    """Whether a pod stands on a node that is being emptied.

    One that tolerates the mark could come back to the same node, and be moved for ever: it stays.

    Args:
        pod: which one.
        node: where it stands; None: nowhere, or nobody knows the node.
    """
    if node is None:
        return False
    marks = [one for one in node.taints if one.key in _MARKS]
    if node.unschedulable:
        marks.append(UNSCHEDULABLE_TAINT)
    return any(not any(tolerates(given, mark) for given in pod.tolerations) for mark in marks)
