"""How many requests per second of one shape a replica serves within its targets.

In a steady state of `rate` requests per second, each second of the engine holds `rate` prompts and as many decode steps
as fit beside them. With `extra` the seconds by which a prompt makes the steps longer that compute it, the mean time
between tokens is `itl = step(running) / (1 - rate * extra)`, and by Little's law `running = rate * output * itl`: a
fixed point that rises with the rate. A prompt waits for the step under way and for the prompts before it, as in an
M/G/1 queue whose service is `extra` (own derivation after DistServe, OSDI'24, section 3, which has M/D/1).

A target holds for the mean between one request's own tokens. That scatters around `itl`: prompts of others fall into
its steps at random, more noticeably the fewer tokens it has, and the number that runs beside it varies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from stowage.decide.serving.performance import Performance

_ROUNDS: Final = 30
_FIXED_POINT_ROUNDS: Final = 200
_TAIL_ROUNDS: Final = 40
_MOST_PER_SECOND: Final = 1e5
_PARTS: Final = ((-1.28, 0.2), (-0.52, 0.2), (0.0, 0.2), (0.52, 0.2), (1.04, 0.1), (1.44, 0.05), (2.06, 0.05))
"""Of the normal distribution: the middle of a part and its share, finer where tokens are many."""


class Bound(StrEnum):
    """What keeps a replica from serving more."""

    TTFT = "TimeToFirstToken"
    ITL = "InterTokenLatency"
    KV = "KvCache"
    RUNNING = "MaxRunning"
    COMPUTE = "Compute"
    """There is no steady state: prompts and tokens take longer than the time they come in."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Requests alike, or the means of many.

    Attributes:
        prompt_tokens: mean.
        output_tokens: mean.
        prompt_variation: standard deviation of prompt tokens over their mean: long ones hold up those behind them.
        output_variation: the same of output tokens.
    """

    prompt_tokens: float
    output_tokens: float
    prompt_variation: float = 0.0
    output_variation: float = 0.0


@dataclass(frozen=True, slots=True)
class Targets:
    """For `quantile` of requests: first token within `ttft_seconds`, mean between tokens at most `itl_seconds`."""

    ttft_seconds: float
    itl_seconds: float
    quantile: float = 0.99


@dataclass(frozen=True, slots=True)
class Load:
    """The steady state at a rate.

    Attributes:
        requests_per_second: the rate.
        running: sequences that decode, in the mean.
        kv_tokens: of all sequences together, in the mean.
        busy_share: of the time that goes to prompts, from 0 to 1.
        itl_seconds: mean time between tokens.
        itl_tail_seconds: of the requests' own means, the quantile asked for.
        ttft_seconds: at the quantile asked for.
    """

    requests_per_second: float
    running: float
    kv_tokens: float
    busy_share: float
    itl_seconds: float
    itl_tail_seconds: float
    ttft_seconds: float


@dataclass(frozen=True, slots=True)
class Capacity:
    """The highest rate within the targets, what the replica looks like then, and what bounds it.

    `load` is None and the rate 0 where even one request misses the targets or does not fit.
    """

    requests_per_second: float
    bound: Bound
    load: Load | None


def capacity(performance: Performance, shape: Shape, targets: Targets, *, rounds: int = _ROUNDS) -> Capacity:
    """The highest rate that one replica serves within the targets, by bisection.

    Args:
        performance: of the replica.
        shape: of the requests.
        targets: of each of them.
        rounds: halvings of a range whose end is twice its begin; eight leave less than half a percent.

    Raises:
        ValueError: a shape or target is not more than 0.
    """
    if not (
        shape.prompt_tokens > 0 and shape.output_tokens > 0 and targets.ttft_seconds > 0 and targets.itl_seconds > 0
    ):
        raise ValueError("a shape's tokens and the targets are more than 0")
    low, high, bound = 0.0, 1.0, _broken(performance, shape, targets, 0.0)
    if bound is not None:
        return Capacity(0.0, bound, None)
    while (bound := _broken(performance, shape, targets, high)) is None and high < _MOST_PER_SECOND:
        low, high = high, 2.0 * high
    for _ in range(rounds):
        middle = (low + high) / 2.0
        broken = _broken(performance, shape, targets, middle)
        if broken is None:
            low = middle
        else:
            high, bound = middle, broken
    return Capacity(low, bound or Bound.COMPUTE, load_at(performance, shape, low, targets.quantile))


def load_at(performance: Performance, shape: Shape, rate: float, quantile: float = 0.99) -> Load | None:
    """The steady state at a rate of requests per second; None: there is none."""
    context = shape.prompt_tokens + _mean_remaining(shape.output_tokens, shape.output_variation)
    running = rate * shape.output_tokens * performance.decode_step_seconds(1.0, context)
    for _ in range(_FIXED_POINT_ROUNDS):
        step = performance.decode_step_seconds(max(1.0, running), running * context)
        extra, _ = _extra_moments(performance, shape, running, running * context)
        free = 1.0 - rate * extra
        if free <= 0.0 or running > 4.0 * performance.max_running:
            return None
        found = rate * max(0.0, shape.output_tokens - 1.0) * step / free
        if abs(found - running) <= 1e-6 * max(1.0, found):
            return _load(performance, shape, rate, quantile, found)
        running = found
    return None


def _load(performance: Performance, shape: Shape, rate: float, quantile: float, running: float) -> Load:
    context = shape.prompt_tokens + _mean_remaining(shape.output_tokens, shape.output_variation)
    kv_tokens = running * context
    step = performance.decode_step_seconds(max(1.0, running), kv_tokens)
    extra, square = _extra_moments(performance, shape, running, kv_tokens)
    busy = rate * extra
    # Pollaczek and Khinchine; the tail of the wait is taken as exponential, which it is for most services
    mean_wait = rate * square / 2.0 / (1.0 - busy)
    tail = mean_wait / busy * math.log(busy / (1.0 - quantile)) if busy > 1.0 - quantile else 0.0
    longest = _typical(shape.prompt_tokens, shape.prompt_variation, _normal_excess(quantile))
    met = min(1.0, running)  # how likely a prompt comes beside running sequences
    own = met * _prefill_seconds(performance, longest, max(1.0, running), kv_tokens)
    own += (1.0 - met) * _prefill_seconds(performance, longest, 0.0, 0.0)
    ttft = performance.overhead_seconds + met * step + max(mean_wait, tail) + own
    itl = step / (1.0 - busy)
    around = rate * itl * square
    more = performance.decode_step_seconds(running + math.sqrt(running), (running + math.sqrt(running)) * context)
    itl_tail = _tail(itl, around, max(0.0, more - step) / (1.0 - busy), shape, quantile)
    return Load(rate, running, kv_tokens, busy, itl, itl_tail, ttft)


def _tail(mean: float, around: float, common: float, shape: Shape, quantile: float) -> float:
    """The quantile of requests' mean times between tokens.

    `around` over a request's tokens is the variance that prompts of others cause, `common` the deviation that all
    requests share at a time. Lengths are taken as log-normal.
    """
    parts = [
        (math.sqrt(around / max(1.0, tokens - 1.0) + common**2), share)
        for tokens, share in _typical_parts(shape.output_tokens, shape.output_variation)
    ]
    low, high = mean, mean + 8.0 * max(deviation for deviation, _ in parts)
    for _ in range(_TAIL_ROUNDS):
        middle = (low + high) / 2.0
        above = sum(share * _normal_above((middle - mean) / deviation) for deviation, share in parts if deviation > 0)
        if above > 1.0 - quantile:
            low = middle
        else:
            high = middle
    return high


def _typical_parts(mean: float, variation: float) -> list[tuple[float, float]]:
    """Tokens in the middle of each part of the requests, and the part's share; one where all are alike."""
    if variation <= 0.0:
        return [(mean, 1.0)]
    return [(_typical(mean, variation, z), share) for z, share in _PARTS]


