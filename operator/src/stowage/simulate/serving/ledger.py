"""What became of each request so far, and the counters that an engine exports, summed over a fleet's replicas."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable

from stowage.decide.serving.view import E2E_BOUNDS_SECONDS, ITL_BOUNDS_SECONDS, TTFT_BOUNDS_SECONDS
from stowage.simulate.serving.requests import Requests


class Ledger:
    """Written by the replicas, read by scrapes and by the outcome.

    `first_token_at` and `finished_at` are NaN until then. `ttft_counts`, `itl_counts`, `mean_itl_counts` and
    `e2e_counts` hold one count per bucket, not yet summed up as Prometheus does; the last bucket holds what is above
    all bounds.
    """

    def __init__(self, requests: Requests) -> None:
        self.arrival_seconds: list[float] = requests.arrival_seconds.tolist()
        self.prompt_tokens: list[int] = requests.prompt_tokens.tolist()
        self.output_tokens: list[int] = requests.output_tokens.tolist()
        self.first_token_at = [math.nan] * len(requests)
        self.finished_at = [math.nan] * len(requests)
        self.completed = self.generated = self.preemptions = 0
        self.ttft_counts = [0] * (len(TTFT_BOUNDS_SECONDS) + 1)
        self.itl_counts = [0] * (len(ITL_BOUNDS_SECONDS) + 1)
        self.mean_itl_counts = [0] * (len(ITL_BOUNDS_SECONDS) + 1)
        self.e2e_counts = [0] * (len(E2E_BOUNDS_SECONDS) + 1)

    def first_token(self, index: int, at: float) -> None:
        """A request got its first token."""
        self.first_token_at[index] = at
        self.ttft_counts[bisect_left(TTFT_BOUNDS_SECONDS, at - self.arrival_seconds[index])] += 1

    def finish(self, index: int, at: float) -> None:
        """A request got its last token."""
        self.finished_at[index] = at
        self.completed += 1
        mean = (at - self.first_token_at[index]) / max(1, self.output_tokens[index] - 1)
        self.mean_itl_counts[bisect_left(ITL_BOUNDS_SECONDS, mean)] += 1
        self.e2e_counts[bisect_left(E2E_BOUNDS_SECONDS, at - self.arrival_seconds[index])] += 1

    def interval(self, seconds: float, sequences: int) -> None:
        """So many sequences got a token so long after the one before."""
        self.itl_counts[bisect_left(ITL_BOUNDS_SECONDS, seconds)] += sequences

    def intervals(self, step_seconds: Callable[[int], float], first: int, end: int, sequences: int) -> None:
        """The same for the steps `first` to before `end`, whose length never falls."""
        at = first
        while at < end:
            bucket = bisect_left(ITL_BOUNDS_SECONDS, step_seconds(at))
            last = end
            if bucket < len(ITL_BOUNDS_SECONDS) and step_seconds(end - 1) > ITL_BOUNDS_SECONDS[bucket]:
                last = at + bisect_right(range(at, end), ITL_BOUNDS_SECONDS[bucket], key=step_seconds)
            self.itl_counts[bucket] += (last - at) * sequences
            at = last
