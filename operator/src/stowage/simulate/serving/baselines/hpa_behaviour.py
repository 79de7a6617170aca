"""How fast a HorizontalPodAutoscaler lets replicas change: the default `behavior` of `autoscaling/v2`.

Up: at most 100 % or 4 pods (whichever is more) within 15 s, at once. Down: at most 100 % within 15 s, and only to the
highest recommendation of the last 300 s. Source: Kubernetes' page on the HorizontalPodAutoscaler, and
`pkg/controller/podautoscaler/horizontal.go`, whose order of steps is kept: stabilise, then limit the rate.
"""

from __future__ import annotations

import math

SYNC_SECONDS = 15.0
"""`--horizontal-pod-autoscaler-sync-period`."""
TOLERANCE = 0.1
"""`--horizontal-pod-autoscaler-tolerance`: a usage ratio so near to one changes nothing."""
_PERIOD_SECONDS = 15.0
_UP_PODS = 4
_UP_FACTOR = 2.0
_DOWN_WINDOW_SECONDS = 300.0


class HpaBehaviour:
    """Turns recommendations into replicas; remembers recommendations and changes as the controller does."""

    def __init__(self) -> None:
        self._recommended: list[tuple[float, int]] = []
        self._changed: list[tuple[float, int]] = []

    def limited(self, now: float, current: int, wanted: int) -> int:
        """Replicas from `now` (seconds) on, where `current` are asked for and `wanted` recommended."""
        if not self._recommended:
            self._recommended.append((now, current))  # a new controller begins with what it finds
        self._recommended = [one for one in self._recommended if one[0] > now - _DOWN_WINDOW_SECONDS]
        most = max([wanted, *(replicas for _, replicas in self._recommended)])
        self._recommended.append((now, wanted))
        stable = min(max(current, wanted), most)
        allowed = self._within_rate(now, current, stable)
        if allowed != current:
            self._changed.append((now, allowed - current))
        return allowed

    def _within_rate(self, now: float, current: int, stable: int) -> int:
        self._changed = [one for one in self._changed if one[0] > now - _PERIOD_SECONDS]
        at_start_of_period = current - sum(change for _, change in self._changed)
        most = max(at_start_of_period + _UP_PODS, math.ceil(at_start_of_period * _UP_FACTOR))
        return min(stable, max(most, current))


def is_tolerated(usage_ratio: float) -> bool:
    """Whether usage is so near to its target that replicas stay."""
    return 1.0 - TOLERANCE <= usage_ratio <= 1.0 + TOLERANCE


def external_metric_replicas(total: float, target_per_pod: float, pods: int) -> int:
    """Replicas for an external metric of type `AverageValue`: ceil(total / target), or `pods` within tolerance.

    `pods` are those of the scale's status, ready or not.
    """
    if pods and is_tolerated(total / (target_per_pod * pods)):
        return pods
    return math.ceil(total / target_per_pod)
