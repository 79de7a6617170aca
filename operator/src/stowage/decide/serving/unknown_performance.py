"""Roles without a profile: what is decided from when nobody has said how fast a replica is.

What a replica bears would be a guess, and a guess that is off by three asks for three times too many replicas or for a
third. So those recommenders that count on it, Slo and Forecast, are not asked. Saturation and Concurrency measure how
full replicas are, and measured misses of the targets add a replica at a time.
"""

from __future__ import annotations

from typing import Final

from stowage.decide.serving.decision import Recommender
from stowage.decide.serving.misses import LEAST_REQUESTS, WINDOW_SECONDS, missed_share
from stowage.decide.serving.performance import Performance, line
from stowage.decide.serving.recommend_slo import MANY_MISSES_OF_BUDGET, SETTLED_SECONDS
from stowage.decide.serving.settings import Settings
from stowage.decide.serving.view import View

ASSUMED: Final = Performance(
    prefill_seconds=line(0.015, 0.0002), decode_seconds=line(0.03, 0.0004), kv_capacity_tokens=200_000
)
"""Near to llama2-70b on four H100 or on eight A100 (splitwise-sim's profiles): slower than most models that are served,
so that the requests per replica that follow for Concurrency are rather too few."""
RECOMMENDERS: Final = (Recommender.SATURATION, Recommender.CONCURRENCY)


def missed_too_much(view: View, settings: Settings) -> float | None:
    """The share of requests that missed the targets lately, where it is far more than may; None: it is not."""
    if settings.slo_ttft_seconds is settings.slo_itl_seconds is settings.slo_e2e_seconds is None:
        return None
    found = missed_share(view, settings, WINDOW_SECONDS)
    if found is None or found[0] < LEAST_REQUESTS:
        return None
    return found[1] if found[1] > MANY_MISSES_OF_BUDGET * (1 - settings.attainment) else None


def is_settled(view: View) -> bool:
    """Whether all replicas are ready, and the newest has served long enough for its share to show."""
    least = view.cold_start_seconds + SETTLED_SECONDS
    return len(view.replicas) >= view.desired and all(
        one.is_ready and one.age_seconds >= least for one in view.replicas
    )
