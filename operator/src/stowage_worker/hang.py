"""When a job stands still: no step for long, while its ranks say that they are training.

Two mistakes of others are avoided. What an earlier epoch has told, such as a checkpoint begun and never ended, is
forgotten when an epoch begins. And after a checkpoint or a compilation the count begins anew: the time that it took is
no part of a step. Programs that tell neither steps nor phases are never said to hang.

The end of a job is no hang either: once a rank has ended with code 0, or has told that it leaves, the others may
gather, write and part for as long as any phase other than training may take. Before that, nothing tells a program that
is done from one that stands.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import median

from stowage_worker.messages import HangRule, RankProgress
from stowage_worker.stragglers import STEPPING

SAMPLES = 32
LEAST_SECONDS = 2.5
"""Ranks are heard of once a second: a shorter stop cannot be told from the time between two beats and a late one."""


@dataclass(frozen=True)
class HangWatch:
    """What is remembered of one epoch; a new epoch begins with a new one.

    Attributes:
        since: steady clock: no rank was seen in a phase other than training after this.
        step: least step of all ranks, -1 before any.
        step_at: steady clock: when `step` was reached.
        step_seconds: durations of the last steps, oldest first.
        is_found: a hang of this epoch was told.
    """

    since: float = 0.0
    step: int = -1
    step_at: float = 0.0
    step_seconds: tuple[float, ...] = ()
    is_found: bool = False


@dataclass(frozen=True)
class Hang:
    """A rank that made no step for too long.

    Attributes:
        rank: of those that stand, the one with the least step.
        step: its last step.
        still_seconds: for how long.
        allowed_seconds: how long was allowed.
    """

    rank: int
    step: int
    still_seconds: float
    allowed_seconds: float


def watched(
    watch: HangWatch,
    rule: HangRule,
    told: Iterable[tuple[float, RankProgress]],
    now: float,
    *,
    is_ending: bool = False,
) -> tuple[HangWatch, Hang | None]:
    """Look at all ranks that run.

    Args:
        watch: what is remembered; `since` of a new one is when the processes were started.
        rule: how long a step may take.
        told: (seconds since it was told, what a rank has told last).
        now: steady clock.
        is_ending: ranks of the epoch have ended with code 0, so that no step is to be expected of the others.

    Returns:
        What to remember, and the hang that was found; each epoch tells one only.
    """
    ranks = [(age, rank) for age, rank in told if rank.step >= 0 or rank.phase]
    if not ranks or watch.is_found:
        return watch, None
    is_suspended = is_ending or any(rank.phase not in STEPPING for _, rank in ranks)
    watch = _with_step(watch, min(rank.step for _, rank in ranks), now, is_suspended=is_suspended)
    usual = _usual_step_seconds(watch, [rank for _, rank in ranks])
    is_stepping = usual is not None and not is_suspended
    allowed = max(rule.first_step_seconds, rule.floor_seconds)
    if usual is not None and is_stepping:
        allowed = max(rule.floor_seconds, rule.factor * usual, LEAST_SECONDS)
    worst: Hang | None = None
    for age, rank in ranks:
        still = age + rank.since_step_seconds
        # in other phases the supervisor's count goes on, for a save that never ends is a hang too
        still = min(still, now - watch.since) if is_stepping else still
        if still > allowed and (worst is None or (rank.step, rank.rank) < (worst.step, worst.rank)):
            worst = Hang(rank.rank, rank.step, still, allowed)
    return (watch if worst is None else replace(watch, is_found=True)), worst


def _usual_step_seconds(watch: HangWatch, ranks: list[RankProgress]) -> float | None:
    """As seen from here or as the ranks tell, whichever is longer; None: not known yet."""
    told = [one.step_seconds for one in ranks if one.step_seconds is not None and math.isfinite(one.step_seconds)]
    seen = [median(samples) for samples in (watch.step_seconds, told) if samples]
    return max(seen) if seen else None


def _with_step(watch: HangWatch, step: int, now: float, *, is_suspended: bool) -> HangWatch:
    if is_suspended:
        # a step that a checkpoint fell into is no measure of steps
        return replace(watch, since=now, step=step, step_at=now)
    if step == watch.step:
        return watch
    if step < watch.step or watch.step < 0 or watch.since >= watch.step_at:
        return replace(watch, step=step, step_at=now)
    took = (now - watch.step_at) / (step - watch.step)
    return replace(watch, step=step, step_at=now, step_seconds=(*watch.step_seconds, took)[-SAMPLES:])
