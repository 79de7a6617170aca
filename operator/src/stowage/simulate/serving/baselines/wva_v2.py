"""WVA's second saturation analyser: tokens in KV against a capacity in tokens.

Per replica k1 = 0.8 * KV capacity; k2 = tokens in use while five or more wait, else the mean of the last ten such
observations for the output's length class, else N * (I + O / 2) with N = min(B * O / (I + O), S), else k1; capacity =
the replicas' median of min(k1, k2). demand = tokens in use + waiting * mean input. Up by ceil(required / capacity)
where required = demand / 0.85 - supply (replicas that start are supply), else down by floor(spare / capacity) where
spare = ready supply - demand / 0.70; one replica stays. Source: `internal/engines/analyzers/saturation_v2` and
`internal/engines/pipeline/cost_aware_optimizer.go` of llm-d-workload-variant-autoscaler.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict, deque

from stowage.decide.serving.view import View
from stowage.simulate.serving.baselines.wva_peaks import KV_THRESHOLD, QUEUE_THRESHOLD, Peak, WvaBehindHpa

SCALE_UP_THRESHOLD = 0.85
SCALE_DOWN_BOUNDARY = 0.70
HISTORY = 10
BATCHED_TOKENS = 8192
SEQUENCES = 256
"""vLLM's defaults of `--max-num-batched-tokens` (server) and `--max-num-seqs`."""
_AVERAGE_SECONDS = 300.0
_SHORT_TOKENS, _MEDIUM_TOKENS = 100, 500


class SaturationV2:
    """Learns the capacity of a replica in tokens from replicas whose queue is full."""

    def __init__(self, *, batched_tokens: int = BATCHED_TOKENS, sequences: int = SEQUENCES) -> None:
        self._batched_tokens = batched_tokens
        self._sequences = sequences
        self._observed: dict[str, deque[int]] = defaultdict(lambda: deque(maxlen=HISTORY))

    def wanted(self, view: View, peaks: list[Peak]) -> int:
        """Replicas whose supply covers the demand."""
        mean_input = _mean_tokens(view, "prompt_tokens", "arrived")
        mean_output = _mean_tokens(view, "generated_tokens", "completed")
        capacity = math.floor(statistics.median([self._capacity(one, mean_input, mean_output) for one in peaks]))
        if capacity <= 0:
            return view.desired
        demand = sum(one.kv_tokens + one.waiting * mean_input for one in peaks)
        # replicas asked for that are not there yet are on their way
        coming = max(0, max(view.desired, len(view.replicas)) - len(peaks))
        required = demand / SCALE_UP_THRESHOLD - capacity * (len(peaks) + coming)
        spare = capacity * len(peaks) - demand / SCALE_DOWN_BOUNDARY
        if required > 0:
            return view.desired + math.ceil(required / capacity)
        return max(1, view.desired - math.floor(max(0.0, spare) / capacity))

    def _capacity(self, one: Peak, mean_input: float, mean_output: float) -> int:
        by_memory = int(one.kv_tokens_capacity * KV_THRESHOLD)
        return min(by_memory, self._by_compute(one, mean_input, mean_output, by_memory))

    def _by_compute(self, one: Peak, mean_input: float, mean_output: float, fallback: int) -> int:
        history = self._observed[_length_class(mean_output)]
        if one.waiting >= QUEUE_THRESHOLD and one.kv_tokens > 0:
            history.append(one.kv_tokens)
            return one.kv_tokens
        if history:
            return int(statistics.fmean(history))
        if mean_output > 0:
            steady = min(self._batched_tokens * mean_output / (mean_input + mean_output), float(self._sequences))
            return int(steady * (mean_input + mean_output / 2))
        return fallback


def wva_v2(*, batched_tokens: int = BATCHED_TOKENS, sequences: int = SEQUENCES) -> WvaBehindHpa:
    """The second analyser at its documented thresholds, behind its HorizontalPodAutoscaler.

    `batched_tokens` and `sequences` are the engine's limits, which it reads from the deployment's arguments.
    """
    return WvaBehindHpa("wva-v2", SaturationV2(batched_tokens=batched_tokens, sequences=sequences))


def _mean_tokens(view: View, tokens: str, requests: str) -> float:
    told = view.increase(tokens, _AVERAGE_SECONDS)  # type: ignore[arg-type]
    number = view.increase(requests, _AVERAGE_SECONDS)  # type: ignore[arg-type]
    return told[0] / number[0] if told and number and number[0] else 0.0


def _length_class(mean_output: float) -> str:
    if mean_output < _SHORT_TOKENS:
        return "short"
    return "medium" if mean_output < _MEDIUM_TOKENS else "long"
