"""Perfect foresight: the cheapest schedule of replicas found by who knows all arrivals, lengths and the engine.

It is replayed like any policy, in the same fleet, with starts asked for a cold start ahead.

What it is optimal over. Plans say per slot of 15 s how many replicas serve; gaps shorter than a cold start are kept.
A dynamic programme finds, for a price per missed request, the plan of least replica-seconds (service and starts) under
the assumption that a slot's misses depend on the replicas of that slot and the time before it alone; they are counted
for every number of replicas in runs of the real fleet. The price is bisected until runs of the whole trace miss just
few enough. Then shifts are moved, left out and exchanged, each judged in the fleet (`oracle_search`), from the cheapest
of these plans and from the schedules given as `known`. So it is the best of what was looked at, not a proof: it is not
optimal over finer slots, over who drains or is routed to, over several shifts changed at once, nor beyond its effort.
It is never dearer than the best fixed size or than a schedule in `known` that attains as much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stowage.simulate.serving.baselines.oracle_runs import Stage
from stowage.simulate.serving.baselines.oracle_search import Search
from stowage.simulate.serving.baselines.serving_plan import Plan, Terms
from stowage.simulate.serving.outcome import Outcome
from stowage.simulate.serving.requests import Requests
from stowage.simulate.serving.setup import Setup

NAME = "oracle"
_CHUNK_SECONDS = 300.0
_PRICES = 12
_HOPELESS_SHARE = 0.5
_LATE_DEVIATIONS = 2.0
_KNOWN = 2


@dataclass(frozen=True, slots=True)
class Effort:
    """How long the search goes on, and how fine plans are.

    It ends once about `requests` were played: no more than `most_runs` and no less than `least_runs` times the trace.
    """

    requests: int = 1_000_000
    least_runs: int = 8
    most_runs: int = 60
    slot_seconds: float = 15.0

    def most_played(self, count: int) -> int:
        """Requests to play for a trace of so many."""
        return max(self.least_runs * count, min(self.requests, self.most_runs * count))


def perfect_foresight(
    requests: Requests,
    setup: Setup,
    attainment: float,
    best_fixed: Outcome,
    known: Sequence[Outcome] = (),
    effort: Effort | None = None,
) -> Outcome:
    """The run of the cheapest schedule found that reaches `attainment`, or what the best fixed size attains if less.

    `best_fixed` is the run of the best fixed size; `known` are other runs, whose schedules it may take and improve.
    """
    effort = effort or Effort()
    wanted = min(attainment, best_fixed.attainment)
    most_misses = int((1.0 - wanted) * len(requests) + 1e-9)
    terms = _terms(setup, best_fixed, effort.slot_seconds)
    stage = Stage(requests, setup, terms, NAME)
    slots = int(requests.duration_seconds / effort.slot_seconds) + 1
    enough = sorted((one for one in (best_fixed, *known) if one.attainment >= wanted), key=_cost)
    starts = [terms.normal(_served(one, slots, effort.slot_seconds)) for one in enough[:_KNOWN]]
    starts += _by_price(stage, slots, most_misses)
    fits = [plan for plan in starts if stage.misses(plan) <= most_misses]
    if fits:
        most_played = stage.played + effort.most_played(len(requests))
        Search(stage, most_misses, most_played).improved(min(fits, key=lambda plan: stage.runs[plan].gpu_hours))
    found = [one for one in stage.runs.values() if one.attainment >= wanted]
    return replace(min([*found, *enough], key=_cost), policy=NAME)


def _cost(outcome: Outcome) -> float:
    return outcome.gpu_hours


def _terms(setup: Setup, best_fixed: Outcome, slot_seconds: float) -> Terms:
    cold = setup.cold_start
    lead = cold.mean_seconds + _LATE_DEVIATIONS * cold.deviation_seconds
    most = min(setup.bounds[1], max(setup.initial, len(best_fixed.lives)) + 1)
    return Terms(slot_seconds, lead, setup.initial, max(setup.bounds[0], 0), most)


def _served(outcome: Outcome, slots: int, slot_seconds: float) -> list[int]:
    """How many replicas served in each slot of a run, at its middle."""
    middles = (np.arange(slots) + 0.5) * slot_seconds
    counts = np.zeros(slots, np.int64)
    for life in outcome.lives:
        if life.ready_at is not None:
            until = life.gone_at if life.drained_at is None else life.drained_at
            counts += (middles >= life.ready_at) & (middles < until)
    return [int(count) for count in counts]


def _by_price(stage: Stage, slots: int, most_misses: int) -> list[Plan]:
    """Plans of least cost for prices of a miss, bisected to where the trace's run misses just few enough."""
    terms = stage.terms
    least = max(1, terms.least)
    misses = _misses_table(stage, slots, range(least, terms.most + 1))
    low, high = 1e-3, 1e5
    found = []
    for _ in range(_PRICES):
        price = float(np.sqrt(low * high))
        plan = terms.normal(_cheapest_plan(misses, terms, price, least))
        if stage.misses(plan) <= most_misses:
            found.append(plan)
            high = price
        else:
            low = price
    return found


def _misses_table(stage: Stage, slots: int, counts: range) -> NDArray[np.int64]:
    """(slots, counts): requests that arrive in a slot and miss with so many replicas, chunk by chunk of the trace."""
    chunk = max(1, round(_CHUNK_SECONDS / stage.terms.slot_seconds))
    table = np.zeros((slots, len(counts)), np.int64)
    for first in range(0, slots, chunk):
        end = min(slots, first + chunk)
        arrived = stage.arrived_by_slot(first, end)
        for column in reversed(range(len(counts))):
            missed = stage.misses_by_slot(counts[column], first, end)
            table[first:end, column] = missed
            if missed.sum() > _HOPELESS_SHARE * arrived.sum():
                table[first:end, :column] = arrived[:, None]  # fewer replicas need not be tried
                break
    # more replicas never miss more: what chance says otherwise is smoothed away
    return np.minimum.accumulate(table, axis=1)


def _cheapest_plan(misses: NDArray[np.int64], terms: Terms, price: float, least: int) -> list[int]:
    """Viterbi: least slots * count + starts * lead + price * misses."""
    slots, kinds = misses.shape
    counts = np.arange(least, least + kinds)
    rise = np.maximum(0, counts[None, :] - counts[:, None]) * terms.lead_seconds  # [before, after]
    from_initial = np.maximum(0, counts - terms.initial) * terms.lead_seconds
    total = np.zeros(kinds)
    back = np.zeros((slots, kinds), np.int64)
    for slot in range(slots):
        here = counts * terms.slot_seconds + price * misses[slot]
        here = np.where(counts <= max(least, terms.open_at(slot)), here, np.inf)
        if slot == 0:
            total = from_initial + here
            continue
        ways = total[:, None] + rise
        back[slot] = ways.argmin(axis=0)
        total = ways.min(axis=0) + here
    at = int(total.argmin())
    plan = [at]
    for slot in range(slots - 1, 0, -1):
        at = int(back[slot, at])
        plan.append(at)
    return [int(counts[index]) for index in reversed(plan)]
