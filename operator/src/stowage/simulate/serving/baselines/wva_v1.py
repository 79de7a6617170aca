"""WVA's first saturation analyser: spare share of KV and queue against triggers, one replica at a time.

A replica is saturated at 80 % KV use or five waiting requests. Over the others: one more where the mean spare KV is
below 0.10 or the mean spare queue below 3; one less where both would still be spare after the load of N rests on N - 1.
Nothing while a replica starts or an earlier answer is not there yet. Source: `docs/.../saturation-analyzer.md` and
`internal/saturation/analyzer.go` of llm-d-workload-variant-autoscaler.
"""

from __future__ import annotations

from stowage.decide.serving.view import View
from stowage.simulate.serving.baselines.wva_peaks import KV_THRESHOLD, QUEUE_THRESHOLD, Peak, WvaBehindHpa

KV_SPARE_TRIGGER = 0.10
QUEUE_SPARE_TRIGGER = 3.0
_LEAST_TO_GO_DOWN = 2


class SaturationV1:
    """Stateless: what to do follows from the peaks."""

    def wanted(self, view: View, peaks: list[Peak]) -> int:
        """One more, one less, or as many as are asked for."""
        if len(peaks) != view.desired or len(view.replicas) != view.desired:
            return view.desired
        calm = [one for one in peaks if one.kv_share < KV_THRESHOLD and one.waiting < QUEUE_THRESHOLD]
        # with every replica saturated both means are zero: below their triggers
        spare_kv = sum(KV_THRESHOLD - one.kv_share for one in calm) / len(calm) if calm else 0.0
        spare_queue = sum(QUEUE_THRESHOLD - one.waiting for one in calm) / len(calm) if calm else 0.0
        if spare_kv < KV_SPARE_TRIGGER or spare_queue < QUEUE_SPARE_TRIGGER:
            return len(peaks) + 1
        if len(calm) < _LEAST_TO_GO_DOWN:
            return len(peaks)
        scale = len(calm) / (len(calm) - 1)
        left_kv = KV_THRESHOLD - (KV_THRESHOLD - spare_kv) * scale
        left_queue = QUEUE_THRESHOLD - (QUEUE_THRESHOLD - spare_queue) * scale
        is_safe = left_kv >= KV_SPARE_TRIGGER and left_queue >= QUEUE_SPARE_TRIGGER
        return len(peaks) - 1 if is_safe else len(peaks)


def wva_v1() -> WvaBehindHpa:
    """The first analyser at its documented thresholds, behind its HorizontalPodAutoscaler."""
    return WvaBehindHpa("wva-v1", SaturationV1())
