"""How long requests are, from histograms of their tokens: means, and how widely they scatter."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from stowage.decide.serving.capacity import Shape

LEAST_REQUESTS: Final = 50.0
"""Fewer say too little about how lengths scatter."""
_OVER: Final = 1.5
"""Times the last bound: what is longer is taken to be so long."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Of `requests` requests: mean tokens, and their standard deviation over the mean."""

    requests: float
    mean: float
    variation: float


def lengths_of(counts: Mapping[float, float]) -> Lengths | None:
    """Lengths from a histogram.

    Requests of a bucket count as if all were in its middle, the geometric one, for bounds of engines grow by factors.

    Args:
        counts: by upper bound in tokens (the last one infinite), requests that were at most so long.

    Returns:
        None where too few requests were counted.
    """
    bounds = sorted(counts)
    below = [counts[bound] for bound in bounds]
    if not bounds or not all(map(math.isfinite, below)) or below[-1] < LEAST_REQUESTS:
        return None
    edges = [0.0, *bounds]
    inside = [max(0.0, above - under) for under, above in itertools.pairwise([0.0, *below])]
    middles = [_middle(low, high) for low, high in itertools.pairwise(edges)]
    requests = sum(inside)
    if requests < LEAST_REQUESTS:
        return None
    mean = sum(count * at for count, at in zip(inside, middles, strict=True)) / requests
    square = sum(count * (at - mean) ** 2 for count, at in zip(inside, middles, strict=True)) / requests
    return Lengths(requests, max(1.0, mean), math.sqrt(square) / max(1.0, mean))


def shape_of(prompts: Lengths | None, outputs: Lengths | None, known: Shape) -> Shape:
    """The shape of the requests; what was not counted is as in `known`.

    Engines count prompts and outputs apart, so whether long prompts have long outputs is not known: they are taken to
    have nothing to do with each other.
    """
    return Shape(
        prompts.mean if prompts is not None else known.prompt_tokens,
        outputs.mean if outputs is not None else known.output_tokens,
        prompts.variation if prompts is not None else known.prompt_variation,
        outputs.variation if outputs is not None else known.output_variation,
    )


def _middle(low: float, high: float) -> float:
    if math.isinf(high):
        return _OVER * low
    return math.sqrt(low * high) if low > 0 else high / 2
