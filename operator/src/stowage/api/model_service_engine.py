"""The engine of a ModelService: which program answers, and by which names its metrics go."""

from __future__ import annotations

import re
from typing import Annotated, Final, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from stowage.api.engine_type import EngineType
from stowage.api.fields import Integer, cel
from stowage.api.resource import SpecFields

DEFAULT_PORTS: Final = {
    EngineType.VLLM: 8000,
    EngineType.SGLANG: 30000,
    EngineType.TRT_LLM: 8000,
    EngineType.CUSTOM: 8000,
}
_SERIES: Final = r"^[a-zA-Z_:][a-zA-Z0-9_:]*$"
_PARTS: Final = "_(bucket|sum|count)$"
_HISTOGRAM_RULE: Final = "must be the name of a histogram without _bucket, _sum or _count at its end"


def _whole_histogram(name: str) -> str:
    if re.search(_PARTS, name):
        raise ValueError(_HISTOGRAM_RULE)
    return name


SeriesName = Annotated[str, Field(min_length=1, max_length=128, pattern=_SERIES)]
"""Name of a series in Prometheus; never an expression, so that nobody can ask for the series of others."""
HistogramName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=128,
        pattern=_SERIES,
        json_schema_extra=cel((f"!self.matches('{_PARTS}')", _HISTOGRAM_RULE)),
    ),
    AfterValidator(_whole_histogram),
]


class EngineMetrics(SpecFields):
    """Names of the engine's series, where they differ from those of its type. Names only: queries are Stowage's own."""

    waiting: SeriesName | None = None
    """Gauge: requests that wait."""
    running: SeriesName | None = None
    """Gauge: requests that are being answered."""
    kv_cache_usage: SeriesName | None = None
    """Gauge: share of the KV cache that is in use, 0 to 1."""
    kv_cache_tokens: SeriesName | None = None
    """Gauge: tokens that the KV cache can hold."""
    requests_arrived: SeriesName | None = None
    """Counter: requests, when they arrive."""
    requests_completed: SeriesName | None = None
    """Counter: requests, when they end."""
    prompt_tokens: SeriesName | None = None
    """Counter: tokens of prompts."""
    generated_tokens: SeriesName | None = None
    """Counter: tokens that were generated."""
    preemptions: SeriesName | None = None
    """Counter: requests that lost their place in the KV cache."""
    prefix_cache_hits: SeriesName | None = None
    """Counter: tokens of prompts that were in the cache."""
    prefix_cache_queries: SeriesName | None = None
    """Counter: tokens of prompts that were looked for in the cache."""
    time_to_first_token: HistogramName | None = None
    """Histogram: seconds from arrival to the first token."""
    inter_token_latency: HistogramName | None = None
    """Histogram: seconds between two tokens of a request."""
    end_to_end: HistogramName | None = None
    """Histogram: seconds from arrival to the last token."""


_CUSTOM_RULE: Final = "engine.metrics must name waiting and running with type Custom: no names are known for it"


class Engine(SpecFields):
    """Which program answers requests, and where it tells how it is."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                (
                    "self.type != 'Custom' || "
                    "(has(self.metrics) && has(self.metrics.waiting) && has(self.metrics.running))"
                ),
                _CUSTOM_RULE,
            )
        )
    )

    type: Annotated[
        EngineType,
        Field(description="Which program it is; the names of its metrics follow. Custom: those of `metrics`."),
    ] = EngineType.VLLM
    version: Annotated[str, Field(min_length=1, max_length=32, pattern=r"^v?[0-9][0-9A-Za-z.+_-]*$")] | None = None
    """Its version, such as `0.11.0`; absent: both the old and the new names of its metrics are looked for."""
    port: Annotated[Integer, Field(ge=1, le=65_535)] | None = None
    """Where it answers; absent: 30000 of Sglang, 8000 of the others."""
    metrics: EngineMetrics | None = None
    """Names of its series, where they differ from those of its type."""

    @property
    def answers_at(self) -> int:
        """The port, that of its type where none is given."""
        return self.port if self.port is not None else DEFAULT_PORTS[self.type]

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        named = self.metrics is not None and self.metrics.waiting is not None and self.metrics.running is not None
        if self.type is EngineType.CUSTOM and not named:
            raise ValueError(_CUSTOM_RULE)
        return self
