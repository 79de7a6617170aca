"""What can not be trusted is named with a number, and sound signals are not doubted."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from stowage.decide.serving.trust import distrust
from stowage.decide.serving.view import View
from unit.serving_views import later, replicas, view

STALE = 60.0


def with_newest(**changes: Any) -> View:
    seen = view(5.0)
    return replace(seen, scrapes=(*seen.scrapes[:-1], replace(seen.scrapes[-1], **changes)))


def falling() -> tuple[int, ...]:
    row = list(view(5.0).scrapes[-1].ttft_counts)
    row[-2] = row[-1] + 1
    return tuple(row)


@pytest.mark.parametrize(
    ("seen", "doubt"),
    [
        pytest.param(view(5.0), None, id="fresh and sound"),
        pytest.param(view(0.0), None, id="quiet is knowledge"),
        pytest.param(later(view(5.0), 60), None, id="just not too old"),
        pytest.param(replace(view(5.0), scrapes=()), "signals_missing", id="nothing was ever scraped"),
        pytest.param(later(view(5.0), 61), "signals_age_seconds", id="stale"),
        pytest.param(later(view(5.0), -61), "signals_from_future_seconds", id="clocks disagree"),
        pytest.param(with_newest(waiting=math.nan), "signals_invalid", id="a gauge that is no number"),
        pytest.param(with_newest(arrived=math.inf), "signals_invalid", id="an infinite counter"),
        pytest.param(with_newest(running=-1), "signals_invalid", id="a negative gauge"),
        pytest.param(with_newest(ttft_counts=(math.nan,) * 23), "signals_invalid", id="a histogram of no numbers"),
        pytest.param(with_newest(e2e_counts=(1, -2)), "signals_invalid", id="a histogram that some engines lack"),
        pytest.param(with_newest(mean_itl_counts=falling()), "contradictions", id="one of them that falls"),
        pytest.param(with_newest(ready=1), "targets_missing", id="half of the targets are gone"),
        pytest.param(with_newest(ready=3), None, id="one that drains is still scraped"),
        pytest.param(with_newest(kv_tokens_in_use=10**9), "contradictions", id="more tokens than the caches hold"),
        pytest.param(with_newest(ttft_counts=falling()), "contradictions", id="a histogram that falls"),
        pytest.param(with_newest(arrived=3), "contradictions", id="a counter that falls"),
        pytest.param(replace(view(5.0), replicas=replicas(2, starting=3)), None, id="who starts has no samples yet"),
    ],
)
def test_doubts(seen: View, doubt: str | None) -> None:
    found = distrust(seen, STALE)
    assert (None if found is None else [name for name, _ in found]) == (None if doubt is None else [doubt])


@pytest.mark.parametrize(
    ("ready_seconds", "doubt"),
    [
        pytest.param(20.0, None, id="it has answered for a moment, after a start of an hour"),
        pytest.param(90.0, [("targets_missing", 1.0)], id="it has answered for longer than a sample may be old"),
        pytest.param(None, [("targets_missing", 1.0)], id="nobody tells since when"),
    ],
)
def test_a_replica_that_took_long_to_start_need_not_have_a_sample_at_once(
    ready_seconds: float | None, doubt: list[tuple[str, float]] | None
) -> None:
    seen = view(5.0)
    one, fresh = seen.replicas[0], replace(seen.replicas[1], name="fresh", ready_seconds=ready_seconds)
    found = distrust(replace(seen, replicas=(one, one, fresh)), STALE)
    assert found == (None if doubt is None else tuple(doubt))


def test_replicas_that_became_ready_after_the_scrape_are_not_missed() -> None:
    seen = view(5.0)
    fresh = tuple(replace(one, age_seconds=50.0) for one in replicas(4))
    assert distrust(replace(seen, replicas=fresh), STALE) is None
