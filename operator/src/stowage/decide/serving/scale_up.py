"""How fast a role may grow where its spec limits that: after a while, and so much in a minute."""

from __future__ import annotations

import math
from dataclasses import replace

from stowage.decide.serving.memory import Wanted
from stowage.decide.serving.role_memory import RoleMemory
from stowage.decide.serving.stabilisation import MINUTE_SECONDS


def risen(
    memory: RoleMemory,
    now: float,
    current: int,
    wanted: int,
    *,
    stabilisation_seconds: float,
    most_percent_per_minute: float | None,
) -> tuple[int, RoleMemory]:
    """To how many of `wanted` replicas the role may grow now, at least `current`, and what to remember.

    What was asked for all the time within the window is allowed, so the fewest of what was asked for in it; of that, a
    share of the replicas in a minute, at least one.
    """
    asked = [*memory.more_wanted, Wanted(now, wanted)]
    while len(asked) > 1 and asked[1].at <= now - stabilisation_seconds:
        asked.pop(0)
    raised = tuple(at for at in memory.raised if at > now - MINUTE_SECONDS)
    memory = replace(memory, more_wanted=tuple(asked), raised=raised)
    if wanted <= current:
        return current, memory
    allowed = wanted
    if stabilisation_seconds > 0:
        is_long_enough = asked[0].at <= now - stabilisation_seconds
        allowed = min(one.replicas for one in asked) if is_long_enough else current
    if most_percent_per_minute is not None:
        before = current - len(raised)
        may_come = max(1, math.floor(before * most_percent_per_minute / 100)) - len(raised)
        allowed = min(allowed, current + max(0, may_come))
    return max(current, allowed), memory


def remember_rise(memory: RoleMemory, now: float, before: int, after: int) -> RoleMemory:
    """The memory with the replicas that come now."""
    return replace(memory, raised=(*memory.raised, *([now] * max(0, after - before))))
