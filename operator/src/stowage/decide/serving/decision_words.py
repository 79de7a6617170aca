"""A decision in words and numbers, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stowage.api.model_service_reasons import ScalingReason as Why
from stowage.decide.serving.decision import Decision

_NUMBERS: Final[Mapping[str, str]] = {
    "demand_per_second": "{:.2f} requests/s are expected",
    "forecast_per_second": "{:.2f} requests/s are forecast",
    "capacity_per_replica_per_second": "a replica serves {:.2f}/s within the targets",
    "horizon_seconds": "a new one is ready in {:.0f} s",
    "waiting": "{:.0f} requests wait",
    "requests_held": "{:.0f} wait for a replica",
    "missed_share": "{:.1%} of requests missed their targets lately",
    "token_demand": "{:.0f} tokens are in use or wait",
    "tokens_per_replica": "a replica holds {:.0f}",
    "in_flight": "{:.1f} requests are in replicas",
    "target_per_replica": "each shall have {:.1f}",
    "scheduled_least": "a schedule asks for {:.0f}",
    "replicas_without_ratio": "{:.0f} would do without the ratio",
    "replicas_asked_for": "{:.0f} are asked for",
    "replicas_decided": "{:.0f} were decided",
    "signals_missing": "there is no sample",
    "signals_age_seconds": "the newest sample is {:.0f} s old",
    "signals_from_future_seconds": "the newest sample is {:.0f} s ahead",
    "signals_invalid": "{:.0f} values are negative or no numbers",
    "targets_missing": "{:.0f} ready replicas have no sample",
    "contradictions": "{:.0f} values contradict each other",
}
"""Inputs that are told, with their words."""

_HEADS: Final[Mapping[Why, str]] = {
    Why.STEADY: "what is there fits",
    Why.SLO_HEADROOM_LOW: "latencies would come too close to the targets",
    Why.SLO_MISSED: "measured latencies miss the targets",
    Why.SATURATED: "KV caches are nearly full",
    Why.CONCURRENCY_HIGH: "replicas have too many requests",
    Why.BURST: "the load has jumped",
    Why.FORECAST_HIGHER: "more load is coming",
    Why.SCHEDULED: "a schedule holds",
    Why.CAPACITY_UNUSED: "fewer have been enough for long",
    Why.IDLE: "no request for scaleToZero.after",
    Why.REQUESTS_HELD: "requests are held",
    Why.ACTIVATOR_MISSING: "nothing is asked for, and nobody could hold requests at zero",
    Why.RATIO_KEPT: "the other role changes, and ratio holds both together",
    Why.STABILIZING: "it has not been asked for long enough",
    Why.RATE_LIMITED: "as much as maxPercentPerMinute allows",
    Why.REPLICAS_PENDING: "those that start will be enough",
    Why.AT_MINIMUM: "bounds.min",
    Why.AT_MAXIMUM: "bounds.max, or what the variants may have together",
    Why.BUDGET_REACHED: "scaling.budget pays for no more",
    Why.QUOTA_REACHED: "a ResourceQuota allows no more",
    Why.OUT_OF_STOCK: "every variant is at its max or has no room",
    Why.REPLICAS_FAILING: "new replicas can not start, so no more are asked for",
    Why.MANUAL_OVERRIDE: "spec.replicas",
    Why.PAUSED: "scaling.paused",
    Why.SIGNALS_MISSING: "signals can not be trusted, so nothing falls",
    Why.MIX_SWITCHED: "replicas of a cheaper mix of variants are ready",
    Why.RECOVERED: "signals are there again",
}


def words(decision: Decision) -> str:
    """One sentence: from how many to how many, why, and the numbers behind it."""
    known = dict(decision.inputs)
    numbers = [text.format(known[name]) for name, text in _NUMBERS.items() if name in known]
    before, after = decision.from_replicas, decision.to_replicas
    count = f"{before} to {after} replicas"
    if before == after:
        count = "1 replica stays" if after == 1 else f"{after} replicas stay"
    return "; ".join([f"{count}: {_HEADS[decision.reason]}", *numbers])
