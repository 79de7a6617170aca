"""Figures of many runs: by policy, beside the published ones and the bounds."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from stowage.simulate.ceiling import WELCOME_PERCENT, Ceiling
from stowage.simulate.fill_up import Outcome

Published = Mapping[tuple[str, int, int], float]
"""(policy, seed, arrived percent) → GPUs allocated, in percent."""


class Summary(Struct, frozen=True):
    """A policy over its runs: GPUs held in percent, mean and standard deviation (of the population, as published).

    `regret_percent` is how far the mean lies below the mean bound of any placement; None without bounds.
    """

    policy: str
    runs: int
    mean_percent: float
    deviation_percent: float
    placed: float
    moves: float
    moved_percent: float
    published_percent: float | None
    regret_percent: float | None


def summaries(outcomes: Sequence[Outcome], ceilings: Sequence[Ceiling], published: Published) -> list[Summary]:
    """One summary per policy, in the order of the runs."""
    runs: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        runs[outcome.policy].append(outcome)
    best = statistics.fmean(one.any_percent for one in ceilings) if ceilings else None
    return [_summary(policy, those, best, published) for policy, those in runs.items()]


def _summary(policy: str, runs: Sequence[Outcome], best: float | None, published: Published) -> Summary:
    reached = [run.allocated_percent for run in runs]
    last = max((at for name, _, at in published if name == policy), default=0)
    known = [published[policy, run.seed, last] for run in runs if (policy, run.seed, last) in published]
    mean = statistics.fmean(reached)
    placed, moves = sum(run.placed for run in runs), sum(run.moved.moves for run in runs)
    return Summary(
        policy=policy,
        runs=len(runs),
        mean_percent=mean,
        deviation_percent=statistics.pstdev(reached),
        placed=placed / len(runs),
        moves=moves / len(runs),
        moved_percent=100 * moves / max(1, placed),
        published_percent=statistics.fmean(known) if known else None,
        regret_percent=None if best is None else best - mean,
    )


def document(outcomes: Sequence[Outcome], ceilings: Sequence[Ceiling], published: Published) -> dict[str, Any]:
    """All figures as JSON values; percents are of the cluster's GPUs."""
    return {
        "policies": [
            {
                "policy": one.policy,
                "runs": one.runs,
                "allocatedPercent": {"mean": _short(one.mean_percent), "deviation": _short(one.deviation_percent)},
                "publishedPercent": _short(one.published_percent),
                "regretPercent": _short(one.regret_percent),
                "placed": _short(one.placed),
                "moves": _short(one.moves),
                "movedPercent": _short(one.moved_percent),
            }
            for one in summaries(outcomes, ceilings, published)
        ],
        "bounds": [
            {
                "seed": one.seed,
                "anyPercent": _short(one.any_percent),
                "welcoming": {"untilArrivedPercent": WELCOME_PERCENT, "percent": _short(one.welcoming_percent)},
            }
            for one in ceilings
        ],
        "runs": [
            {
                "policy": run.policy,
                "seed": run.seed,
                "allocatedPercent": _short(run.allocated_percent),
                "placed": run.placed,
                "dropped": run.dropped,
                "moves": run.moved.moves,
                "curve": [
                    {"arrivedPercent": point.arrived_percent, "allocatedPercent": _short(point.allocated_percent)}
                    for point in run.curve
                ],
            }
            for run in outcomes
        ],
    }


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
