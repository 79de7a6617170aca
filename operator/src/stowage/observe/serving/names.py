"""By which names the series of each engine go, old and new ones.

A signal is the sum of parts, as requests that wait do so in several queues; a part has names in order of preference,
for engines rename series and expose both names for some versions. Sources, read for versions of 2024 to 2026: vLLM
`vllm/v1/metrics/loggers.py` and, before its second engine, `vllm/engine/metrics.py`; SGLang
`python/sglang/srt/observability/metrics_collector.py`, in 2025 `python/sglang/srt/metrics/collector.py`; TensorRT-LLM
`tensorrt_llm/metrics/collector.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Final

from stowage.api.engine_type import EngineType
from stowage.api.model_service_engine import Engine, EngineMetrics


class Signal(StrEnum):
    """What is read of an engine."""

    WAITING = "waiting"
    RUNNING = "running"
    KV_SHARE = "kv_share"  # of the cache that is in use, 0 to 1
    KV_USED = "kv_used"  # tokens
    KV_TOKENS = "kv_tokens"  # that the cache holds
    KV_BLOCKS = "kv_blocks"
    KV_BLOCK_SIZE = "kv_block_size"  # tokens
    KV_INFO = "kv_info"  # always 1: labels say how many blocks of how many tokens
    STARTED = "started"  # when the process began, seconds since 1970
    ARRIVED = "arrived"
    COMPLETED = "completed"
    PROMPT_TOKENS = "prompt_tokens"
    GENERATED_TOKENS = "generated_tokens"
    TTFT = "ttft"
    ITL = "itl"
    MEAN_ITL = "mean_itl"  # per request, over its own tokens
    E2E = "e2e"


HISTOGRAMS: Final = frozenset({Signal.TTFT, Signal.ITL, Signal.MEAN_ITL, Signal.E2E})
NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,127}")
BUCKET: Final = "_bucket"

Part = tuple[str, ...]
"""Names of the same series, the one that is preferred first."""


class UnsafeNameError(ValueError):
    """A name of a series that is none: it could be an expression."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a series belongs: the part of a signal, and how far back in the order of its names."""

    signal: Signal
    part: int
    rank: int


@dataclass(frozen=True)
class EngineNames:
    """The series of one engine.

    Attributes:
        parts: of each signal; of a histogram without `_bucket`.
        info_labels: labels of `KV_INFO` for the number of blocks and the tokens of one.
        prompts_at_end: whether tokens of a prompt are counted when the request ends, and not at its first token.
        shares: labels of gauges that are a share of another series of the same name, which has all of them.
    """

    parts: Mapping[Signal, tuple[Part, ...]]
    info_labels: tuple[str, str] = ("num_gpu_blocks", "block_size")
    prompts_at_end: bool = False
    shares: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for name in (name for parts in self.parts.values() for part in parts for name in part):
            if not NAME.fullmatch(name):
                raise UnsafeNameError(f"{name!r} is no name of a series: letters, digits, _ and : only")

    @cached_property
    def places(self) -> dict[str, Place]:
        """Of each series as Prometheus has it; a histogram's are its buckets."""
        return {
            name + (BUCKET if signal in HISTOGRAMS else ""): Place(signal, number, rank)
            for signal, parts in self.parts.items()
            for number, part in enumerate(parts)
            for rank, name in enumerate(part)
        }

    @cached_property
    def all_series(self) -> tuple[str, ...]:
        """Names of all series, for a query."""
        return tuple(sorted(self.places))

    @cached_property
    def without_histograms(self) -> tuple[str, ...]:
        """Names of gauges and counters: what the demand of the past is made of."""
        return tuple(name for name in self.all_series if self.places[name].signal not in HISTOGRAMS)

    def words(self, signal: Signal) -> str:
        """The names of a signal's first part, for messages."""
        parts = self.parts.get(signal, ())
        return " or ".join(parts[0]) if parts else signal.value


_STARTED: Final[Mapping[Signal, tuple[Part, ...]]] = {Signal.STARTED: (("process_start_time_seconds",),)}

