"""The highest rate that one replica serves within its targets, found by playing requests against it.

As DistServe does (Zhong et al., OSDI'24, algorithms 1 and 2): simulate, and search the rate. What a closed form leaves
out is in it: bursts, long prompts in front of short ones, requests whose own mean between tokens is late.
"""

from __future__ import annotations

import math

import numpy as np

from stowage.decide.serving.capacity import Bound, Capacity, Shape, Targets, capacity
from stowage.decide.serving.performance import Performance
from stowage.decide.serving.view import View
from stowage.simulate.serving.fleet import run
from stowage.simulate.serving.requests import Ints, Requests
from stowage.simulate.serving.setup import Setup

_REQUESTS = 2000
_WARM = 200
"""The first ones find the replica empty; they do not count."""
_PRECISION = 0.02
_LEAST_SHARE = 1 / 64
"""Below this share of what the closed form says, nothing is served."""


class SimulatedRate:
    """A `plan_serving.Rate`: requests of given lengths, arriving at random (Poisson), the same for every replica."""

    def __init__(self, prompt_tokens: Ints, output_tokens: Ints, seed: int) -> None:
        """Lengths to draw from, those of a request together; each at least 1."""
        rng = np.random.default_rng(seed)
        chosen = rng.integers(0, len(prompt_tokens), _REQUESTS)
        self._prompts, self._outputs = prompt_tokens[chosen], output_tokens[chosen]
        self._arrivals = np.cumsum(rng.exponential(1.0, _REQUESTS))

    def __call__(self, performance: Performance, shape: Shape, targets: Targets) -> Capacity:
        """What `capacity` answers, with the rate corrected.

        A shape of one output token is prefill alone. A `ttft_seconds` without end is decode alone: the first token
        comes from elsewhere, and how long a request waits for its place here is between its first token and its second.
        """
        modelled = capacity(performance, shape, targets)
        outputs = np.ones_like(self._outputs) if shape.output_tokens <= 1.0 else self._outputs

        def attains(rate: float) -> bool:
            requests = Requests(self._arrivals / rate, self._prompts, outputs)
            setup = Setup(
                performance,
                gpus_per_replica=1,
                slo_ttft_seconds=targets.ttft_seconds,
                slo_itl_seconds=targets.itl_seconds,
                bounds=(1, 1),
                scrape_interval_seconds=max(60.0, requests.duration_seconds),
            )
            outcome = run(requests, _One, setup)
            good = outcome.attained
            if math.isinf(targets.ttft_seconds):
                late = outcome.waited_seconds / np.maximum(1, outputs - 1)
                good = good & ((outcome.itl_seconds + late <= targets.itl_seconds) | (outputs == 1))
            return float(good[_WARM:].mean()) >= targets.quantile

        guess = modelled.requests_per_second or 1.0
        low, high = 0.0, guess
        if attains(guess):
            low, high = guess, 2.0 * guess
            while attains(high) and high < 64.0 * guess:
                low, high = high, 2.0 * high
        else:
            least = _LEAST_SHARE * guess
            while high > least and not attains(low := high / 2.0):
                low, high = 0.0, low
        while low > 0.0 and high - low > _PRECISION * low:
            middle = (low + high) / 2.0
            low, high = (middle, high) if attains(middle) else (low, middle)
        bound = Bound.TTFT if low == 0.0 and modelled.requests_per_second else modelled.bound
        return Capacity(low, bound, modelled.load)


class _One:
    """Changes nothing."""

    name = "one"
    interval_seconds = 1e9

    def decide(self, view: View) -> int:
        """As many as there are."""
        return view.desired
