"""What llm-d's Workload Variant Autoscaler (WVA) reads of each replica, and how its answer becomes replicas.

It reads `max_over_time(...[1m])` of KV use and queue per pod every 60 s (`GLOBAL_OPT_INTERVAL`), and emits
`wva_desired_replicas`, an external metric on which a HorizontalPodAutoscaler acts with a target of one per pod. Both
halves damp: that is how it is deployed. Source: `docs/` and `internal/collector` of llm-d-workload-variant-autoscaler.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from stowage.decide.serving.view import View
from stowage.simulate.serving.baselines.hpa_behaviour import SYNC_SECONDS, HpaBehaviour, external_metric_replicas

OPTIMISE_SECONDS = 60.0
PEAK_SECONDS = 60.0
SCRAPE_SECONDS = 5.0
KV_THRESHOLD = 0.80
QUEUE_THRESHOLD = 5
"""`kvCacheThreshold` and `queueLengthThreshold` of the default ConfigMap."""


@dataclass(frozen=True, slots=True)
class Peak:
    """A ready replica's highest KV use and queue of the last minute."""

    kv_tokens: int
    kv_tokens_capacity: int
    waiting: int

    @property
    def kv_share(self) -> float:
        """KV use from 0 to 1."""
        return self.kv_tokens / self.kv_tokens_capacity if self.kv_tokens_capacity else 0.0


class Peaks:
    """Remembers what each replica showed in the last minute."""

    def __init__(self) -> None:
        self._seen: dict[str, list[tuple[float, int, int]]] = {}

    def observe(self, view: View) -> None:
        """Adds what the replicas show now."""
        kept = {}
        for one in view.replicas:
            if one.is_ready:
                before = [seen for seen in self._seen.get(one.name, ()) if seen[0] > view.now - PEAK_SECONDS]
                kept[one.name] = [*before, (view.now, one.kv_tokens_in_use, one.waiting)]
        self._seen = kept

    def of(self, view: View) -> list[Peak]:
        """One per ready replica."""
        return [
            Peak(
                max(kv for _, kv, _ in self._seen[one.name]),
                one.kv_tokens_capacity,
                max(waiting for _, _, waiting in self._seen[one.name]),
            )
            for one in view.replicas
            if one.name in self._seen
        ]


class Analyser(Protocol):
    """Peaks of all ready replicas → replicas wanted."""

    def wanted(self, view: View, peaks: list[Peak]) -> int:
        """Replicas wanted; `view.desired` where nothing shall change."""


class WvaBehindHpa:
    """Runs an analyser every 60 s and the HorizontalPodAutoscaler that follows it every 15 s."""

    interval_seconds = SCRAPE_SECONDS

    def __init__(self, name: str, analyser: Analyser) -> None:
        self.name = name
        self._analyser = analyser
        self._peaks = Peaks()
        self._behaviour = HpaBehaviour()
        self._emitted: int | None = None
        self._analysed_at: float | None = None
        self._synced_at: float | None = None

    def decide(self, view: View) -> int:
        """Replicas wanted now."""
        self._peaks.observe(view)
        if self._analysed_at is None or view.now >= self._analysed_at + OPTIMISE_SECONDS:
            self._analysed_at = view.now
            peaks = self._peaks.of(view)
            if peaks:  # without metrics the last answer stands
                self._emitted = max(1, self._analyser.wanted(view, peaks))
        if self._emitted is None or (self._synced_at is not None and view.now < self._synced_at + SYNC_SECONDS):
            return view.desired
        self._synced_at = view.now
        wanted = external_metric_replicas(float(self._emitted), 1.0, len(view.replicas))
        return self._behaviour.limited(view.now, view.desired, wanted)