VLLM: Final = EngineNames(
    {
        **_STARTED,
        Signal.WAITING: (("vllm:num_requests_waiting",),),
        Signal.RUNNING: (("vllm:num_requests_running",),),
        Signal.KV_SHARE: (("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),),
        Signal.KV_INFO: (("vllm:cache_config_info",),),
        Signal.COMPLETED: (("vllm:request_success_total", "vllm:request_success"),),
        Signal.PROMPT_TOKENS: (("vllm:prompt_tokens_total", "vllm:prompt_tokens"),),
        Signal.GENERATED_TOKENS: (("vllm:generation_tokens_total", "vllm:generation_tokens"),),
        Signal.TTFT: (("vllm:time_to_first_token_seconds",),),
        Signal.ITL: (("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"),),
        Signal.MEAN_ITL: (("vllm:request_time_per_output_token_seconds",),),
        Signal.E2E: (("vllm:e2e_request_latency_seconds",),),
    }
)
SGLANG: Final = EngineNames(
    {
        **_STARTED,
        Signal.WAITING: (
            ("sglang:num_queue_reqs",),
            ("sglang:num_grammar_queue_reqs",),
            ("sglang:num_prefill_bootstrap_queue_reqs", "sglang:num_prefill_prealloc_queue_reqs"),
            ("sglang:num_decode_prealloc_queue_reqs",),
            # num_decode_host_receive_queue_reqs has some of these once more
            ("sglang:num_decode_transfer_queue_reqs",),
        ),
        Signal.RUNNING: (
            ("sglang:num_running_reqs",),
            # the second name is what versions of 2025 were released with
            ("sglang:num_prefill_inflight_queue_reqs", "sglang:num_prefill_infight_queue_reqs"),
        ),
        Signal.KV_SHARE: (("sglang:token_usage",),),
        Signal.KV_USED: (("sglang:num_used_tokens",),),
        Signal.KV_TOKENS: (("sglang:max_total_num_tokens",),),
        Signal.KV_BLOCKS: (("sglang:num_pages",),),
        Signal.KV_BLOCK_SIZE: (("sglang:page_size",),),
        Signal.KV_INFO: (("sglang:cache_config_info",),),
        Signal.COMPLETED: (("sglang:num_requests_total",),),
        Signal.PROMPT_TOKENS: (("sglang:prompt_tokens_total",),),
        Signal.GENERATED_TOKENS: (("sglang:generation_tokens_total",),),
        Signal.TTFT: (("sglang:time_to_first_token_seconds",),),
        # the second name, until pull requests 3988 and 4914: a request's mean so far, once for each of its tokens
        Signal.ITL: (("sglang:inter_token_latency_seconds", "sglang:time_per_output_token_seconds"),),
        Signal.E2E: (("sglang:e2e_request_latency_seconds",),),
    },
    info_labels=("num_pages", "page_size"),
    prompts_at_end=True,
    shares=frozenset({"priority"}),  # with priority scheduling; the total has the label empty, so not at all
)
TRT_LLM: Final = EngineNames(
    {
        **_STARTED,
        Signal.WAITING: (("trtllm_num_requests_waiting",),),
        Signal.RUNNING: (("trtllm_num_requests_running",),),
        Signal.KV_SHARE: (("trtllm_kv_cache_utilization",),),
        Signal.KV_BLOCKS: (("trtllm_kv_cache_max_blocks",),),
        Signal.KV_BLOCK_SIZE: (("trtllm_kv_cache_tokens_per_block",),),
        Signal.COMPLETED: (("trtllm_request_success_total",),),
        Signal.PROMPT_TOKENS: (("trtllm_prompt_tokens_total",),),
        Signal.GENERATED_TOKENS: (("trtllm_generation_tokens_total",),),
        Signal.TTFT: (("trtllm_time_to_first_token_seconds",),),
        Signal.MEAN_ITL: (("trtllm_time_per_output_token_seconds",),),
        Signal.E2E: (("trtllm_e2e_request_latency_seconds",),),
    },
    prompts_at_end=True,
)
CUSTOM: Final = EngineNames(_STARTED)

_OF_TYPE: Final = {
    EngineType.VLLM: VLLM,
    EngineType.SGLANG: SGLANG,
    EngineType.TRT_LLM: TRT_LLM,
    EngineType.CUSTOM: CUSTOM,
}


def names_of(engine: Engine) -> EngineNames:
    """The names of an engine's series: those of its type, with those that the service gives in their place.

    A version changes nothing: old and new names are always looked for, for during an upgrade both are there.

    Raises:
        UnsafeNameError: the service gives a name that is none.
    """
    known = _OF_TYPE[engine.type]
    if engine.metrics is None:
        return known
    given = {signal: ((name,),) for signal, name in _given(engine.metrics).items() if name is not None}
    if not given:
        return known
    own_size = {Signal.KV_BLOCKS, Signal.KV_BLOCK_SIZE, Signal.KV_INFO} if Signal.KV_TOKENS in given else set()
    own_use = {Signal.KV_USED} if Signal.KV_SHARE in given else set()
    kept = {signal: parts for signal, parts in known.parts.items() if signal not in own_size | own_use}
    return replace(known, parts={**kept, **given})


def _given(metrics: EngineMetrics) -> dict[Signal, str | None]:
    return {
        Signal.WAITING: metrics.waiting,
        Signal.RUNNING: metrics.running,
        Signal.KV_SHARE: metrics.kv_cache_usage,
        Signal.KV_TOKENS: metrics.kv_cache_tokens,
        Signal.ARRIVED: metrics.requests_arrived,
        Signal.COMPLETED: metrics.requests_completed,
        Signal.PROMPT_TOKENS: metrics.prompt_tokens,
        Signal.GENERATED_TOKENS: metrics.generated_tokens,
        Signal.TTFT: metrics.time_to_first_token,
        Signal.ITL: metrics.inter_token_latency,
        Signal.E2E: metrics.end_to_end,
    }
