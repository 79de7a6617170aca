"""HorizontalPodAutoscaler on requests in flight per pod, a metric of type `Pods`.

desired = ceil(pods * mean / target), nothing within 10 % of the target, every 15 s, with the default behaviour. Pods
that serve no metric yet count as idle where more is wanted and as exactly at the target where less is wanted; a
recommendation that turns round by counting them so is dropped. Source: `calcPlainMetricReplicas` in
`pkg/controller/podautoscaler/replica_calculator.go` of Kubernetes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from stowage.decide.serving.view import View
from stowage.simulate.serving.baselines.hpa_behaviour import SYNC_SECONDS, HpaBehaviour, is_tolerated


class Hpa:
    """`target` requests in flight (waiting and running) per ready pod."""

    name = "hpa"
    interval_seconds = SYNC_SECONDS

    def __init__(self, target: float) -> None:
        self._target = target
        self._behaviour = HpaBehaviour()

    def decide(self, view: View) -> int:
        """Replicas wanted now; without any metric those asked for stay."""
        in_flight = [float(one.waiting + one.running) for one in view.replicas if one.is_ready]
        if not in_flight:
            return view.desired
        silent = len(view.replicas) - len(in_flight)
        wanted = pods_metric_replicas(in_flight, silent, self._target, view.desired)
        return self._behaviour.limited(view.now, view.desired, wanted)


def pods_metric_replicas(values: Sequence[float], silent: int, target: float, current: int) -> int:
    """Replicas for a metric that each of some pods has a value of, while `silent` pods have none."""
    ratio = sum(values) / len(values) / target
    if not silent:
        return current if is_tolerated(ratio) else math.ceil(ratio * len(values))
    pods = len(values) + silent
    filled = sum(values) + (silent * target if ratio < 1 else 0)
    filled_ratio = filled / pods / target
    if is_tolerated(filled_ratio) or (ratio < 1 < filled_ratio) or (filled_ratio < 1 < ratio):
        return current
    wanted = math.ceil(filled_ratio * pods)
    turned_round = (filled_ratio < 1 and wanted > current) or (filled_ratio > 1 and wanted < current)
    return current if turned_round else wanted
