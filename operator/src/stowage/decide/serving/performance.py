"""How long the steps of one replica take and how many tokens it holds, as measured.

An engine with continuous batching works in steps: each gives every running sequence a token and computes a chunk of
the prompts that wait (Orca, OSDI'22; chunked prefill: Sarathi-Serve, OSDI'24; vLLM). A step without prompts takes a
time that depends on the sequences and on the tokens of theirs that attention reads; one with prompts takes what the
computation of all its tokens takes, times a factor for mixing, as in splitwise-sim (Patel et al., ISCA'24).
"""

from __future__ import annotations

import itertools
import math
import statistics
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

DEFAULT_BATCHED_TOKENS = 2048
"""`--max-num-batched-tokens` of vLLM's server on most GPUs; on those of the H100's class it begins with 8192."""
SHORTEST_STEP_SECONDS = 1e-6
"""What claims to be faster is a mistake of units, and would make a run without end."""
LONGEST_STEP_SECONDS = 20.0
"""No token takes so long: such numbers are not in the unit that they are taken for."""
DEFAULT_RUNNING = 256
"""`--max-num-seqs` of vLLM's server on most GPUs; on those of the H100's class it begins with 1024."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A piecewise linear function that never falls: flat before its first point, on by its last slope after the last.

    Raises:
        ValueError: there is no point, `at` does not rise, or a value falls, is negative or not finite.
    """

    at: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.at or len(self.at) != len(self.values):
            raise ValueError(f"a curve needs as many values as points, not {len(self.values)} for {len(self.at)}")
        if not all(map(math.isfinite, (*self.at, *self.values))) or self.values[0] < 0:
            raise ValueError("a curve's points are finite and its values at least 0")
        if any(a >= b for a, b in itertools.pairwise(self.at)):
            raise ValueError("a curve's points rise")
        if any(a > b for a, b in itertools.pairwise(self.values)):
            raise ValueError("a curve's values never fall")

    def __call__(self, x: float) -> float:
        """The value at `x`."""
        at, values = self.at, self.values
        last = len(at) - 1
        if x <= at[0] or not last:
            return values[0]
        right = bisect_right(at, x)
        if right > last:
            right = last
        begin, low, high = at[right - 1], values[right - 1], values[right]
        share = (x - begin) / (at[right] - begin)
        if share > 1.0:
            return high + (share - 1.0) * (high - low)
        between = low + share * (high - low)
        return min(high, between)  # never above the right end by rounding, so that it never falls


def measured_curve(points: Iterable[tuple[float, float]]) -> Curve:
    """A curve through measurements: the median where one point was measured often, then pooled until none falls.

    Pooling adjacent violators is the least-squares fit of a function that never falls (Ayer et al., 1955): where a
    profile is flat and noisy, as below 512 prompt tokens, it stays flat.

    Raises:
        ValueError: there is no measurement.
    """
    found = medians(points)
    at = sorted(found)
    blocks: list[tuple[float, int]] = []  # mean, number of points
    for x in at:
        mean, count = found[x], 1
        while blocks and blocks[-1][0] > mean:
            before, more = blocks.pop()
            mean, count = (mean * count + before * more) / (count + more), count + more
        blocks.append((mean, count))
    return Curve(tuple(at), tuple(mean for mean, count in blocks for _ in range(count)))


def medians(points: Iterable[tuple[float, float]]) -> dict[float, float]:
    """The median of what was measured at each point."""
    by_point: dict[float, list[float]] = {}
    for x, y in points:
        by_point.setdefault(x, []).append(y)
    return {x: statistics.median(values) for x, values in by_point.items()}


def constant(value: float) -> Curve:
    """The curve that is `value` everywhere."""
    return Curve((0.0,), (value,))


def line(base: float, slope: float) -> Curve:
    """The curve `base + slope * x` for `x` from 0 on."""
    return Curve((0.0, 1.0), (base, base + slope))


