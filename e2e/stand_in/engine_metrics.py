"""What vLLM exports of an engine, under its names of today, those of before, or both.

Today's names are those of vLLM 0.11 and later (`docs/usage/metrics.md` there); two of the older ones are what
versions before it called the KV cache's use and the time between tokens.
"""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from enum import StrEnum
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from stand_in.engine import Engine, Sequence
from stowage.decide.serving.view import E2E_BOUNDS_SECONDS, ITL_BOUNDS_SECONDS, TTFT_BOUNDS_SECONDS

BLOCK_TOKENS: Final = 16
TOKEN_BOUNDS: Final = tuple(float(digit * 10**power) for power in range(5) for digit in (1, 2, 5))


class Names(StrEnum):
    """Which version's names are exported."""

    CURRENT = "current"
    OLD = "old"
    BOTH = "both"


class FinishedReason(StrEnum):
    """Why a request has ended, label `finished_reason`."""

    LENGTH = "length"
    ABORT = "abort"


class EngineMetrics:
    """Metrics of one engine; gauges are read from it whenever somebody scrapes."""

    def __init__(self, engine: Engine, model: str, names: Names = Names.CURRENT) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # tells when the process began: its counters began then too
        self._engine, self._names = engine, names
        self._labels = {"model_name": model, "engine": "0"}
        self._gauge("num_requests_waiting", "Requests that wait.").set_function(lambda: engine.waiting)
        self._gauge("num_requests_running", "Requests that run.").set_function(lambda: engine.running)
        for name in self._of(("kv_cache_usage_perc",), ("gpu_cache_usage_perc",)):
            self._gauge(name, "Use of the KV cache, 1 is all.").set_function(lambda: engine.kv_use)
        self._prompt_tokens = self._counter("prompt_tokens", "Tokens of prompts that are computed.")
        self._generation_tokens = self._counter("generation_tokens", "Tokens that were generated.")
        self._preemptions = self._counter("num_preemptions", "How often a request lost its place.")
        self._success = Counter(
            "vllm:request_success", "Requests that ended.", (*self._labels, "finished_reason"), registry=self.registry
        )
        for reason in FinishedReason:
            self._success.labels(**self._labels, finished_reason=reason)
        self._first_token = [self._histogram("time_to_first_token_seconds", TTFT_BOUNDS_SECONDS)]
        between = self._of(("inter_token_latency_seconds",), ("time_per_output_token_seconds",))
        self._between = [self._histogram(name, ITL_BOUNDS_SECONDS) for name in between]
        per_token = self._of(("request_time_per_output_token_seconds",), ())
        self._per_token = [self._histogram(name, ITL_BOUNDS_SECONDS) for name in per_token]
        self._end_to_end = [self._histogram("e2e_request_latency_seconds", E2E_BOUNDS_SECONDS)]
        self._queued = [self._histogram("request_queue_time_seconds", E2E_BOUNDS_SECONDS)]
        self._prompts = [self._histogram("request_prompt_tokens", TOKEN_BOUNDS)]
        self._outputs = [self._histogram("request_generation_tokens", TOKEN_BOUNDS)]
        self._seen_preemptions = 0
        self._tell_cache()

    def token(self, sequence: Sequence) -> None:
        """A sequence got a token."""
        self._generation_tokens.inc()
        if sequence.generated == 1:
            self._prompt_tokens.inc(sequence.prompt_tokens)
            self._observe(self._first_token, sequence.first_token_at - sequence.arrived_at)
            self._observe(self._queued, sequence.started_at - sequence.arrived_at)
        else:
            self._observe(self._between, sequence.gap_seconds)

    def end(self, sequence: Sequence, reason: FinishedReason, at: float) -> None:
        """A request has ended, or its client is gone."""
        self._success.labels(**self._labels, finished_reason=reason).inc()
        self._observe(self._end_to_end, at - sequence.arrived_at)
        self._observe(self._prompts, sequence.prompt_tokens)
        self._observe(self._outputs, sequence.generated)
        if sequence.generated > 1:
            mean = (sequence.last_token_at - sequence.first_token_at) / (sequence.generated - 1)
            self._observe(self._per_token, mean)

    def text(self) -> bytes:
        """In the format that Prometheus scrapes."""
        self._preemptions.inc(self._engine.preemptions - self._seen_preemptions)
        self._seen_preemptions = self._engine.preemptions
        return generate_latest(self.registry)

    def _of(self, current: Ordered[str], old: Ordered[str]) -> tuple[str, ...]:
        return (*(current if self._names is not Names.OLD else ()), *(old if self._names is not Names.CURRENT else ()))

    def _gauge(self, name: str, about: str) -> Gauge:
        return Gauge(f"vllm:{name}", about, tuple(self._labels), registry=self.registry).labels(**self._labels)

    def _counter(self, name: str, about: str) -> Counter:
        return Counter(f"vllm:{name}", about, tuple(self._labels), registry=self.registry).labels(**self._labels)

    def _histogram(self, name: str, bounds: Ordered[float]) -> Histogram:
        made = Histogram(f"vllm:{name}", "", tuple(self._labels), buckets=bounds, registry=self.registry)
        return made.labels(**self._labels)

    def _observe(self, histograms: Ordered[Histogram], value: float) -> None:
        for one in histograms:
            one.observe(value)

    def _tell_cache(self) -> None:
        """The cache's size is in labels: blocks, and tokens of each."""
        blocks = self._engine.performance.kv_capacity_tokens // BLOCK_TOKENS
        labels = {**self._labels, "block_size": str(BLOCK_TOKENS), "num_gpu_blocks": str(blocks)}
        told = Gauge("vllm:cache_config_info", "The KV cache.", tuple(labels), registry=self.registry)
        told.labels(**labels).set(1)
