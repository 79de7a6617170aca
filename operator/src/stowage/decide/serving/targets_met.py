"""How well a service meets its targets, by the histograms of its roles."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from stowage.api.durations import Duration, instant, lasting
from stowage.api.fields import MAX_COUNT
from stowage.api.model_service import ServiceLevel
from stowage.api.model_service_status import ServiceLevelStatus
from stowage.decide.serving.misses import missed_share
from stowage.decide.serving.settings import Settings
from stowage.decide.serving.view import Histogram, View

LEAST_REQUESTS: Final = 20
"""With fewer, one that is late says nothing of all."""
LATELY_SECONDS: Final = 300.0


def service_level(slo: ServiceLevel | None, roles: Iterable[tuple[Settings, View]]) -> ServiceLevelStatus | None:
    """What the status tells of the targets; None: nothing is promised, or nothing was measured.

    The share of requests that met all targets is counted over `slo.window`, as far back as samples go. With prefill and
    decode apart each role tells of its own target, and what both met is the product: as if they missed independently.
    """
    if slo is None:
        return None
    attained, requests = 1.0, 0.0
    first: Duration | None = None
    between: Duration | None = None
    last: Duration | None = None
    newest: float | None = None
    for settings, view in roles:
        if not view.scrapes:
            continue
        at = view.scrapes[-1].at
        newest = at if newest is None else max(newest, at)
        found = missed_share(view, settings, slo.window.seconds)
        if found is not None:
            attained *= 1.0 - found[1]
            requests = max(requests, found[0])
        if settings.slo_ttft_seconds is not None:
            first = _lately(view, "ttft_counts", settings) or first
        if settings.slo_itl_seconds is not None:
            between = _lately(view, "itl_counts", settings) or between
        if settings.slo_e2e_seconds is not None:
            last = _lately(view, "e2e_counts", settings) or last
    if newest is None:
        return None
    return ServiceLevelStatus(
        attainment=f"{attained:.4f}" if requests >= 1 else None,
        requests=min(MAX_COUNT, int(requests)),
        time_to_first_token=first,
        inter_token_latency=between,
        end_to_end=last,
        at=instant(newest),
    )


def _lately(view: View, histogram: Histogram, settings: Settings) -> Duration | None:
    q = settings.attainment if settings.quantile is None else settings.quantile
    found = view.quantile(histogram, q, LATELY_SECONDS)
    return None if found is None else lasting(found)
