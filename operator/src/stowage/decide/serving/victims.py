"""Which replicas of a variant go first.

The ReplicaSet controller has an order of its own: without a node, not running, not ready, then by the annotation
`pod-deletion-cost` (KEP-2255; `ActivePodsWithRanks` in kubernetes/pkg/controller/controller_utils.go). The order here
begins with the same, so what is chosen is what it removes once the annotation says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from stowage.decide.serving.service_facts import PodFact

_PHASES = {"Pending": 0, "Unknown": 1}
_RUNS = 2


def controllers_class(pod: PodFact) -> tuple[bool, int, bool]:
    """Where the ReplicaSet controller puts a pod before it looks at costs: the lowest goes first."""
    return pod.node is not None, _PHASES.get(pod.phase, _RUNS), pod.is_ready


def in_order_of_leaving(
    pods: Iterable[PodFact], requests: Mapping[str, int], free_gpus: Mapping[str, int]
) -> tuple[PodFact, ...]:
    """The pods, whoever goes first in front.

    After the controller's own classes: whoever can not start at all; whoever drains already; spares; whoever has the
    fewest requests, which is the cheapest drain (not known counts as many); whose node has the most free GPUs, so that
    rooms become large; the youngest; by name.

    Args:
        pods: of one variant.
        requests: by pod, those that run and wait.
        free_gpus: by node.
    """

    def rank(pod: PodFact) -> tuple[object, ...]:
        return (
            *controllers_class(pod),
            not pod.trouble,
            not pod.is_draining,
            not pod.is_spare,
            requests.get(pod.ref.name, math.inf),
            -free_gpus.get(pod.node or "", 0),
            -pod.created_at,
            pod.ref.name,
        )

    return tuple(sorted(pods, key=rank))
