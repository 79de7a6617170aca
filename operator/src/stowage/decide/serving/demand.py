"""How much comes: requests and prompt tokens per second, counted when they arrive, in even stretches of time.

Completions hide what waits (Dynamo, issue 8861), so only arrivals count. A stretch without samples is left out, never
taken for a quiet one.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import replace

from stowage.decide.serving.latency_model import Shape
from stowage.decide.serving.memory import Bin, Memory
from stowage.decide.serving.view import Scrape, View

BIN_SECONDS = 10.0
KEPT_BINS = 360
SEASON_BIN_SECONDS = 600.0
KEPT_SEASON_BINS = 1_020
"""A week, the longest season, and two hours: it is tried on the hour before."""
LONGEST_GAP_SECONDS = 40.0
"""Between two scrapes over which a count may still be spread evenly."""
SHAPE_WINDOWS_SECONDS = (60.0, 120.0, 300.0)
"""Means of lengths are over the shortest of these with enough requests, else over the longest."""
ENOUGH_REQUESTS = 300.0
LEAST_KNOWN_SECONDS = 180.0
DEFAULT_SHAPE = Shape(512.0, 128.0)
"""Until requests have been seen. An assumption."""
LEAST_COMPLETED = 20.0
_WEIGHT_OF_OLD_OUTPUT = 0.9


def remember_demand(view: View, memory: Memory) -> Memory:
    """The memory with the stretches that ended since, and the mean output length brought up to date."""
    known = memory.bins
    bins = [*known, *_new_bins(view, known[-1].at if known else None)][-KEPT_BINS:]
    return replace(
        memory,
        bins=tuple(bins),
        season=_season(memory.season, bins),
        output_tokens=_output_tokens(view, memory.output_tokens),
    )


def is_known_for(memory: Memory, seconds: float) -> bool:
    """Whether demand is known for at least so long, or for as long as is remembered, and three minutes."""
    longest = KEPT_BINS * BIN_SECONDS
    return len(memory.bins) * BIN_SECONDS >= min(longest, max(LEAST_KNOWN_SECONDS, seconds))


def shape(memory: Memory) -> Shape:
    """Mean tokens of a request: prompts of those that came in the last minutes, outputs by the counters."""
    requests = tokens = 0.0
    for window in SHAPE_WINDOWS_SECONDS:
        prompts = memory.bins[-int(window / BIN_SECONDS) :]
        requests = sum(one.requests_per_second for one in prompts)
        tokens = sum(one.prompt_tokens_per_second for one in prompts)
        if requests * BIN_SECONDS >= ENOUGH_REQUESTS:
            break
    found = (tokens / requests) if requests * BIN_SECONDS >= 1 else DEFAULT_SHAPE.prompt_tokens
    return Shape(max(1.0, found), max(1.0, memory.output_tokens or DEFAULT_SHAPE.output_tokens))


def _new_bins(view: View, last: float | None) -> list[Bin]:
    since = 0 if last is None else bisect_left(view.scrapes, last - 2 * LONGEST_GAP_SECONDS, key=lambda one: one.at)
    scrapes = tuple(one for one in view.scrapes[since:] if _is_sound(one))
    if len(scrapes) < 2:
        return []
    times = [one.at for one in scrapes]
    begin = max(last if last is not None else times[0], times[0], times[-1] - KEPT_BINS * BIN_SECONDS)
    bins = []
    while begin + BIN_SECONDS <= times[-1]:
        first, second = _counts_at(scrapes, times, begin), _counts_at(scrapes, times, begin + BIN_SECONDS)
        begin += BIN_SECONDS
        if first and second and second[0] >= first[0] and second[1] >= first[1]:
            bins.append(Bin(begin, (second[0] - first[0]) / BIN_SECONDS, (second[1] - first[1]) / BIN_SECONDS))
    return bins


def _is_sound(one: Scrape) -> bool:
    return all(math.isfinite(value) and value >= 0 for value in (one.arrived, one.prompt_tokens))


def _counts_at(scrapes: tuple[Scrape, ...], times: list[float], at: float) -> tuple[float, float] | None:
    """Requests and prompt tokens counted until then; None in a gap."""
    right = bisect_left(times, at)
    if times[right] == at:
        return float(scrapes[right].arrived), float(scrapes[right].prompt_tokens)
    before, after = scrapes[right - 1], scrapes[right]
    gap = after.at - before.at
    if gap > LONGEST_GAP_SECONDS or after.arrived < before.arrived or after.prompt_tokens < before.prompt_tokens:
        return None
    share = (at - before.at) / gap
    return (
        before.arrived + share * (after.arrived - before.arrived),
        before.prompt_tokens + share * (after.prompt_tokens - before.prompt_tokens),
    )


def _season(season: tuple[Bin, ...], bins: list[Bin]) -> tuple[Bin, ...]:
    if not bins:
        return season
    end = season[-1].at if season else bins[0].at - BIN_SECONDS
    fresh = list(season)
    while bins[-1].at >= end + SEASON_BIN_SECONDS:
        inside = [one for one in bins if end < one.at <= end + SEASON_BIN_SECONDS]
        end += SEASON_BIN_SECONDS
        if inside:
            count = len(inside)
            requests = sum(one.requests_per_second for one in inside) / count
            fresh.append(Bin(end, requests, sum(one.prompt_tokens_per_second for one in inside) / count))
    return tuple(fresh[-KEPT_SEASON_BINS:])


def _output_tokens(view: View, known: float) -> float:
    """Tokens generated per request that ended in the last minutes, smoothed."""
    for window in SHAPE_WINDOWS_SECONDS:
        done, made = view.increase("completed", window), view.increase("generated_tokens", window)
        if done is None or made is None or done[0] < LEAST_COMPLETED or made[0] <= 0:
            continue
        if done[0] >= ENOUGH_REQUESTS or window == SHAPE_WINDOWS_SECONDS[-1]:
            found = made[0] / done[0]
            return found if known <= 0 else _WEIGHT_OF_OLD_OUTPUT * known + (1 - _WEIGHT_OF_OLD_OUTPUT) * found
    return known
