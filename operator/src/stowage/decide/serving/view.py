"""What a decision about a role's replicas sees: the replicas, and what was scraped of them so far.

Rates, means and quantiles are those of PromQL (`rate`, `avg_over_time`, `histogram_quantile`) with the extrapolation
to the window's ends left out. A sample that is not a finite number of at least zero is no sample: it never counts as
zero, and an answer without samples is None.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import Literal

TTFT_BOUNDS_SECONDS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0),
    *(2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
"""Upper bounds of the buckets of `vllm:time_to_first_token_seconds`; one more bucket holds the rest."""
ITL_BOUNDS_SECONDS = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0),
    *(2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
"""Upper bounds of the buckets of `vllm:inter_token_latency_seconds`, and of those of requests' own means,
`vllm:request_time_per_output_token_seconds`; one more bucket holds the rest."""
E2E_BOUNDS_SECONDS = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
"""Upper bounds of the buckets of `vllm:e2e_request_latency_seconds`; one more bucket holds the rest."""

Counter = Literal["arrived", "completed", "prompt_tokens", "generated_tokens"]
Gauge = Literal["ready", "starting", "waiting", "running", "kv_tokens_in_use", "kv_tokens_capacity"]
Histogram = Literal["ttft_counts", "itl_counts", "mean_itl_counts", "e2e_counts"]
BOUNDS_SECONDS: dict[Histogram, tuple[float, ...]] = {
    "ttft_counts": TTFT_BOUNDS_SECONDS,
    "itl_counts": ITL_BOUNDS_SECONDS,
    "mean_itl_counts": ITL_BOUNDS_SECONDS,
    "e2e_counts": E2E_BOUNDS_SECONDS,
}
"""Of each histogram's buckets."""


@dataclass(frozen=True, slots=True)
class ReplicaView:
    """One replica of a role at `View.now`.

    `age_seconds` counts from when it was asked for, `ready_seconds` from when one that has no sample yet became ready
    (None: it has one, or nobody tells); `waiting` are requests queued in the engine, 0 while it starts.
    """

    name: str
    is_ready: bool
    age_seconds: float
    waiting: int
    running: int
    kv_tokens_in_use: int
    kv_tokens_capacity: int
    ready_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Scrape:
    """All replicas of a role at one scrape; `at` is the sample's own time in seconds.

    Gauges: `ready` and `starting` replicas, `waiting` and `running` requests, tokens in the KV cache. Counters:
    requests and `prompt_tokens` when they arrive (not when they end), requests `completed`, `generated_tokens` when
    generated. Histograms are counters too: `ttft_counts[i]` requests whose time to first token was at most
    `TTFT_BOUNDS_SECONDS[i]`, the last one all of them; `itl_counts` the same for the times between tokens. Not all
    engines have `mean_itl_counts`, ended requests by the mean time between their own tokens, and `e2e_counts`, ended
    requests by the time from arrival to last token: empty where they are not known. `draining` replicas still finish
    requests: counters have theirs, gauges do not.
    """

    at: float
    ready: int
    starting: int
    waiting: int
    running: int
    kv_tokens_in_use: int
    kv_tokens_capacity: int
    arrived: int
    completed: int
    prompt_tokens: int
    generated_tokens: int
    ttft_counts: tuple[int, ...]
    itl_counts: tuple[int, ...]
    mean_itl_counts: tuple[int, ...] = ()
    e2e_counts: tuple[int, ...] = ()
    draining: int = 0


@dataclass(frozen=True, slots=True)
class View:
    """A role at the instant `now` (seconds).

    `desired` replicas are asked for; `replicas` are those that do not drain; `scrapes` are in order of time, and the
    newest may be older than now; `cold_start_seconds` is what a new replica is expected to take until it is ready;
    `spares` replicas beyond `desired` are kept warm, or start as such: they serve as soon as they are asked for.
    """

    now: float
    desired: int
    replicas: tuple[ReplicaView, ...]
    scrapes: tuple[Scrape, ...]
    cold_start_seconds: float
    spares: int = 0

    def within(self, window_seconds: float) -> tuple[Scrape, ...]:
        """The scrapes later than `window_seconds` ago and not later than now."""
        first = bisect_right(self.scrapes, self.now - window_seconds, key=_at)
        return self.scrapes[first : bisect_right(self.scrapes, self.now, key=_at)]

    def increase(self, counter: Counter, window_seconds: float) -> tuple[float, float] | None:
        """By how much a counter rose between its first and last sample in the window, and the seconds between them.

        Where it falls, the process behind it began again at zero. None without two samples at different times.
        """
        samples = [(one.at, value) for one in self.within(window_seconds) if _sound(value := getattr(one, counter))]
        if len(samples) < 2 or samples[-1][0] <= samples[0][0]:
            return None
        values = [value for _, value in samples]
        rise = sum(_rise(before, after) for before, after in itertools.pairwise(values))
        return rise, samples[-1][0] - samples[0][0]

    def rate(self, counter: Counter, window_seconds: float) -> float | None:
        """A counter's mean rise per second over the window; None without two samples."""
        found = self.increase(counter, window_seconds)
        return None if found is None else found[0] / found[1]

    def mean(self, gauge: Gauge, window_seconds: float) -> float | None:
        """A gauge's mean over the samples in the window; None without any."""
        values = [value for one in self.within(window_seconds) if _sound(value := getattr(one, gauge))]
        return sum(values) / len(values) if values else None

    def counted(self, histogram: Histogram, window_seconds: float) -> tuple[float, ...] | None:
        """The window's increase of each of a histogram's cumulative buckets; None without two samples."""
        bounds = BOUNDS_SECONDS[histogram]
        rows = [
            row
            for one in self.within(window_seconds)
            if len(row := getattr(one, histogram)) == len(bounds) + 1 and all(map(_sound, row))
        ]
        if len(rows) < 2:
            return None
        totals = [0.0] * (len(bounds) + 1)
        for before, after in itertools.pairwise(rows):
            began_again = after[-1] < before[-1]  # one process, so all its buckets began again
            for index, value in enumerate(after):
                totals[index] += value if began_again else max(0.0, value - before[index])
        return tuple(totals)

    def quantile(self, histogram: Histogram, q: float, window_seconds: float) -> float | None:
        """The `q` quantile (0 to 1) in seconds of what a histogram counted in the window.

        Within a bucket, values are taken as evenly spread; beyond the last bound, that bound is the answer. None
        without two samples or where nothing was counted.
        """
        totals = self.counted(histogram, window_seconds)
        return None if totals is None else bucket_quantile(BOUNDS_SECONDS[histogram], totals, q)


def bucket_quantile(bounds: tuple[float, ...], totals: tuple[float, ...], q: float) -> float | None:
    """The `q` quantile of cumulative counts `totals`, one per bound and one more for all; None where all is 0."""
    if totals[-1] <= 0:
        return None
    rank = q * totals[-1]
    below, floor = 0.0, 0.0
    for bound, total in zip(bounds, totals, strict=False):
        if total >= rank and total > below:
            return floor + (bound - floor) * max(0.0, rank - below) / (total - below)
        below, floor = max(below, total), bound
    return bounds[-1]


def _at(scrape: Scrape) -> float:
    return scrape.at


def _sound(value: float) -> bool:
    return math.isfinite(value) and value >= 0


def _rise(before: float, after: float) -> float:
    return after - before if after >= before else after
