"""How long requests were, by the engines' histograms of tokens: asked for seldom, so the server adds them up.

Sources: vLLM `vllm/v1/metrics/loggers.py`; SGLang `python/sglang/srt/observability/metrics_collector.py`, before 2026
`python/sglang/srt/metrics/collector.py`, where `--collect-tokens-histogram` asks for them. TensorRT-LLM has none.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from stowage.api.engine_type import EngineType
from stowage.decide.samples import Sample
from stowage.observe.serving.names import BUCKET
from stowage.observe.serving.queries import of_deployments, within


@dataclass(frozen=True, slots=True)
class SizeNames:
    """Histograms of tokens, without `_bucket`."""

    prompts: str
    outputs: str


NAMES: Final[Mapping[EngineType, SizeNames]] = {
    EngineType.VLLM: SizeNames("vllm:request_prompt_tokens", "vllm:request_generation_tokens"),
    EngineType.SGLANG: SizeNames("sglang:prompt_tokens_histogram", "sglang:generation_tokens_histogram"),
}


def size_query(
    name: str, namespace: str, deployments: Collection[str], seconds: float, groups: Collection[str] = ()
) -> str:
    """PromQL: by upper bound, requests of the last seconds that were at most so long, of all pods together."""
    selector = of_deployments((name + BUCKET,), namespace, deployments, groups)
    return f"sum by (le) (increase({within(selector, seconds)}))"


def counts_of(samples: Iterable[Sample]) -> Mapping[float, float]:
    """An answer by upper bound; what is no number, or less than a smaller bound has, is as that one."""
    found: dict[float, float] = {}
    for one in samples:
        bound = _bound(one.labels.get("le", ""))
        if bound is not None and math.isfinite(one.value) and one.value >= 0:
            found[bound] = one.value
    highest = 0.0
    for bound in sorted(found):
        found[bound] = highest = max(highest, found[bound])
    return found


def _bound(text: str) -> float | None:
    try:
        bound = float(text)
    except ValueError:
        return None
    return bound if bound > 0 else None
