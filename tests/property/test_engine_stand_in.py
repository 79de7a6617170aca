"""The engine that is driven step by step does what the simulator's does with many steps at once."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stand_in.engine import Engine, Sequence
from stowage.decide.serving.performance import Curve, Performance, constant, line
from stowage.simulate.serving.ledger import Ledger
from stowage.simulate.serving.replica import Replica
from stowage.simulate.serving.requests import Requests

TICK = 2.0**-14
FINE = 2.0**-34
"""All times are sums of multiples of powers of two, so that no sum is rounded; each arrival has bits of its own."""


@st.composite
def performances(draw: st.DrawFn) -> Performance:
    running = draw(st.integers(1, 6))
    base, rise = draw(st.integers(1, 400)), draw(st.integers(0, 3000))
    return Performance(
        prefill_seconds=Curve((0.0, 64.0, 256.0), (base * TICK, base * TICK, (base + rise) * TICK)),
        decode_seconds=line(draw(st.integers(1, 400)) * TICK, draw(st.integers(0, 40)) * TICK),
        kv_capacity_tokens=draw(st.integers(310, 900)),
        decode_seconds_per_kv_token=constant(draw(st.integers(0, 8)) * TICK / 256),
        mixed_factor=draw(st.sampled_from([1.0, 1.25])),
        max_running=running,
        max_batched_tokens=running + draw(st.integers(1, 120)),
    )


@st.composite
def loads(draw: st.DrawFn) -> Requests:
    count = draw(st.integers(1, 12))
    at = np.cumsum([draw(st.integers(0, 3000)) * TICK for _ in range(count)]) + FINE * np.arange(count)
    prompts = [draw(st.integers(1, 250)) for _ in range(count)]
    outputs = [draw(st.integers(1, 60)) for _ in range(count)]
    return Requests(at, np.array(prompts), np.array(outputs))


def simulated(load: Requests, performance: Performance) -> Ledger:
    ledger = Ledger(load)
    replica = Replica(performance, ledger)
    for index, at in enumerate(ledger.arrival_seconds):
        replica.advance(at)
        replica.enqueue(index, at)
    while replica.outstanding:
        replica.advance(replica.next_at)
    return ledger


def driven(engine: Engine, load: Requests, gone: frozenset[int] = frozenset()) -> list[Sequence]:
    """Every request as it was at its end; those in `gone` are given up at their first token."""
    columns = (load.prompt_tokens.tolist(), load.output_tokens.tolist(), load.arrival_seconds.tolist())
    sequences = [Sequence(*row) for row in zip(*columns, strict=True)]
    left, now = sequences.copy(), 0.0
    while True:
        while left and left[0].arrived_at <= now:
            engine.add(left.pop(0))
        if (seconds := engine.begin(now)) is None:
            if not left:
                return sequences
            now = left[0].arrived_at
            continue
        now += seconds
        for one in engine.end(now):
            if sequences.index(one) in gone:
                engine.remove(one)
        assert 0 <= engine.held <= engine.performance.kv_capacity_tokens


@settings(max_examples=200)
@given(loads(), performances())
def test_first_and_last_tokens_are_those_of_the_simulator(load: Requests, performance: Performance) -> None:
    ledger, engine = simulated(load, performance), Engine(performance)
    sequences = driven(engine, load)
    assert [one.first_token_at for one in sequences] == pytest.approx(ledger.first_token_at, abs=FINE)
    assert [one.last_token_at for one in sequences] == pytest.approx(ledger.finished_at, abs=FINE)
    assert engine.preemptions == ledger.preemptions
    assert (engine.held, engine.running, engine.waiting) == (0, 0, 0)


@settings(max_examples=100)
@given(loads(), performances(), st.frozensets(st.integers(0, 11)))
def test_who_is_given_up_leaves_nothing_behind(load: Requests, performance: Performance, gone: frozenset[int]) -> None:
    engine = Engine(performance)
    sequences = driven(engine, load, gone)
    assert (engine.held, engine.running, engine.waiting) == (0, 0, 0)
    for index, one in enumerate(sequences):
        assert one.generated == (1 if index in gone else one.output_tokens)
        assert math.isfinite(one.first_token_at)
