"""How many requests missed their targets, as far as histograms tell, and what that says about the price of spares.

The time to first token is counted per request, and so are the mean time between a request's tokens and the time to its
last one where the engine has histograms of them. Where it has none of the second, the mean over running requests
stands for it: requests in the engines over tokens made per second (Little's law), single requests around it.
"""

from __future__ import annotations

import math
from dataclasses import replace

from stowage.decide.serving.memory import Memory, Misses
from stowage.decide.serving.settings import Role, Settings
from stowage.decide.serving.situation import Situation
from stowage.decide.serving.view import BOUNDS_SECONDS, Histogram, View

WINDOW_SECONDS = 20.0
LEAST_REQUESTS = 10.0
LEAST_TOKENS = 100.0
TAIL = 0.02
"""Of those in a bucket, what is taken to have got to its end where nothing was counted beyond."""
ITL_DEVIATION = 0.1
"""Of requests' mean times between tokens around the mean of all, as a logarithm."""
HALF_LIFE_OF_WINDOW = 0.5
"""After so much of the window over which attainment is counted, what was missed weighs half."""
AIM = 0.6
"""Of what may be missed, how much is aimed at: the rest is for what nobody can foretell."""
GAIN_PER_MINUTE = 12.0
"""By how much the logarithm of the price falls with the requests of a mean minute that missed beyond the aim."""
QUICK_START_SECONDS = 90.0
MOST_STEP = 0.3
"""The logarithm of the price falls by no more at once: a burst says little of what more replicas would have saved."""
STEP_WHILE_PENDING = 0.3
"""Times that, while replicas asked for do not serve yet: what is missed then was partly mended already."""
LEAST_FACTOR, MOST_FACTOR = 0.001, 4.0
"""Beyond, misses do not depend on the price any more, or nothing has been tried yet."""


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
    kept = 1.0
    if settings.role is not Role.DECODE and settings.slo_ttft_seconds is not None:
        kept *= 1 - (_share_longer(view, "ttft_counts", settings.slo_ttft_seconds, window_seconds) or 0.0)
    if settings.role is not Role.PREFILL and settings.slo_itl_seconds is not None:
        slow = _share_longer(view, "mean_itl_counts", settings.slo_itl_seconds, window_seconds)
        kept *= 1 - (_assumed_slow(view, settings.slo_itl_seconds, window_seconds) if slow is None else slow)
    if settings.slo_e2e_seconds is not None:
        ended_late = _share_longer(view, "e2e_counts", settings.slo_e2e_seconds, window_seconds) or 0.0
        kept = min(kept, 1 - ended_late)  # who ends late is mostly who began late or is slow
    return counts[-1], 1 - kept


def missed_lately(situation: Situation) -> float | None:
    """The share missed in the last seconds; None where too few came to say."""
    found = missed_share(situation.view, situation.settings, WINDOW_SECONDS)
    return None if found is None or found[0] < LEAST_REQUESTS else found[1]


def remember_misses(view: View, settings: Settings, memory: Memory) -> Memory:
    """The memory with the requests since the last look counted, and the price that follows.

    Each request that missed lowers the logarithm of the price by the same amount, and each that did not raises it by so
    much less that the price rests where the share aimed at is missed, whatever demand is like (adaptive conformal
    inference: Gibbs and Candes, 2021). What the price does shows only after a start, so it moves the more slowly the
    longer that takes, as an integral controller with dead time has to; and while replicas are on their way it learns
    less of misses, as such a controller does while its actuator has not followed (anti-windup).
    """
    known = memory.misses
    newest = view.scrapes[-1].at if view.scrapes else None
    if newest is None or (known.counted_at is not None and newest - known.counted_at < WINDOW_SECONDS):
        return memory
    found = missed_share(view, settings, WINDOW_SECONDS + 1)
    since = WINDOW_SECONDS if known.counted_at is None else newest - known.counted_at
    keep = 0.5 ** (since / (HALF_LIFE_OF_WINDOW * settings.attainment_window_seconds))
    count, share = found or (0.0, 0.0)
    seen, missed = known.seen * keep + count, known.missed * keep + count * share
    windows = known.windows * keep + 1
    mean_minutes = count / (seen / windows) * WINDOW_SECONDS / 60 if count else 0.0
    gain = GAIN_PER_MINUTE * quickness(view.cold_start_seconds)
    pending = sum(one.is_ready for one in view.replicas) < view.desired
    most = MOST_STEP * STEP_WHILE_PENDING if pending else MOST_STEP
    step = max(-most, gain * mean_minutes * (AIM * settings.may_miss - share))
    factor = min(MOST_FACTOR, max(LEAST_FACTOR, known.price_factor * math.exp(step)))
    return replace(memory, misses=Misses(seen, missed, windows, factor, newest))


def quickness(cold_start_seconds: float) -> float:
    """1 for quick starts, less the longer they are: of what is done, how much can soon be seen or mended."""
    return min(1.0, QUICK_START_SECONDS / max(1.0, cold_start_seconds))


def _assumed_slow(view: View, seconds: float, window_seconds: float) -> float:
    itl = mean_itl_seconds(view, window_seconds)
    return 1 / (1 + math.exp(min(60.0, math.log(seconds / itl) / (0.55 * ITL_DEVIATION)))) if itl else 0.0


def _share_longer(view: View, histogram: Histogram, seconds: float, window_seconds: float) -> float | None:
    """Of what a histogram counted in the window, the share that took longer; None: it does not tell."""
    counts = view.counted(histogram, window_seconds)
    if counts is None:
        return None
    return _longer(BOUNDS_SECONDS[histogram], counts, seconds) / counts[-1] if counts[-1] > 0 else 0.0


def _longer(bounds: tuple[float, ...], counts: tuple[float, ...], seconds: float) -> float:
    """How many took longer than that: within a bucket, those left fall off exponentially, as tails do."""
    left, floor = counts[-1], 0.0
    for bound, count in zip(bounds, counts, strict=False):
        after = counts[-1] - count
        if seconds == bound:
            return after
        if seconds < bound:
            if left <= 0:
                return 0.0
            return float(left * (max(after, TAIL * left) / left) ** ((seconds - floor) / (bound - floor)))
        left, floor = after, bound
    return left
