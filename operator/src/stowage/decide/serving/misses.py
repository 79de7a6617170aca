"""How many requests missed their targets, as far as histograms tell, and what that says about the price of spares.

The time to first token is counted per request. Of the time between tokens only the tokens' histogram is known, so the
mean over running requests stands for it: requests in the engines over tokens made per second (Little's law). Single
requests spread around that mean.
"""

from __future__ import annotations

import math
from dataclasses import replace

from stowage.decide.serving.memory import Memory, Misses
from stowage.decide.serving.settings import Role, Settings
from stowage.decide.serving.situation import Situation
from stowage.decide.serving.view import TTFT_BOUNDS_SECONDS, View

WINDOW_SECONDS = 20.0
LEAST_REQUESTS = 10.0
LEAST_TOKENS = 100.0
TAIL = 0.02
"""Of those in a bucket, what is taken to have got to its end where nothing was counted beyond."""
ITL_DEVIATION = 0.1
"""Of requests' mean times between tokens around the mean of all, as a logarithm."""
HALF_LIFE_SECONDS = 1800.0
PRIOR_SECONDS = 300.0
"""What may be missed is assumed to have been missed in as many requests as come in so long."""
POWER = 1.0
LEAST_FACTOR, MOST_FACTOR = 0.3, 6.0


def mean_itl_seconds(view: View, window_seconds: float) -> float | None:
    """The mean time between tokens of running requests; None where too little ran."""
    running, tokens = view.mean("running", window_seconds), view.increase("generated_tokens", window_seconds)
    if running is None or tokens is None or tokens[0] < LEAST_TOKENS:
        return None
    return running * tokens[1] / tokens[0]


def missed_share(view: View, settings: Settings, window_seconds: float) -> tuple[float, float] | None:
    """Of the requests with a first token in the window, how many there were and which share missed; None: too few."""
    counts = view.counted("ttft_counts", window_seconds)
    if counts is None or counts[-1] <= 0:
        return None
    late = 0.0
    if settings.role is not Role.DECODE and settings.slo_ttft_seconds is not None:
        late = _longer(counts, settings.slo_ttft_seconds) / counts[-1]
    itl, slow = mean_itl_seconds(view, window_seconds), 0.0
    if itl and settings.role is not Role.PREFILL and settings.slo_itl_seconds is not None:
        slow = 1 / (1 + math.exp(min(60.0, math.log(settings.slo_itl_seconds / itl) / (0.55 * ITL_DEVIATION))))
    return counts[-1], min(1.0, late + slow)


def missed_lately(situation: Situation) -> float | None:
    """The share missed in the last seconds; None where too few came to say."""
    found = missed_share(situation.view, situation.settings, WINDOW_SECONDS)
    return None if found is None or found[0] < LEAST_REQUESTS else found[1]


def remember_misses(view: View, settings: Settings, memory: Memory) -> Memory:
    """The memory with the requests since the last look counted, and the price that follows.

    Where fewer missed than may, idle replicas are dearer than thought, and the other way round: the price changes with
    the square root of the share of the budget that is left.
    """
    known = memory.misses
    newest = view.scrapes[-1].at if view.scrapes else None
    if newest is None or (known.counted_at is not None and newest - known.counted_at < WINDOW_SECONDS):
        return memory
    found = missed_share(view, settings, WINDOW_SECONDS + 1)
    since = WINDOW_SECONDS if known.counted_at is None else newest - known.counted_at
    keep = 0.5 ** (since / HALF_LIFE_SECONDS)
    count, share = found or (0.0, 0.0)
    seen, missed = known.seen * keep + count, known.missed * keep + count * share
    assumed = count / WINDOW_SECONDS * PRIOR_SECONDS if count else 1.0
    may_miss = 1 - settings.attainment
    ratio = (missed + may_miss * assumed) / (seen + assumed) / may_miss
    factor = min(MOST_FACTOR, max(LEAST_FACTOR, ratio**-POWER))
    return replace(memory, misses=Misses(seen, missed, factor, newest))


def _longer(counts: tuple[float, ...], seconds: float) -> float:
    """How many took longer than that: within a bucket, those left fall off exponentially, as tails do."""
    left, floor = counts[-1], 0.0
    for bound, count in zip(TTFT_BOUNDS_SECONDS, counts, strict=False):
        after = counts[-1] - count
        if seconds <= bound:
            if left <= 0:
                return 0.0
            return float(left * (max(after, TAIL * left) / left) ** ((seconds - floor) / (bound - floor)))
        left, floor = after, bound
    return left
