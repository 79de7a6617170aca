"""How often to make a checkpoint: Young's and Daly's optimum from measured cost and failures.

J. W. Young, "A first order approximation to the optimum checkpoint interval", CACM 17(9), 1974; J. T. Daly, "A higher
order estimate of the optimum checkpoint interval for restart dumps", FGCS 22(3), 2006.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

DAY_SECONDS = 86400.0
PRIOR_NODE_RATE = 3.8 / 1000 / DAY_SECONDS
"""Unexpected interruptions per node and second: 419 in 54 days on 16,384 GPUs (Llama 3, arXiv:2407.21783, table 5)."""
PRIOR_JOB_RATE = 1 / DAY_SECONDS
"""Failures per job and second that do not grow with its size. An assumption: a model of nodes alone promises 29 h
between failures at 1,024 GPUs where 8 h were seen (arXiv:2410.21680)."""
PRIOR_FAILURES = 1.0
"""What the prior rates weigh: as much as so many failures that were seen."""
PRIOR_COST_SECONDS = 30.0
"""Training stands still so long for a checkpoint, until a first one was measured. An assumption."""

SHORTEST_SECONDS = 30.0
LONGEST_SECONDS = 4 * 3600.0
LEAST_CHANGE = 0.2
"""A new interval is told only if it differs by so much: a measurement that trembles shall not change jobs."""


@dataclass(frozen=True)
class Interval:
    """Seconds of training between two checkpoints, and what they were computed from."""

    seconds: float
    cost_seconds: float
    between_failures_seconds: float
    measured: bool
    """Whether the cost is one that was measured."""


def young(cost_seconds: float, between_failures_seconds: float) -> float:
    """The first-order optimum in seconds, `√(2CM)`: C blocking cost, M mean time between failures."""
    return math.sqrt(2 * cost_seconds * between_failures_seconds)


def daly(cost_seconds: float, between_failures_seconds: float) -> float:
    """The higher-order optimum in seconds: training between the end of a checkpoint and the begin of the next one.

    `√(2CM)·(1 + √(C/2M)/3 + (C/2M)/9) - C` below `C = 2M`, M from there on.
    """
    share = cost_seconds / (2 * between_failures_seconds)
    if share >= 1:
        return between_failures_seconds
    first = young(cost_seconds, between_failures_seconds)
    return first * (1 + math.sqrt(share) / 3 + share / 9) - cost_seconds


def between_failures(nodes: int, failures: int, trained_seconds: float) -> float:
    """Mean seconds between failures of a job, from what was seen and, until that is more, from prior rates.

    The rate is the mean of its Gamma distribution: the prior counts as `PRIOR_FAILURES` failures in the time in which
    the prior rates promise so many.

    Args:
        nodes: of the job now.
        failures: that interrupted it so far, disruptions without a warning among them.
        trained_seconds: in which they happened.
    """
    prior = PRIOR_JOB_RATE + max(1, nodes) * PRIOR_NODE_RATE
    return (PRIOR_FAILURES / prior + max(0.0, trained_seconds)) / (PRIOR_FAILURES + max(0, failures))


def checkpoint_interval(
    *,
    nodes: int,
    failures: int,
    trained_seconds: float,
    cost_seconds: float | None,
    before_seconds: float | None = None,
) -> Interval:
    """The interval for `checkpoint.interval: Auto`, between 30 s and 4 h.

    Args:
        nodes: of the job now.
        failures: that interrupted it so far.
        trained_seconds: in which they happened.
        cost_seconds: training stood still so long for a checkpoint; None: none was measured. With asynchronous
            checkpoints only the part that blocks.
        before_seconds: the interval that is in force; kept if the new one is within a fifth of it.
    """
    cost = PRIOR_COST_SECONDS if cost_seconds is None else max(0.0, cost_seconds)
    between = between_failures(nodes, failures, trained_seconds)
    best = daly(cost, between)
    seconds = float(round(min(LONGEST_SECONDS, max(SHORTEST_SECONDS, best))))
    if before_seconds is not None and abs(seconds - before_seconds) <= LEAST_CHANGE * before_seconds:
        seconds = min(LONGEST_SECONDS, max(SHORTEST_SECONDS, before_seconds))
    return Interval(seconds, cost, between, cost_seconds is not None)
