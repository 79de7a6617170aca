"""The best fixed size: the fewest replicas, the same over the whole trace, that reach the attainment asked for.

No on-line policy may choose so: it takes the whole trace to know the number. A fixed size needs no cold start.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from stowage.decide.serving.view import View
from stowage.simulate.serving.fleet import run
from stowage.simulate.serving.outcome import Outcome
from stowage.simulate.serving.requests import Requests
from stowage.simulate.serving.setup import Setup

FIRST_SECONDS = 300.0
"""How much of a trace the size is chosen on that all policies begin with."""


class Static:
    """Always the same number of replicas."""

    interval_seconds = 3600.0

    def __init__(self, replicas: int, name: str = "static-best") -> None:
        self.name = name
        self._replicas = replicas

    def decide(self, view: View) -> int:  # noqa: ARG002
        """That number."""
        return self._replicas


def fixed(requests: Requests, setup: Setup, replicas: int) -> Outcome:
    """A run with so many replicas from the first second to the last."""
    at_least = min(setup.bounds[0], replicas)
    return run(
        requests,
        lambda: Static(replicas),
        replace(setup, initial=replicas, bounds=(at_least, max(replicas, setup.bounds[1]))),
    )


@dataclass(slots=True)
class _Sizes:
    requests: Requests
    setup: Setup
    known: dict[int, Outcome]

    def outcome(self, replicas: int) -> Outcome:
        if replicas not in self.known:
            self.known[replicas] = fixed(self.requests, self.setup, replicas)
        return self.known[replicas]

    def attainment(self, replicas: int) -> float:
        return self.outcome(replicas).attainment


def best_fixed(requests: Requests, setup: Setup, attainment: float, *, per_replica_per_second: float) -> Outcome:
    """The run of the fewest replicas that reach `attainment`; if none does, of the fewest that reach the most.

    `per_replica_per_second` requests of one replica are where the search begins; what it finds does not depend on it
    as long as more replicas never attain less.
    """
    sizes = _Sizes(requests, setup, {})
    least, most = max(1, setup.bounds[0]), max(1, setup.bounds[1])
    rate = len(requests) / max(1.0, requests.duration_seconds)
    low = high = min(most, max(least, math.ceil(rate / per_replica_per_second)))
    step = 1
    while sizes.attainment(high) < attainment and high < most:
        low, high, step = high + 1, min(most, high + step), step * 2
        if step > 2 and sizes.attainment(high) <= sizes.attainment(low - 1):
            break
    if sizes.attainment(high) < attainment:
        best = max(sizes.known, key=lambda count: (sizes.known[count].attainment, -count))
        return sizes.known[best]
    while low > least and sizes.attainment(low - 1) >= attainment:
        low -= 1
        high = low
    while low < high:
        middle = (low + high) // 2
        if sizes.attainment(middle) >= attainment:
            high = middle
        else:
            low = middle + 1
    return sizes.outcome(high)


def first_size(requests: Requests, setup: Setup, attainment: float, *, per_replica_per_second: float) -> int:
    """What all policies begin with: the best fixed size for the first five minutes."""
    first = requests.until(FIRST_SECONDS)
    if not len(first):
        return max(1, setup.bounds[0])
    found = best_fixed(first, setup, attainment, per_replica_per_second=per_replica_per_second)
    return len(found.lives)
