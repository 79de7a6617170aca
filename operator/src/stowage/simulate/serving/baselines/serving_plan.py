"""A plan of how many replicas serve when, and what it costs to have them ready in time."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from stowage.decide.serving.view import View

TICK_SECONDS = 5.0

Plan = tuple[int, ...]
"""Replicas that serve, slot by slot."""


@dataclass(frozen=True, slots=True)
class Shift:
    """One replica's service from the slot `first` until before the slot `end`."""

    level: int
    first: int
    end: int


def shifts(serving: Sequence[int]) -> list[Shift]:
    """Each level's stretches: the `level`-th replica serves while at least so many do."""
    found = []
    for level in range(1, max(serving, default=0) + 1):
        first: int | None = None
        for slot, count in enumerate((*serving, 0)):
            if count >= level and first is None:
                first = slot
            elif count < level and first is not None:
                found.append(Shift(level, first, slot))
                first = None
    return found


@dataclass(frozen=True, slots=True)
class Terms:
    """What plans are made of: slots of `slot_seconds`, `initial` replicas at second 0, a start that takes `lead`."""

    slot_seconds: float
    lead_seconds: float
    initial: int
    least: int
    most: int

    def open_at(self, slot: int) -> int:
        """How many may serve in a slot: none that starts is ready before the first start is over."""
        return self.most if slot * self.slot_seconds >= self.lead_seconds + TICK_SECONDS else self.initial

    def normal(self, serving: Sequence[int]) -> Plan:
        """Within the bounds, and without gaps shorter than a start: keeping a replica is cheaper then, never worse."""
        counts = [min(self.open_at(slot), self.most, max(self.least, count)) for slot, count in enumerate(serving)]
        for level in range(1, max(counts, default=0) + 1):
            ended = -1 if level <= self.initial else None
            for slot, count in enumerate(counts):
                if count < level:
                    continue
                if ended is not None and (slot - ended - 1) * self.slot_seconds <= self.lead_seconds:
                    for gap in range(ended + 1, slot):
                        counts[gap] = max(counts[gap], level)
                ended = slot
        return tuple(counts)

    def replica_seconds(self, serving: Sequence[int]) -> float:
        """What a normal plan costs: service and starts; how long drains take is left out."""
        starts = sum(1 for one in shifts(serving) if one.first > 0 or one.level > self.initial)
        return sum(serving) * self.slot_seconds + starts * self.lead_seconds

    def steps(self, serving: Sequence[int]) -> list[tuple[float, int]]:
        """From when on how many are asked for, so that a normal plan comes true."""
        changes: dict[float, int] = {0.0: self.initial}
        present = {one.level for one in shifts(serving) if one.first == 0}
        for level in range(1, self.initial + 1):
            if level not in present:
                changes[0.0] -= 1
        for one in shifts(serving):
            if one.first > 0 or one.level > self.initial:
                ahead = max(0.0, one.first * self.slot_seconds - self.lead_seconds)
                at = math.floor(ahead / TICK_SECONDS) * TICK_SECONDS
                changes[at] = changes.get(at, 0) + 1
            if one.end < len(serving):
                end = one.end * self.slot_seconds
                changes[end] = changes.get(end, 0) - 1
        total, found = 0, []
        for at in sorted(changes):
            total += changes[at]
            found.append((at, total))
        return found


class Planned:
    """Asks for what a plan says; `steps` are (from when on, how many), the first one from 0 on."""

    def __init__(self, name: str, steps: Sequence[tuple[float, int]], interval_seconds: float = TICK_SECONDS) -> None:
        self.name = name
        self.interval_seconds = interval_seconds
        self._at = [at for at, _ in steps]
        self._replicas = [replicas for _, replicas in steps]

    def decide(self, view: View) -> int:
        """What the plan asks for at this second."""
        return self._replicas[max(0, bisect_right(self._at, view.now + 1e-9) - 1)]
