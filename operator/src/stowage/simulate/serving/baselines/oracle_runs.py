"""What plans are judged by: runs of the fleet, over the whole trace as any policy's, or over a stretch of it.

In a stretch replicas serve at once: a plan says how many serve, and the starts are ahead of it, so that whether
requests attain does not depend on how long a start takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from stowage.simulate.serving.baselines.serving_plan import Plan, Planned, Terms
from stowage.simulate.serving.fleet import run
from stowage.simulate.serving.outcome import Outcome
from stowage.simulate.serving.requests import Requests
from stowage.simulate.serving.setup import Setup

WARM_SECONDS = 60.0
TAIL_SECONDS = 90.0
"""A stretch is played from so long before to so long after what changes in it."""


@dataclass(slots=True)
class Stage:
    """Plays plans; `played` counts the requests of all runs so far, the measure of effort.

    `runs` holds every plan that was played over the whole trace.
    """

    requests: Requests
    setup: Setup
    terms: Terms
    name: str
    played: int = 0
    runs: dict[Plan, Outcome] = field(default_factory=dict)

    def misses(self, serving: Plan) -> int:
        """Of the whole trace, by a run in which each start takes its time."""
        if serving not in self.runs:
            self.played += len(self.requests)
            steps = self.terms.steps(serving)
            self.runs[serving] = run(self.requests, lambda: Planned(self.name, steps), self.setup)
        return int((~self.runs[serving].attained).sum())

    def misses_between(self, serving: Sequence[int], first: int, end: int) -> int:
        """Of the requests that arrive around the slots `first` to before `end`."""
        warm, tail = round(WARM_SECONDS / self.terms.slot_seconds), round(TAIL_SECONDS / self.terms.slot_seconds)
        return int(self._missed(serving, max(0, first - warm), min(len(serving), end + tail)).sum())

    def misses_by_slot(self, replicas: int, first: int, end: int) -> NDArray[np.int64]:
        """Of the slots `first` to before `end` with as many replicas all the time, from a warm fleet on."""
        warm = max(0, first - round(WARM_SECONDS / self.terms.slot_seconds))
        slots = self._slots(warm, end)
        missed = self._missed([replicas] * end, warm, end)
        where = slots[missed & (slots >= first)] - first
        return np.bincount(where, minlength=end - first)[: end - first]

    def arrived_by_slot(self, first: int, end: int) -> NDArray[np.int64]:
        """Requests of the slots `first` to before `end`."""
        return np.bincount(self._slots(first, end) - first, minlength=end - first)[: end - first]

    def _slots(self, first: int, end: int) -> NDArray[np.int64]:
        low, high = self._cut(first, end)
        return (self.requests.arrival_seconds[low:high] / self.terms.slot_seconds).astype(np.int64)

    def _cut(self, first: int, end: int) -> tuple[int, int]:
        arrivals, width = self.requests.arrival_seconds, self.terms.slot_seconds
        low, high = np.searchsorted(arrivals, [first * width, end * width])
        return int(low), int(high)

    def _missed(self, serving: Sequence[int], first: int, end: int) -> NDArray[np.bool_]:
        low, high = self._cut(first, end)
        if low == high:
            return np.zeros(0, np.bool_)
        self.played += high - low
        requests, begins = self.requests, first * self.terms.slot_seconds
        part = Requests(
            requests.arrival_seconds[low:high] - begins,
            requests.prompt_tokens[low:high],
            requests.output_tokens[low:high],
        )
        changes = [slot for slot in range(first + 1, end) if serving[slot] != serving[slot - 1]]
        steps = [
            (0.0, serving[first]),
            *(((slot - first) * self.terms.slot_seconds, serving[slot]) for slot in changes),
        ]
        quick = replace(
            self.setup,
            cold_start_seconds=0.0,
            initial=serving[first],
            bounds=(0, max(serving[first:end])),
            scrape_interval_seconds=1e9,
            failures=(),
            drain_limit_seconds=120.0,
        )
        outcome = run(part, lambda: Planned(self.name, steps, self.terms.slot_seconds), quick)
        return ~outcome.attained
