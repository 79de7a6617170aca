"""What recommenders look at: the view, and what was made of it once for all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from stowage.decide.serving.demand import BIN_SECONDS, SEASON_BIN_SECONDS
from stowage.decide.serving.forecast_models import Floats
from stowage.decide.serving.latency_model import Capacity, LatencyModel, Shape
from stowage.decide.serving.memory import Memory
from stowage.decide.serving.replicas_for_demand import Price
from stowage.decide.serving.settings import Settings
from stowage.decide.serving.view import View

LEVEL_SECONDS = 60.0
RECENT_SECONDS = 20.0
LEAST_RECENT_INTERVALS = 2.0
"""A rate over fewer may see one scrape alone."""
SHORTEST_DRAIN_SECONDS = 60.0
JUMP_DEVIATIONS = 5.0
"""So much above the last minute, the last seconds are a jump and not chance."""
SIZE_DEVIATION = 1.3
"""Assumed of the work of single requests: standard deviation of a count's noise over that of a Poisson count."""


@dataclass(frozen=True)
class Situation:
    """One role at one instant."""

    view: View
    arrivals: View
    """Counts requests when they come: for decode replicas that is the prefill role's."""
    settings: Settings
    memory: Memory
    shape: Shape
    model: LatencyModel
    capacity: Capacity
    prompt_share: float
    """Of a request's work, how much goes with the length of its prompt."""
    price: Price

    @cached_property
    def ready(self) -> int:
        """Replicas that serve."""
        return sum(replica.is_ready for replica in self.view.replicas)

    @cached_property
    def waiting(self) -> float:
        """Requests that wait in engines, by the newest scrape."""
        return float(self.view.scrapes[-1].waiting) if self.view.scrapes else 0.0

    @cached_property
    def running_within_targets(self) -> float:
        """Requests in a replica at the largest load within the targets; at least one."""
        return max(1.0, self.model.latency(self.capacity.within_targets_per_second, self.shape).running)

    @cached_property
    def stay_seconds(self) -> float:
        """How long a request is in a replica at the largest load within the targets (Little's law)."""
        return self.running_within_targets / self.capacity.within_targets_per_second

    @cached_property
    def drain_seconds(self) -> float:
        """Over how long a queue is worked off: no replica that comes later can help."""
        return max(SHORTEST_DRAIN_SECONDS, self.view.cold_start_seconds)

    @cached_property
    def recent_seconds(self) -> float:
        """How long the last seconds are: the quicker a start, the less a replica costs that was asked for in vain."""
        quickest = LEAST_RECENT_INTERVALS * self.settings.interval_seconds
        return min(RECENT_SECONDS, max(quickest, self.view.cold_start_seconds / 2))

    def rate(self, window_seconds: float) -> float | None:
        """Requests per second over the window, each counted by its work; None: not known."""
        requests = self.arrivals.rate("arrived", window_seconds)
        tokens = self.arrivals.rate("prompt_tokens", window_seconds)
        return None if requests is None or tokens is None else self._work(requests, tokens)

    def noise(self, requests_per_second: float, seconds: float) -> float:
        """Relative standard deviation of a count over so many seconds that chance alone makes."""
        return SIZE_DEVIATION / math.sqrt(max(1.0, requests_per_second * seconds))

    @cached_property
    def level(self) -> float | None:
        """Requests per second now, by their work: the mean of a minute, or of seconds after a jump."""
        level, recent = self.rate(LEVEL_SECONDS), self.rate(self.recent_seconds)
        if level is None or recent is None:
            return recent if level is None else level
        return recent if self.jumped else level

    @cached_property
    def jumped(self) -> bool:
        """Whether clearly more comes in the last seconds than in the last minute."""
        level, recent = self.rate(LEVEL_SECONDS), self.rate(self.recent_seconds)
        if level is None or recent is None:
            return False
        return recent > level * (1 + JUMP_DEVIATIONS * self.noise(level, self.recent_seconds))

    @cached_property
    def series(self) -> Floats:
        """Requests per second by their work, in even bins without gaps, the newest last."""
        bins = self.memory.bins
        if not bins:
            return np.zeros(0)
        at = np.array([one.at for one in bins])
        work = np.array([self._work(one.requests_per_second, one.prompt_tokens_per_second) for one in bins])
        begin = max(at[0], at[-1] - BIN_SECONDS * 359)
        grid = np.arange(round((at[-1] - begin) / BIN_SECONDS) + 1)[::-1] * -BIN_SECONDS + at[-1]
        even: Floats = np.interp(grid, at, work)
        return even

    def season(self, horizon_bins: int) -> Floats | None:
        """What was one season ago at each bin of `series` and `horizon_bins` on; None where nothing is known."""
        length, past = self.settings.season_seconds, self.memory.season
        count = len(self.series)
        if length <= 0 or not past or not count or past[0].at > self.memory.bins[-1].at - length + SEASON_BIN_SECONDS:
            return None
        middles = np.array([one.at - SEASON_BIN_SECONDS / 2 for one in past])
        work = np.array([self._work(one.requests_per_second, one.prompt_tokens_per_second) for one in past])
        wanted = self.memory.bins[-1].at - length + BIN_SECONDS * (np.arange(count + horizon_bins) - count + 1)
        found: Floats = np.interp(wanted, middles, work)
        found[(wanted < middles[0] - SEASON_BIN_SECONDS) | (wanted > middles[-1] + SEASON_BIN_SECONDS)] = np.nan
        return found

    def _work(self, requests: float, tokens: float) -> float:
        share = self.prompt_share
        return (1 - share) * requests + share * tokens / self.shape.prompt_tokens
