"""What one replica holds while its targets are met: the thresholds that baselines ask for, derived in one way for all.

The rate is the highest constant one (Poisson arrivals, sizes drawn from the trace itself) at which one replica, alone,
reaches the attainment asked for; `in_flight` is the mean number of requests in it at that rate. `waiting` is the
longest queue that a request may find in a replica so busy and still have its first token in time. Both are the largest
values at which the targets hold: a lower threshold costs more, a higher one misses more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stowage.simulate.serving.baselines.static_best import fixed
from stowage.simulate.serving.outcome import COMPLETED, Outcome
from stowage.simulate.serving.requests import Requests
from stowage.simulate.serving.setup import Setup

_SAMPLE = 1500
_PRECISION = 0.02
_LEAST_RATE = 1e-3
_MOST_DOUBLED = 4096.0


@dataclass(frozen=True, slots=True)
class Targets:
    """Of one replica: requests per second, requests in flight, requests waiting."""

    requests_per_second: float
    in_flight: float
    waiting: float


def derive(requests: Requests, setup: Setup, attainment: float) -> Targets:
    """The largest values at which the targets of `setup` hold for requests of these sizes.

    Where no rate reaches the attainment (some requests are too long for the targets), what a replica without load
    reaches, less one percent of it, is asked for instead.
    """
    if not len(requests):
        return Targets(1.0, 1.0, 1.0)
    rng = np.random.default_rng(setup.seed)
    sample = rng.integers(0, len(requests), _SAMPLE)
    gaps = rng.exponential(1.0, _SAMPLE)

    def at(rate: float) -> Outcome:
        arrivals = np.cumsum(gaps) / rate
        drawn = Requests(arrivals, requests.prompt_tokens[sample], requests.output_tokens[sample])
        return fixed(drawn, replace(setup, failures=(), scrape_interval_seconds=60.0), 1)

    prompt, output = float(requests.prompt_tokens.mean()), float(requests.output_tokens.mean())
    alone = setup.performance.lone_prefill_seconds(max(1, round(prompt)))
    guess = 1.0 / (alone + 1e-3)
    low, high = _LEAST_RATE, guess
    idle = at(_LEAST_RATE).attainment
    if idle == 0:  # no rate at all keeps the targets: one request at a time is the least that can be aimed at
        return Targets(guess, 1.0, 1.0)
    wanted = attainment if idle >= attainment else 0.99 * idle
    while at(high).attainment >= wanted and high < _MOST_DOUBLED * guess:
        low, high = high, 2 * high
    low = max(low, high / 64)
    while at(low).attainment < wanted and low > _LEAST_RATE:
        low, high = max(_LEAST_RATE, low / 8), low
    while high - low > _PRECISION * low:
        middle = (low + high) / 2
        if at(middle).attainment >= wanted:
            low = middle
        else:
            high = middle
    in_flight = max(1.0, mean_in_flight(at(low)))
    return Targets(low, in_flight, _longest_queue(setup, prompt, output, in_flight))


def mean_in_flight(outcome: Outcome) -> float:
    """Requests in the system, waiting or running, by Little's law over the completed ones."""
    done = outcome.status == COMPLETED
    stayed = outcome.ttft_seconds[done] + outcome.itl_seconds[done] * (outcome.requests.output_tokens[done] - 1)
    return float(stayed.sum()) / max(1e-9, outcome.requests.duration_seconds)


def _longest_queue(setup: Setup, prompt_tokens: float, output_tokens: float, in_flight: float) -> float:
    """How many mean prompts may be ahead of a request beside `in_flight` sequences; at least one."""
    performance = setup.performance
    running = min(in_flight, performance.max_running - 1.0)
    room = performance.max_batched_tokens - running
    kv_tokens = running * (prompt_tokens + output_tokens / 2)
    per_token = performance.mixed_step_seconds(room, running, kv_tokens) / room
    return max(1.0, setup.slo_ttft_seconds / (per_token * prompt_tokens) - 1.0)
