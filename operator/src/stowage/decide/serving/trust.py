"""Whether what is seen of a role can be trusted to lower its replicas.

Missing is not zero: what is missing, stale, negative, no number or contradicts itself is named, and a decision made on
it may raise the count but never lower it.
"""

from __future__ import annotations

import itertools
import math

from stowage.decide.serving.decision import Inputs, inputs
from stowage.decide.serving.view import BOUNDS_SECONDS, ReplicaView, Scrape, View

_NUMBERS = (
    *("at", "ready", "starting", "waiting", "running", "kv_tokens_in_use", "kv_tokens_capacity"),
    *("arrived", "completed", "prompt_tokens", "generated_tokens"),
)
_LEAST_SHARE_OF_TARGETS = 0.999


def distrust(view: View, stale_after_seconds: float) -> Inputs | None:
    """What speaks against the newest scrape, as numbers; None where nothing does.

    Names: `signals_missing` (no scrape at all), `signals_age_seconds` (too old), `signals_from_future_seconds`,
    `signals_invalid` (values that are negative or no numbers), `targets_missing` (ready replicas without a sample),
    `contradictions`.
    """
    if not view.scrapes:
        return inputs({"signals_missing": 1.0})
    newest = view.scrapes[-1]
    invalid = sum(not _is_sound(getattr(newest, name)) for name in _NUMBERS)
    histograms = [getattr(newest, name) for name in BOUNDS_SECONDS]
    invalid += sum(not _is_sound(value) for row in histograms for value in row)
    if invalid:
        return inputs({"signals_invalid": float(invalid)})
    age = view.now - newest.at
    if age > stale_after_seconds:
        return inputs({"signals_age_seconds": age})
    if age < -stale_after_seconds:
        return inputs({"signals_from_future_seconds": -age})
    ready = sum(one.is_ready and _is_due(one, age + stale_after_seconds) for one in view.replicas)
    if newest.ready < ready * _LEAST_SHARE_OF_TARGETS:
        return inputs({"targets_missing": float(ready - newest.ready)})
    wrong = _contradictions(newest) + _falls(view.scrapes, newest)
    return inputs({"contradictions": float(wrong)}) if wrong else None


def _is_due(replica: ReplicaView, seconds: float) -> bool:
    """Whether it has answered for so long: one whose start took minutes has no sample yet when it begins to."""
    answered = replica.age_seconds if replica.ready_seconds is None else replica.ready_seconds
    return min(answered, replica.age_seconds) > seconds


def _contradictions(newest: Scrape) -> int:
    return (
        (newest.kv_tokens_capacity > 0 and newest.kv_tokens_in_use > newest.kv_tokens_capacity)
        + (newest.ready > 0 and newest.kv_tokens_capacity == 0 and newest.kv_tokens_in_use > 0)
        + sum(_falling(getattr(newest, name)) for name in BOUNDS_SECONDS)
    )


def _falls(scrapes: tuple[Scrape, ...], newest: Scrape) -> int:
    """Resets are taken out before: a counter below that of the scrape before is somebody else's series."""
    if len(scrapes) < 2:
        return 0
    before = scrapes[-2]
    counters = ("arrived", "completed", "prompt_tokens", "generated_tokens")
    return sum(getattr(newest, name) < getattr(before, name) for name in counters)


def _falling(row: tuple[int, ...]) -> bool:
    return any(after < before for before, after in itertools.pairwise(row))


def _is_sound(value: float) -> bool:
    return math.isfinite(value) and value >= 0
