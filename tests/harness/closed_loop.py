"""One engine in which a fixed number of equal requests always is: whoever ends is followed at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stowage.decide.serving.performance import Performance
from stowage.simulate.serving.ledger import Ledger
from stowage.simulate.serving.replica import Replica
from stowage.simulate.serving.requests import Requests


@dataclass(frozen=True)
class Steady:
    """Means of the requests after the first turn, which all began at once."""

    ttft_seconds: float
    itl_seconds: float
    requests_per_second: float


def closed_loop(performance: Performance, users: int, prompt_tokens: int, output_tokens: int, turns: int = 6) -> Steady:
    """Plays `users` requests at a time, `turns` times."""
    count = users * turns
    ledger = Ledger(Requests(np.zeros(count), np.full(count, prompt_tokens), np.full(count, output_tokens)))
    replica = Replica(performance, ledger)
    sent = 0
    while sent < users:
        replica.enqueue(sent, 0.0)
        sent += 1
    while replica.outstanding:
        now = replica.next_at
        replica.advance(now)
        while sent < count and sent - ledger.completed < users:
            ledger.arrival_seconds[sent] = now + performance.overhead_seconds
            replica.enqueue(sent, now)
            sent += 1
    later = slice(users, count - users)
    first, last = np.array(ledger.first_token_at), np.array(ledger.finished_at)
    arrival = np.array(ledger.arrival_seconds)
    ttft, decode = (first - arrival)[later].mean(), (last - first)[later].mean()
    return Steady(float(ttft), float(decode / max(1, output_tokens - 1)), users / float(ttft + decode))