@dataclass(frozen=True, slots=True)
class Performance:
    """The measured performance of one replica.

    Attributes:
        prefill_seconds: of a step by the prompt tokens in it, with nothing else in it.
        decode_seconds: of a step without prompts by the sequences that run, what `decode_seconds_per_kv_token` tells
            left out.
        kv_capacity_tokens: tokens whose keys and values the replica holds.
        decode_seconds_per_kv_token: by the sequences that run, what each token that attention reads adds to a step; 0
            where the profile does not tell.
        mixed_factor: at least 1; a step of prompts and sequences takes so many times what its tokens alone take.
        max_running: sequences that run at once, those whose prompt is being computed included.
        max_batched_tokens: tokens that a step computes at most.
        overhead_seconds: of each request outside the steps, before its first token: tokenising, transport.

    Raises:
        ValueError: a limit is less than 1, `mixed_factor` less than 1, or a step is too short or too long.
    """

    prefill_seconds: Curve
    decode_seconds: Curve
    kv_capacity_tokens: int
    decode_seconds_per_kv_token: Curve = Curve((0.0,), (0.0,))
    mixed_factor: float = 1.0
    max_running: int = DEFAULT_RUNNING
    max_batched_tokens: int = DEFAULT_BATCHED_TOKENS
    overhead_seconds: float = 0.0

    def __post_init__(self) -> None:
        for name in ("kv_capacity_tokens", "max_running", "max_batched_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, less than 1")
        if self.max_batched_tokens <= self.max_running:
            raise ValueError(f"max_batched_tokens {self.max_batched_tokens} must be more than max_running")
        if min(self.prefill_seconds.values[0], self.decode_seconds.values[0]) < SHORTEST_STEP_SECONDS:
            raise ValueError(f"a step takes at least {SHORTEST_STEP_SECONDS:g} seconds")
        if max(self.prefill_seconds(1), self.decode_seconds(1)) > LONGEST_STEP_SECONDS:
            raise ValueError(f"a step for one token takes more than {LONGEST_STEP_SECONDS:g} s: mind the unit")
        if not self.mixed_factor >= 1.0 or not self.overhead_seconds >= 0.0:
            raise ValueError("mixed_factor is at least 1, overhead_seconds at least 0")

    def decode_step_seconds(self, running: float, kv_tokens: float) -> float:
        """A step that gives each of `running` sequences, which hold `kv_tokens` together, one token."""
        return self.decode_seconds(running) + self.decode_seconds_per_kv_token(running) * kv_tokens

    def mixed_step_seconds(self, prompt_tokens: float, running: float, kv_tokens: float, earlier: float = 0.0) -> float:
        """A step that computes `prompt_tokens` and gives each of `running` sequences a token.

        It takes what the computation of all its tokens takes, and no less than what the prompts add to a step without.
        `earlier` is what the chunks' attention to earlier chunks of their prompts costs: see `earlier_chunk_seconds`.
        """
        prefill = self.prefill_seconds
        if running <= 0:
            return prefill(prompt_tokens) + earlier
        kv_seconds = self.decode_seconds_per_kv_token(running) * kv_tokens
        together = self.mixed_factor * prefill(prompt_tokens + running)
        added = self.decode_seconds(running) + prefill(prompt_tokens) - prefill(0)
        return max(together, added) + kv_seconds + earlier

    def earlier_chunk_seconds(self, offset: float, tokens: float) -> float:
        """What a chunk of `tokens` costs more where `offset` tokens of its prompt came before it.

        It is what the measured curve says of the whole over its two parts, so that a prompt in chunks never takes less
        than the same prompt at once.
        """
        if offset <= 0:
            return 0.0
        whole = self.prefill_seconds(offset + tokens)
        return max(0.0, whole - self.prefill_seconds(offset) - self.prefill_seconds(tokens))

    def prompt_steps(self, prompt_tokens: float, running: float, kv_tokens: float) -> tuple[int, float]:
        """The chunks of one prompt beside `running` sequences, as large as steps allow, and the seconds of their steps.

        The sum of `mixed_step_seconds` with `earlier_chunk_seconds`; what the chunks have in common is looked up once.
        """
        prefill, most = self.prefill_seconds, self.max_batched_tokens - running
        beside = running > 0
        kv_seconds = self.decode_seconds_per_kv_token(running) * kv_tokens if beside else 0.0
        decode, nothing = (self.decode_seconds(running), prefill(0)) if beside else (0.0, 0.0)
        chunks, seconds, offset, left, before = 0, 0.0, 0.0, prompt_tokens, 0.0
        tokens, alone, step = -1.0, 0.0, 0.0
        while left > 0:
            if tokens != min(left, most):
                tokens = min(left, most)
                step = alone = prefill(tokens)
                if beside:
                    together = self.mixed_factor * prefill(tokens + running)
                    step = max(together, decode + alone - nothing) + kv_seconds
            earlier, whole = 0.0, alone
            if offset > 0:
                whole = prefill(offset + tokens)
                earlier = max(0.0, whole - before - alone)
            seconds += step + earlier
            chunks, left, offset, before = chunks + 1, left - tokens, offset + tokens, whole
        return chunks, seconds

    def lone_prefill_seconds(self, prompt_tokens: int) -> float:
        """From arrival to first token of a request that finds the replica idle, its prompt in chunks."""
        total, offset = self.overhead_seconds, 0
        while offset < prompt_tokens:
            chunk = min(self.max_batched_tokens, prompt_tokens - offset)
            total += self.prefill_seconds(chunk) + self.earlier_chunk_seconds(offset, chunk)
            offset += chunk
        return total


class Known(dict[int, float]):
    """A curve's values at whole numbers, each computed once."""

    __slots__ = ("_curve",)

    def __init__(self, curve: Curve) -> None:
        super().__init__()
        self._curve = curve

    def __missing__(self, x: int) -> float:
        """Computes and keeps it."""
        value = self[x] = self._curve(x)
        return value


@dataclass(frozen=True, slots=True)
class StepTimes:
    """A performance's curves for fast look-up, shared by all replicas that have it."""

    prefill: Known
    decode: Known
    per_kv_token: Known
    mixed_factor: float

    def mixed(self, prompt_tokens: int, running: int, kv_tokens: int, earlier: float) -> float:
        """`Performance.mixed_step_seconds`, to the last bit."""
        prefill = self.prefill
        if running <= 0:
            return prefill[prompt_tokens] + earlier
        kv_seconds = self.per_kv_token[running] * kv_tokens
        together = self.mixed_factor * prefill[prompt_tokens + running]
        added = self.decode[running] + prefill[prompt_tokens] - prefill[0]
        return max(together, added) + kv_seconds + earlier


@lru_cache(maxsize=64)
def step_times(performance: Performance) -> StepTimes:
    """The curves of a performance; one object for equal ones."""
    return StepTimes(
        Known(performance.prefill_seconds),
        Known(performance.decode_seconds),
        Known(performance.decode_seconds_per_kv_token),
        performance.mixed_factor,
    )
