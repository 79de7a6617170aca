"""Requests of a simulation: when each arrives, how long its prompt is and how much it generates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Requests:
    """Arrays of one length: `arrival_seconds` from 0 on, ascending; prompt and output tokens, each at least 1.

    Raises:
        ValueError: the lengths differ, times fall or are negative, or a request has no token.
    """

    arrival_seconds: Floats
    prompt_tokens: Ints
    output_tokens: Ints

    def __post_init__(self) -> None:
        if not len(self.arrival_seconds) == len(self.prompt_tokens) == len(self.output_tokens):
            raise ValueError("requests need as many arrivals as prompts and outputs")
        if not len(self):
            return
        if not np.isfinite(self.arrival_seconds).all() or self.arrival_seconds[0] < 0:
            raise ValueError("arrivals are finite and not before 0")
        if (np.diff(self.arrival_seconds) < 0).any():
            raise ValueError("arrivals do not go back in time")
        if self.prompt_tokens.min() < 1 or self.output_tokens.min() < 1:
            raise ValueError("a request has at least one token of prompt and one of output")

    def __len__(self) -> int:
        """How many requests."""
        return len(self.arrival_seconds)

    @property
    def duration_seconds(self) -> float:
        """From 0 to the last arrival."""
        return float(self.arrival_seconds[-1]) if len(self) else 0.0

    def until(self, seconds: float) -> Requests:
        """Those that arrive before."""
        count = int(np.searchsorted(self.arrival_seconds, seconds))
        return Requests(self.arrival_seconds[:count], self.prompt_tokens[:count], self.output_tokens[:count])


def in_order(arrival_seconds: Floats, prompt_tokens: Ints, output_tokens: Ints) -> Requests:
    """Requests sorted by arrival; those that arrive at once stay in the order given."""
    order = np.argsort(arrival_seconds, kind="stable")
    return Requests(arrival_seconds[order], prompt_tokens[order], output_tokens[order])
