"""How fast a replica answers under a load, and what load it bears within its targets.

An engine with continuous batching makes steps of `D` seconds that give each of its `L` sequences a token; each prompt
makes `C` of them (its chunks) take `S` seconds together instead of `C D`. With `a` prompts per second the time between
tokens is

    ITL = D / (1 - a (S - C D)),    L = a O ITL    (Little's law, O tokens per output)

which is the queueing model of llm-d's WVA, T = alpha / (1 - rho), with the profile's curves in place of its straight
lines. Prompts that queue share steps; they wait as in an M/G/1 queue (Pollaczek-Khinchine).

The profile may be off for the pods at hand: two factors, on `D` and on `S`, are corrected on line by a Kalman filter
with a gate against outliers (normalised innovation squared, as in WVA), and the uncertainty that is left counts against
the replica.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, lru_cache

from stowage.decide.serving.memory import Corrections
from stowage.decide.serving.performance import LONGEST_STEP_SECONDS, Performance
from stowage.decide.serving.settings import Role, Settings

GATE = 7.378
"""Innovations squared over their variance beyond this are outliers; WVA's value."""
MOST_REFUSED = 4
"""So many more outliers than others are a change of the pods, not outliers."""
MEASUREMENT_DEVIATION = 0.08
"""Of one observed time between tokens, relative."""
WIDE_VARIANCE = 0.25
"""Of each factor once the pods have changed: little is known of them."""
DRIFT_VARIANCE = 2e-5
"""By how much the factors' variance grows with each observation."""
LEAST_FACTOR, MOST_FACTOR = 0.2, 5.0
SIZE_VARIATION = 1.0
"""Squared coefficient of variation of prompts' sizes and times: the conversation traces have about 1."""
SHORT_OUTPUT = 0.5
"""Of the mean output length: requests that are so short decide about the tail, for they see fewer prompts."""
LEAST_ITL_DEVIATION = 0.02
LOGISTIC_SCALE = math.sqrt(3) / math.pi
"""Scale of a logistic distribution over its standard deviation."""
HALF = 0.5
_PROMPT_SIZES = ((0.5858, 0.8536), (3.4142, 0.1464))
"""Two prompt lengths, as multiples of the mean, and their weights: Gauss-Laguerre nodes of an exponential spread."""
MOST_CHUNKS = 500
"""Of a prompt, that are looked at one by one: a longer one takes as many times longer. Whoever counts tokens wrongly,
and tells of prompts of billions, must not keep the services of others waiting."""
_STEPS_OF_FIXED_POINT = 12
_CLOSE = 0.005
_TARGETS = ("slo_ttft_seconds", "slo_itl_seconds", "slo_e2e_seconds")
_LEAST_RATE, _MOST_RATE, _CLOSE_RATE = 1e-4, 1e4, 1.004
_BOUND_OF_CONFIDENCE = 0.5
"""Deviations of the factors that a load must still fit with."""
_GRID = 0.02
"""Factors and shapes are rounded to such steps, relative, before capacities are looked for: most are known then."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Mean tokens of a request."""

    prompt_tokens: float
    output_tokens: float


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a replica bears: at `requests_per_second` half of the requests miss the targets.

    Around that load the missed share is a logistic function of the load's logarithm with the standard deviation
    `spread`; at `within_targets_per_second` as many miss as may.
    """

    requests_per_second: float
    spread: float
    within_targets_per_second: float


@dataclass(frozen=True, slots=True)
class Latency:
    """Of a replica under a steady load; infinite where it cannot bear it.

    `service_seconds` is what a prompt takes where prompts queue and fill each step together, `busy` the share of time
    that so much takes; `itl_deviation` the standard deviation of the logarithm of
    requests' mean times between tokens around their mean.
    """

    ttft_seconds: float
    itl_seconds: float
    running: float
    kv_tokens: float
    busy: float
    service_seconds: float
    itl_deviation: float


@dataclass(frozen=True, slots=True)
class LatencyModel:
    """A replica's profile and what was learned to correct it."""

    performance: Performance
    corrections: Corrections
    role: Role = Role.UNIFIED

    def latency(self, requests_per_second: float, shape: Shape) -> Latency:
        """Latencies of a replica that gets so many requests per second."""
        rate, itl, running, kv_tokens = max(0.0, requests_per_second), 0.0, 0.0, 0.0
        step, prompt, chunks = self.steps(running, kv_tokens, shape)
        for _ in range(_STEPS_OF_FIXED_POINT):
            free = 1.0 - rate * (prompt - chunks * step)
            itl = step / free if free > 0 else math.inf
            if itl > LONGEST_STEP_SECONDS:
                return _OVERLOADED
            before, running = running, rate * shape.output_tokens * itl if self.role is not Role.PREFILL else 0.0
            kv_tokens = running * (shape.prompt_tokens + shape.output_tokens / 2)
            step, prompt, chunks = self.steps(running, kv_tokens, shape)
            if abs(running - before) < _CLOSE * (1 + running):
                break
        service = min(prompt, self._full_steps(running, kv_tokens, shape))
        busy = rate * service
        if busy >= 1:
            return _OVERLOADED
        ttft = self.performance.overhead_seconds + step / 2 + prompt if chunks else 0.0
        ttft += busy * service * (1 + SIZE_VARIATION) / (2 * (1 - busy))
        spread = self._itl_deviation(rate, shape, (step, prompt, chunks), running, itl)
        return Latency(ttft, itl, running, kv_tokens, busy, service, spread)

    def missed(self, requests_per_second: float, shape: Shape, settings: Settings) -> float:
        """The share of requests that miss a target, or find no room, at a steady load."""
        at = self.latency(requests_per_second, shape)
        if at is _OVERLOADED:
            return 1.0
        kept = 1.0
        if self.role is not Role.DECODE and settings.slo_ttft_seconds is not None:
            kept *= 1 - _late(at, settings.slo_ttft_seconds)
        if self.role is Role.PREFILL:
            return 1 - kept
        if settings.slo_itl_seconds is not None:
            kept *= _normal(math.log(settings.slo_itl_seconds / at.itl_seconds) / at.itl_deviation)
        if settings.slo_e2e_seconds is not None:  # of a mean request: that longer ones take longer is not the load's
            between = (settings.slo_e2e_seconds - at.ttft_seconds) / shape.output_tokens
            kept *= _normal(math.log(between / at.itl_seconds) / at.itl_deviation) if between > 0 else 0.0
        noise = math.sqrt(1 / max(1.0, at.running))
        limits = self.performance
        queue = requests_per_second * (settings.slo_ttft_seconds or 0.0) / 2  # may wait for a place and be in time
        held = at.kv_tokens / max(1.0, at.running)
        for used, most in (
            (at.kv_tokens, limits.kv_capacity_tokens + queue * held),
            (at.running, limits.max_running + queue),
        ):
            kept *= _normal(math.log(most / max(1.0, used)) / noise)
        return 1 - kept

    def capacity(self, settings: Settings, shape: Shape) -> Capacity:
        """What a replica bears within the targets, its memory and what is not known for sure."""
        return _capacity(self.cautious(), settings, Shape(_rounded(shape.prompt_tokens), _rounded(shape.output_tokens)))

    def out_of_reach(self, settings: Settings, shape: Shape) -> frozenset[str]:
        """The targets that `capacity` leaves out, by their names in the settings."""
        shape = Shape(_rounded(shape.prompt_tokens), _rounded(shape.output_tokens))
        return _out_of_reach(self.cautious(), settings, shape)

    def _itl_deviation(
        self, rate: float, shape: Shape, steps: tuple[float, float, float], running: float, itl: float
    ) -> float:
        """Requests differ by the prompts that came while they ran (a compound Poisson sum) and by who ran with them."""
        step, prompt, chunks = steps
        stalled = min(0.95, max(0.0, rate * (prompt - chunks * step)))
        prompts = max(1.0, rate * itl * shape.output_tokens * SHORT_OUTPUT)
        of_prompts = (stalled / (1 - stalled)) ** 2 * (1 + SIZE_VARIATION) / prompts
        more = self.performance.decode_step_seconds(1.2 * running, 1.2 * running * shape.prompt_tokens)
        now = self.performance.decode_step_seconds(running, running * shape.prompt_tokens)
        elasticity = math.log(more / now) / math.log(1.2) if now > 0 and running >= 1 else 0.0
        return math.sqrt(LEAST_ITL_DEVIATION**2 + of_prompts + elasticity**2 / max(1.0, running))

    def prompt_share(self, requests_per_second: float, shape: Shape) -> float:
        """Of the work of a request at such a load, the share that goes with the length of its prompt (0 to 1)."""
        if self.role is Role.DECODE:
            return 0.0
        at = self.latency(requests_per_second, shape)
        step, prompt, chunks = self.steps(at.running, at.kv_tokens, shape)
        _, half, _ = self.steps(at.running, at.kv_tokens, replace(shape, prompt_tokens=shape.prompt_tokens / 2))
        if self.role is Role.PREFILL:
            return min(1.0, 2 * (prompt - half) / prompt)
        idle, _, _ = self.steps(1.0, at.kv_tokens / max(1.0, at.running), shape)
        decoding = shape.output_tokens * max(0.0, step - idle) / max(1.0, at.running)
        work = max(0.0, prompt - chunks * step) + decoding
        return min(1.0, 2 * (prompt - half) / work) if work > 0 else 0.0

    def cautious(self) -> LatencyModel:
        """The same with factors as bad as what is not known allows."""
        known = self.corrections
        decode = known.decode + _BOUND_OF_CONFIDENCE * math.sqrt(known.variance[0])
        prefill = known.prefill + _BOUND_OF_CONFIDENCE * math.sqrt(known.variance[2])
        return replace(self, corrections=Corrections(_rounded(decode), _rounded(prefill), (0.0, 0.0, 0.0)))

    def learn(
        self, itl_seconds: float, prompts_per_second: float, running: float, kv_tokens: float, shape: Shape, at: float
    ) -> LatencyModel:
        """Corrects the factors by a mean time between tokens, measured on replicas under a steady load.

        Args:
            itl_seconds: the mean time between tokens of a running request.
            prompts_per_second: that came to a replica.
            running: requests in a replica.
            kv_tokens: in a replica's cache.
            shape: of the requests.
            at: the time of the newest scrape behind it.

        What is not finite teaches nothing.
        """
        if not all(map(math.isfinite, (itl_seconds, prompts_per_second, running, kv_tokens))):
            return self
        plain = LatencyModel(self.performance, Corrections(), self.role)
        step, prompt, chunks = plain.steps(running, kv_tokens, shape)
        share = prompts_per_second * itl_seconds
        weights = step * max(0.0, 1 - share * chunks), share * prompt
        return replace(self, corrections=_corrected(self.corrections, weights, itl_seconds, at))

    def steps(self, running: float, kv_tokens: float, shape: Shape) -> tuple[float, float, float]:
        """Seconds of a step without prompts, of all steps with chunks of one prompt, and the number of its chunks."""
        profile, known = self.performance, self.corrections
        running = min(running, profile.max_running)
        step = known.decode * profile.decode_step_seconds(running, kv_tokens)
        if self.role is Role.DECODE:
            return step, 0.0, 0.0
        chunks = seconds = 0.0
        for times, weight in _PROMPT_SIZES:
            tokens = max(1.0, shape.prompt_tokens * times)
            longest = min(tokens, MOST_CHUNKS * (profile.max_batched_tokens - running))
            of_size = profile.prompt_steps(longest, running, kv_tokens)
            share = weight * (tokens / longest)
            chunks, seconds = chunks + share * of_size[0], seconds + share * of_size[1]
        return step, max(known.prefill * seconds, chunks * step), chunks

    def _full_steps(self, running: float, kv_tokens: float, shape: Shape) -> float:
        """Seconds per prompt of steps that are full of prompts."""
        if self.role is Role.DECODE:
            return 0.0
        tokens = self.performance.max_batched_tokens - min(running, self.performance.max_running)
        seconds = self.performance.mixed_step_seconds(tokens, running, kv_tokens)
        return self.corrections.prefill * seconds * shape.prompt_tokens / tokens


