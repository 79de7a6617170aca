"""Requests with a rate of a known shape: ramp, spike, diurnal, on and off.

Arrivals are a Poisson process whose rate follows the shape, by thinning (Lewis and Shedler, 1979). Lengths are
log-normal around a median, as measured ones nearly are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from stowage.simulate.serving.requests import Floats, Ints, Requests

MOST_REQUESTS: Final = 20_000_000
LONGEST_LENGTH: Final = 32_768


class Shape(StrEnum):
    """How the rate changes between `low_per_second` and `high_per_second`."""

    RAMP = "ramp"
    """Evenly from low to high over the whole time."""
    SPIKE = "spike"
    """Low, but high for a tenth of the time from its middle on."""
    DIURNAL = "diurnal"
    """A cosine with one period, lowest at both ends."""
    ON_OFF = "on-off"
    """High and low by turns, six times each."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Medians of tokens, and the standard deviation of their logarithms."""

    prompt_tokens: float = 1000.0
    output_tokens: float = 130.0
    log_deviation: float = 0.8


def rate_of(shape: Shape, seconds: float, low: float, high: float) -> Callable[[Floats], Floats]:
    """Requests per second at each of the given seconds."""

    def share(at: Floats) -> Floats:
        part = at / seconds
        if shape is Shape.RAMP:
            return part
        if shape is Shape.SPIKE:
            return np.where((part >= 0.5) & (part < 0.6), 1.0, 0.0)
        if shape is Shape.DIURNAL:
            return (1.0 - np.cos(2.0 * math.pi * part)) / 2.0
        return np.where((12.0 * part).astype(np.int64) % 2 == 0, 1.0, 0.0)

    return lambda at: low + (high - low) * share(at)


def synthetic(
    shape: Shape,
    *,
    seconds: float,
    low_per_second: float,
    high_per_second: float,
    seed: int,
    lengths: Lengths | None = None,
) -> Requests:
    """Requests of one shape.

    Raises:
        ValueError: the time is not more than 0, the rates are not `0 <= low <= high`, or there are too many requests.
    """
    if not 0 < seconds < math.inf or not 0 <= low_per_second <= high_per_second:
        raise ValueError("a shape needs more than 0 seconds and 0 <= low rate <= high rate")
    if not seconds * high_per_second <= MOST_REQUESTS:
        raise ValueError(f"more than {MOST_REQUESTS} requests")
    rng = np.random.default_rng(seed)
    at = np.sort(rng.uniform(0.0, seconds, rng.poisson(seconds * high_per_second)))
    rates = rate_of(shape, seconds, low_per_second, high_per_second)(at)
    at = at[rng.random(len(at)) * high_per_second < rates]
    lengths = lengths or Lengths()
    prompts = _drawn(lengths.prompt_tokens, lengths.log_deviation, len(at), rng)
    return Requests(at, prompts, _drawn(lengths.output_tokens, lengths.log_deviation, len(at), rng))


def _drawn(median: float, deviation: float, count: int, rng: np.random.Generator) -> Ints:
    drawn = np.rint(median * np.exp(deviation * rng.standard_normal(count)))
    return np.clip(drawn, 1, LONGEST_LENGTH).astype(np.int64)
