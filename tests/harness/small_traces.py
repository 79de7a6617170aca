"""Small traces and a small engine, for tests of serving policies that a person can reckon through."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stowage.decide.serving.performance import Performance, constant, line
from stowage.simulate.serving.requests import Requests
from stowage.simulate.serving.setup import Setup

ENGINE = Performance(
    prefill_seconds=line(0.1, 0.001),
    decode_seconds=line(0.02, 0.002),
    kv_capacity_tokens=20_000,
    max_running=16,
    max_batched_tokens=512,
)
"""A prompt of 100 tokens takes 0.2 s alone, a step of one sequence 22 ms."""
PLAIN = Performance(prefill_seconds=constant(0.25), decode_seconds=constant(0.01), kv_capacity_tokens=10_000)


def trace(
    rates: Sequence[float], *, slot_seconds: float = 30.0, prompt: int = 100, output: int = 20, seed: int = 0
) -> Requests:
    """Poisson arrivals with one rate per slot; all requests alike."""
    rng = np.random.default_rng(seed)
    parts = [
        np.sort(rng.uniform(slot * slot_seconds, (slot + 1) * slot_seconds, rng.poisson(rate * slot_seconds)))
        for slot, rate in enumerate(rates)
    ]
    arrivals = np.concatenate(parts)
    count = len(arrivals)
    return Requests(arrivals, np.full(count, prompt, np.int64), np.full(count, output, np.int64))


def setup(*, cold_start_seconds: float = 30.0, initial: int = 1, ttft: float = 1.0, itl: float = 0.3) -> Setup:
    """One GPU per replica, up to twenty replicas."""
    return Setup(ENGINE, 1, ttft, itl, cold_start_seconds, initial=initial, bounds=(1, 20))