def _typical(mean: float, variation: float, z: float) -> float:
    """Tokens `z` deviations from the median of a log-normal distribution."""
    variance = math.log1p(variation**2)
    return mean * math.exp(math.sqrt(variance) * z - variance / 2.0)


def _normal_above(z: float) -> float:
    return math.erfc(z / math.sqrt(2.0)) / 2.0


def _broken(performance: Performance, shape: Shape, targets: Targets, rate: float) -> Bound | None:
    if shape.prompt_tokens + shape.output_tokens - 1 > performance.kv_capacity_tokens:
        return Bound.KV
    load = load_at(performance, shape, rate, targets.quantile)
    if load is None:
        return Bound.COMPUTE
    if load.itl_tail_seconds > targets.itl_seconds and shape.output_tokens > 1:
        return Bound.ITL
    if load.ttft_seconds > targets.ttft_seconds:
        return Bound.TTFT
    spread = _normal_excess(targets.quantile)
    if load.running + spread * math.sqrt(load.running) > performance.max_running and load.running > 1.0:
        return Bound.RUNNING
    if load.kv_tokens * (1.0 + spread / math.sqrt(max(1.0, load.running))) > performance.kv_capacity_tokens:
        return Bound.KV if load.running > 1.0 else None
    return None


def _extra_moments(performance: Performance, shape: Shape, running: float, kv_tokens: float) -> tuple[float, float]:
    """Mean and mean square of `_extra_seconds` over the requests' prompts."""
    parts = [
        (_extra_seconds(performance, tokens, running, kv_tokens), share)
        for tokens, share in _typical_parts(shape.prompt_tokens, shape.prompt_variation)
    ]
    return sum(share * seconds for seconds, share in parts), sum(share * seconds**2 for seconds, share in parts)


