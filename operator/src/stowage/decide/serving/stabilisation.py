"""When a role may shrink, and how fast: only what was not needed for a while goes, and not all at once.

The count follows the highest of what was enough in the window, as in Kubernetes' HorizontalPodAutoscaler; the rate is
limited per minute. Nothing here holds a rise back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from stowage.api.model_service_reasons import ScalingReason
from stowage.decide.serving.memory import Memory, Wanted
from stowage.decide.serving.settings import Settings

MINUTE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Fall:
    """To how many replicas the role may go now, and why not lower; None: it may go as low as asked."""

    replicas: int
    reason: ScalingReason | None


def window_seconds(settings: Settings, cold_start_seconds: float) -> float:
    """For how long fewer must have been enough."""
    given = settings.stabilisation_seconds
    return cold_start_seconds / 2 if given is None else given


def remember_wanted(memory: Memory, now: float, enough: int, window: float) -> Memory:
    """The memory with what is enough now; the newest entry that is older than the window is kept as its begin."""
    wanted = [*memory.wanted, Wanted(now, enough)]
    while len(wanted) > 1 and wanted[1].at <= now - window:
        wanted.pop(0)
    return replace(memory, wanted=tuple(wanted))


def fall(memory: Memory, settings: Settings, now: float, current: int, enough: int, window: float) -> Fall:
    """How far down from `current` replicas the role may go, `enough` being enough now (`remember_wanted` was told)."""
    if not memory.wanted or memory.wanted[0].at > now - window:
        return Fall(current, ScalingReason.STABILIZING)
    target = max(enough, *(one.replicas for one in memory.wanted))
    if target >= current:
        return Fall(current, ScalingReason.STABILIZING)
    lately = sum(1 for at in memory.lowered if at > now - MINUTE_SECONDS)
    may_go = max(1, math.floor((current + lately) * settings.most_percent_per_minute / 100)) - lately
    if may_go <= 0:
        return Fall(current, ScalingReason.RATE_LIMITED)
    if target < current - may_go:
        return Fall(current - may_go, ScalingReason.RATE_LIMITED)
    return Fall(target, ScalingReason.STABILIZING if target > enough else None)


def remember_fall(memory: Memory, now: float, before: int, after: int) -> Memory:
    """The memory with the replicas that go now."""
    kept = [at for at in memory.lowered if at > now - MINUTE_SECONDS]
    return replace(memory, lowered=(*kept, *([now] * max(0, before - after))))
