"""Requests to send: when each arrives, the tokens of its prompt and those that it asks for."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path

import numpy as np

from stowage.simulate.serving.requests import Requests, in_order
from stowage.simulate.serving.synthetic import Lengths, Shape, synthetic


class Load(StrEnum):
    """How the rate of arrivals goes between a low and a high one."""

    STEADY = "steady"
    """The high one all the time."""
    RAMP = "ramp"
    SPIKE = "spike"


def shaped(load: Load, *, seconds: float, low: float, high: float, lengths: Lengths, seed: int) -> Requests:
    """Poisson arrivals of one shape, `low` and `high` per second; the same ones for the same arguments.

    Raises:
        ValueError: see `synthetic`.
    """
    shape = Shape.SPIKE if load is Load.SPIKE else Shape.RAMP
    least = high if load is Load.STEADY else low
    return synthetic(shape, seconds=seconds, low_per_second=least, high_per_second=high, seed=seed, lengths=lengths)


def read_arrivals(file: Path) -> Requests:
    """Requests from a JSON list of `[seconds, prompt tokens, output tokens]`.

    Raises:
        ValueError: it is none, or see `Requests`.
    """
    rows = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(rows, list) or any(not isinstance(row, list) or len(row) != 3 for row in rows):
        raise ValueError(f"{file} is no list of [seconds, prompt tokens, output tokens]")
    at, prompts, outputs = zip(*rows, strict=True) if rows else ((), (), ())
    return in_order(np.array(at, float), np.array(prompts, np.int64), np.array(outputs, np.int64))