def _extra_seconds(performance: Performance, prompt_tokens: float, running: float, kv_tokens: float) -> float:
    """By how much the steps that compute a prompt are longer than steps without it."""
    beside = max(1.0, running)
    steps = max(1.0, math.ceil(prompt_tokens / _budget(performance, beside)))
    without = performance.decode_step_seconds(beside, kv_tokens)
    return max(0.0, _prefill_seconds(performance, prompt_tokens, beside, kv_tokens) - steps * without)


def _prefill_seconds(performance: Performance, prompt_tokens: float, beside: float, kv_tokens: float) -> float:
    """How long the steps take that compute a prompt beside so many sequences, which may be none."""
    budget, total, offset = _budget(performance, beside), 0.0, 0.0
    while offset < prompt_tokens:
        chunk = min(budget, prompt_tokens - offset)
        earlier = performance.earlier_chunk_seconds(offset, chunk)
        total += performance.mixed_step_seconds(chunk, beside, kv_tokens, earlier)
        offset += chunk
    return total


def _budget(performance: Performance, running: float) -> float:
    return performance.max_batched_tokens - min(running, performance.max_running)


def _mean_remaining(output_tokens: float, variation: float) -> float:
    """Tokens that a running sequence has generated in the mean: long outputs are met more often (renewal theory)."""
    return output_tokens * (1.0 + variation**2) / 2.0


def _normal_excess(quantile: float) -> float:
    """Standard deviations above the mean at a quantile of the normal distribution (Abramowitz and Stegun, 26.2.23)."""
    if quantile <= 0.5:
        return 0.0
    t = math.sqrt(-2.0 * math.log(1.0 - min(quantile, 1.0 - 1e-12)))
    return t - (2.515517 + 0.802853 * t + 0.010328 * t * t) / (1.0 + 1.432788 * t + 0.189269 * t * t + 0.001308 * t**3)