_OVERLOADED = Latency(math.inf, math.inf, math.inf, math.inf, 1.0, math.inf, 1.0)


@lru_cache(maxsize=4096)
def _capacity(model: LatencyModel, settings: Settings, shape: Shape) -> Capacity:
    settings = replace(settings, **dict.fromkeys(_out_of_reach(model, settings, shape)))  # type: ignore[arg-type]
    missed = cache(lambda rate: model.missed(rate, shape, settings))  # both searches begin alike
    most = _largest(missed, HALF)
    within = min(most, _largest(missed, settings.may_miss_planned))
    odds = math.log(1 / settings.may_miss_planned - 1)
    return Capacity(most, math.log(most / within) / (odds * LOGISTIC_SCALE), within)


@lru_cache(maxsize=4096)
def _out_of_reach(model: LatencyModel, settings: Settings, shape: Shape) -> frozenset[str]:
    """The targets that most requests miss on an idle replica: more replicas help none of them."""

    def is_missed(name: str) -> bool:
        others: dict[str, float | None] = {other: None for other in _TARGETS if other != name}
        return model.missed(_LEAST_RATE, shape, replace(settings, **others)) > HALF  # type: ignore[arg-type]

    return frozenset(name for name in _TARGETS if getattr(settings, name) is not None and is_missed(name))


