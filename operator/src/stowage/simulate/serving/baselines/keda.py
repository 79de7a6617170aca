"""KEDA with one Prometheus trigger, the HorizontalPodAutoscaler that it makes behind it.

The HPA asks for the metric at its own sync (`useCachedMetrics` is off by default): ceil(total / threshold), 10 %
tolerance, default behaviour. Every `pollingInterval` of 30 s KEDA itself looks whether the trigger is active: that only
takes a service from zero to one, and `cooldownPeriod` (300 s) after the last activity from anything to zero, both only
where bounds allow zero. Source: KEDA's pages on ScaledObject and on scaling deployments.
"""

from __future__ import annotations

from stowage.decide.serving.view import Scrape, View
from stowage.simulate.serving.baselines.hpa_behaviour import SYNC_SECONDS, HpaBehaviour, external_metric_replicas

POLLING_SECONDS = 30.0
COOLDOWN_SECONDS = 300.0
MOST_REPLICAS = 100
"""`maxReplicaCount` where a ScaledObject does not tell another."""


class Keda:
    """`threshold` requests waiting in queues per replica (`sum(vllm:num_requests_waiting)`)."""

    name = "keda"
    interval_seconds = SYNC_SECONDS

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._behaviour = HpaBehaviour()
        self._polled_at = -POLLING_SECONDS
        self._active_at: float | None = None

    def decide(self, view: View) -> int:
        """Replicas wanted now (zero after the cool-down); without a sample those asked for stay."""
        if not view.scrapes:
            return view.desired
        total = self.metric(view.scrapes[-1])
        if view.now >= self._polled_at + POLLING_SECONDS:
            self._polled_at = view.now
            if total > 0 or self._active_at is None:
                self._active_at = view.now
            if view.desired == 0:
                return 1 if total > 0 else 0
        if view.desired == 0:
            return 0
        if self._active_at is not None and view.now > self._active_at + COOLDOWN_SECONDS:
            return 0
        asked = external_metric_replicas(total, self._threshold, len(view.replicas))
        wanted = min(MOST_REPLICAS, max(1, asked))
        return self._behaviour.limited(view.now, view.desired, wanted)

    @staticmethod
    def metric(scrape: Scrape) -> float:
        """What the trigger's query answers, over all replicas."""
        return float(scrape.waiting)


class KedaInFlight(Keda):
    """The same trigger on requests waiting and running, which does not fall to zero while there is work."""

    name = "keda-in-flight"

    @staticmethod
    def metric(scrape: Scrape) -> float:
        """Requests in the engines, waiting or running."""
        return float(scrape.waiting + scrape.running)
