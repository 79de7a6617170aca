"""A comparison as a table and as a document."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from stowage.simulate.serving.comparison import ORACLE, OURS, STATIC, Comparison
from stowage.simulate.serving.outcome import Outcome

HEADS = (
    *("policy", "attained", "GPU hours", "of the oracle's", "TTFT p50", "p99", "ITL p50", "p99"),
    *("rejected", "unfinished", "scale events", "waste"),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How Stowage stands to the others.

    `best_online` reaches the attainment at the least GPU-hours among on-line baselines (None: none does),
    `saved_percent` is how much less Stowage takes than it; `of_oracle` its GPU-hours over the oracle's. `dominated_by`
    are on-line baselines that attain at least as much at no more GPU-hours, and differ.
    """

    reaches: bool
    best_online: str | None
    saved_percent: float | None
    of_oracle: float | None
    dominated_by: tuple[str, ...]


def document(comparison: Comparison) -> dict[str, Any]:
    """The stable answer of `stowage simulate serving`; times in seconds, `null` where nothing was measured."""
    return {
        "requests": len(comparison.requests),
        "policies": {name: figures(outcome) for name, outcome in comparison.outcomes.items()},
    }


def figures(outcome: Outcome) -> dict[str, Any]:
    """One policy's figures."""
    return {
        "attainment": round(outcome.attainment, 6),
        "gpuHours": round(outcome.gpu_hours, 4),
        "completed": outcome.completed,
        "rejected": outcome.rejected,
        "unfinished": outcome.unfinished,
        "p50TtftSeconds": _seconds(outcome.ttft_quantile(0.5)),
        "p99TtftSeconds": _seconds(outcome.ttft_quantile(0.99)),
        "p50ItlSeconds": _seconds(outcome.itl_quantile(0.5)),
        "p99ItlSeconds": _seconds(outcome.itl_quantile(0.99)),
        "scaleEvents": len(outcome.scale_events),
        "startingGpuHours": round(outcome.starting_gpu_hours, 4),
    }


def _seconds(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """One row of `HEADS` per policy, the cheapest first."""
    oracle = comparison.outcomes.get(ORACLE)
    ordered = sorted(comparison.outcomes.items(), key=lambda one: one[1].gpu_hours)
    return [_row(name, outcome, oracle) for name, outcome in ordered]


def _row(name: str, outcome: Outcome, oracle: Outcome | None) -> tuple[str, ...]:
    share = f"{outcome.gpu_hours / oracle.gpu_hours:.2f}" if oracle and oracle.gpu_hours else "-"
    waste = 100 * outcome.starting_gpu_hours / outcome.gpu_hours if outcome.gpu_hours else 0.0
    return (
        name,
        f"{100 * outcome.attainment:.2f} %",
        f"{outcome.gpu_hours:,.1f}",
        share,
        f"{outcome.ttft_quantile(0.5):.2f} s",
        f"{outcome.ttft_quantile(0.99):.2f} s",
        f"{1000 * outcome.itl_quantile(0.5):.0f} ms",
        f"{1000 * outcome.itl_quantile(0.99):.0f} ms",
        f"{outcome.rejected}",
        f"{outcome.unfinished}",
        f"{len(outcome.scale_events)}",
        f"{waste:.1f} %",
    )


def verdict(comparison: Comparison, attainment: float) -> Verdict | None:
    """How Stowage stands; None where it did not run."""
    ours = comparison.outcomes.get(OURS)
    if ours is None:
        return None
    oracle = comparison.outcomes.get(ORACLE)
    others = {name: one for name, one in comparison.outcomes.items() if name not in (OURS, ORACLE, STATIC)}
    enough = {name: one for name, one in others.items() if one.attainment >= attainment}
    best = min(enough, key=lambda name: enough[name].gpu_hours, default=None)
    return Verdict(
        reaches=ours.attainment >= attainment,
        best_online=best,
        saved_percent=None if best is None else 100 * (1 - ours.gpu_hours / enough[best].gpu_hours),
        of_oracle=ours.gpu_hours / oracle.gpu_hours if oracle and oracle.gpu_hours else None,
        dominated_by=tuple(name for name, one in others.items() if _dominates(one, ours)),
    )


def _dominates(one: Outcome, other: Outcome) -> bool:
    no_worse = one.attainment >= other.attainment and one.gpu_hours <= other.gpu_hours
    return no_worse and (one.attainment, one.gpu_hours) != (other.attainment, other.gpu_hours)
