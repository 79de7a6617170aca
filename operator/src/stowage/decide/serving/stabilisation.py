"""When a role may shrink or grow, and how fast: only what was not needed for a while goes, and not all at once.

The count follows the highest of what was enough in the window, as in Kubernetes' HorizontalPodAutoscaler; the rate is
limited per minute. A rise is held back only where the settings ask for it: by a window in which more must have been
needed all the time, and by a limit per minute.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from stowage.api.model_service_reasons import ScalingReason
from stowage.decide.serving.memory import Memory, Wanted
from stowage.decide.serving.settings import Settings

MINUTE_SECONDS = 60.0
MOST_KEPT = 500
"""Entries of a window."""


@dataclass(frozen=True, slots=True)
class Change:
    """To how many replicas the role may go now, and why not as far as asked; None: it may."""

    replicas: int
    reason: ScalingReason | None


def window_seconds(settings: Settings, cold_start_seconds: float) -> float:
    """For how long fewer must have been enough."""
    given = settings.stabilisation_seconds
    return cold_start_seconds / 2 if given is None else given


def remember_wanted(memory: Memory, now: float, enough: int, window: float) -> Memory:
    """The memory with what is enough now."""
    return replace(memory, wanted=_within(memory.wanted, now, enough, window, max))


def fall(memory: Memory, settings: Settings, now: float, current: int, enough: int, window: float) -> Change:
    """How far down from `current` replicas the role may go, `enough` being enough now (`remember_wanted` was told)."""
    if not memory.wanted or memory.wanted[0].at > now - window:
        return Change(current, ScalingReason.STABILIZING)
    target = max(enough, *(one.replicas for one in memory.wanted))
    if target >= current:
        return Change(current, ScalingReason.STABILIZING)
    lately = sum(1 for at in memory.lowered if at > now - MINUTE_SECONDS)
    may_go = max(1, math.floor((current + lately) * settings.most_percent_per_minute / 100)) - lately
    if may_go <= 0:
        return Change(current, ScalingReason.RATE_LIMITED)
    if target < current - may_go:
        return Change(current - may_go, ScalingReason.RATE_LIMITED)
    return Change(target, ScalingReason.STABILIZING if target > enough else None)


def remember_needed(memory: Memory, settings: Settings, now: float, needed: int) -> Memory:
    """The memory with what is needed now, where a rise has to be asked for all through a window."""
    window = settings.rise_stabilisation_seconds
    if window <= 0:
        return memory if not memory.needed else replace(memory, needed=())
    return replace(memory, needed=_within(memory.needed, now, needed, window, min))


def rise(memory: Memory, settings: Settings, now: float, current: int, needed: int) -> Change:
    """How far up from `current` replicas the role may go, `needed` being needed now (`remember_needed` was told)."""
    target, reason = needed, None
    window = settings.rise_stabilisation_seconds
    if window > 0:
        if not memory.needed or memory.needed[0].at > now - window:
            return Change(current, ScalingReason.STABILIZING)
        target = min(needed, *(one.replicas for one in memory.needed))
        if target <= current:
            return Change(current, ScalingReason.STABILIZING)
        reason = ScalingReason.STABILIZING if target < needed else None
    percent = settings.most_rise_percent_per_minute
    if percent is not None:
        lately = sum(1 for at in memory.raised if at > now - MINUTE_SECONDS)
        may_come = max(1, math.floor((current - lately) * percent / 100)) - lately
        if target > current + may_come:
            target, reason = current + max(0, may_come), ScalingReason.RATE_LIMITED
    return Change(target, reason)


def remember_change(memory: Memory, settings: Settings, now: float, before: int, after: int) -> Memory:
    """The memory with the replicas that go now, or come where that is limited."""
    lowered = _of_the_minute(memory.lowered, now, before - after)
    if settings.most_rise_percent_per_minute is None:
        return replace(memory, lowered=lowered, raised=())
    return replace(memory, lowered=lowered, raised=_of_the_minute(memory.raised, now, after - before))


def as_it_went(memory: Memory, desired: int) -> Memory:
    """The memory without changes of the last decision that were not made: by a pause, a budget, or for want of room.

    Args:
        memory: before this decision.
        desired: replicas that are asked for now.
    """
    last = memory.decisions[-1] if memory.decisions else None
    if last is None or last.to_replicas == desired:
        return memory
    not_come = max(0, last.to_replicas - max(desired, last.from_replicas))
    not_gone = max(0, min(desired, last.from_replicas) - last.to_replicas)
    lowered, raised = memory.lowered, memory.raised
    return replace(
        memory,
        lowered=lowered[: max(0, len(lowered) - not_gone)],
        raised=raised[: max(0, len(raised) - not_come)],
    )


def _within(
    known: tuple[Wanted, ...], now: float, replicas: int, window: float, strictest: Callable[[int, int], int]
) -> tuple[Wanted, ...]:
    """With what is asked for now; the newest entry that is older than the window is kept as its begin.

    A window of a day has seventeen thousand decisions: what is close together in such a one is one entry.
    """
    kept = list(known)
    if kept and now - kept[-1].at < window / MOST_KEPT:
        kept[-1] = Wanted(kept[-1].at, strictest(kept[-1].replicas, replicas))
    else:
        kept.append(Wanted(now, replicas))
    while len(kept) > 1 and kept[1].at <= now - window:
        kept.pop(0)
    return tuple(kept)


def _of_the_minute(known: tuple[float, ...], now: float, count: int) -> tuple[float, ...]:
    return (*(at for at in known if at > now - MINUTE_SECONDS), *([now] * max(0, count)))