def _largest(missed: Callable[[float], float], may_miss: float) -> float:
    low, high = _LEAST_RATE, _MOST_RATE
    may_miss += (1 - may_miss) * missed(low)  # no number of replicas avoids what idle ones miss
    while high / low > _CLOSE_RATE:
        middle = math.sqrt(low * high)
        if missed(middle) <= may_miss:
            low = middle
        else:
            high = middle
    return low


def _late(at: Latency, slo_ttft_seconds: float) -> float:
    """The share with a longer time to first token: an M/G/1 queue's waits fall off exponentially."""
    left = slo_ttft_seconds - (at.ttft_seconds - _mean_wait(at))
    if left <= 0:
        return 1.0
    return at.busy * math.exp(-2 * (1 - at.busy) * left / (at.service_seconds * (1 + SIZE_VARIATION)))


def _mean_wait(at: Latency) -> float:
    return at.busy * at.service_seconds * (1 + SIZE_VARIATION) / (2 * (1 - at.busy))


def _normal(deviations: float) -> float:
    """The standard normal distribution function."""
    return 0.5 * (1 + math.erf(deviations / math.sqrt(2)))


def _corrected(known: Corrections, weights: tuple[float, float], seen: float, at: float) -> Corrections:
    """One step of the Kalman filter for `seen = weights . factors`."""
    decode, cross, prefill = (
        entry + drift for entry, drift in zip(known.variance, (DRIFT_VARIANCE, 0, DRIFT_VARIANCE), strict=True)
    )
    first, second = weights
    to_decode, to_prefill = decode * first + cross * second, cross * first + prefill * second
    innovation = seen - (first * known.decode + second * known.prefill)
    variance = first * to_decode + second * to_prefill + (MEASUREMENT_DEVIATION * seen) ** 2
    if not (math.isfinite(innovation) and variance > 0):
        return known
    if innovation**2 / variance > GATE:
        if known.refused + 1 < MOST_REFUSED:
            return replace(known, refused=known.refused + 1, learned_at=at)
        return replace(known, variance=(WIDE_VARIANCE, 0.0, WIDE_VARIANCE), refused=0, learned_at=at)
    gains = to_decode / variance, to_prefill / variance
    return Corrections(
        decode=_bounded(known.decode + gains[0] * innovation),
        prefill=_bounded(known.prefill + gains[1] * innovation),
        variance=(
            max(0.0, decode - gains[0] * to_decode),  # rounding may leave a little less than nothing
            cross - gains[0] * to_prefill,
            max(0.0, prefill - gains[1] * to_prefill),
        ),
        refused=max(0, known.refused - 1),
        learned_at=at,
    )


def _rounded(value: float) -> float:
    return math.exp(round(math.log(value) / _GRID) * _GRID)


def _bounded(factor: float) -> float:
    return min(MOST_FACTOR, max(LEAST_FACTOR, factor))
