"""Where processes are killed, and which of these points a test run takes."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from faults.scenarios import Kills, Scenario, Victim
from faults.script import Side


@dataclass(frozen=True)
class KillPoint:
    """One place in a run.

    Attributes:
        scenario: its name.
        victim: who is killed.
        trigger: whose request tells when. The solver asks for nothing: its points count packings it was killed in.
        number: of the trigger's changes, leases left out, counted from the moment the policy is there, from 1.
        side: whether the request has reached the API server.
    """

    scenario: str
    victim: Victim
    trigger: Victim
    number: int
    side: Side

    @property
    def id(self) -> str:
        """A name for reports, and for --faults-points."""
        at = "" if self.trigger is self.victim else f"@{self.trigger.value}"
        return f"{self.scenario}:{self.victim.value}{at}:{self.number}:{self.side.value}"


PACKINGS = 3  # how often in a row the solver's workers are killed at most


def points(scenario: Scenario, kills: Kills, changes: Mapping[Victim, int]) -> list[KillPoint]:
    """All points of one kind, given how many changes each process asked for in the undisturbed run."""
    if kills.trigger is Victim.SOLVER:
        return [
            KillPoint(scenario.name, kills.victim, kills.trigger, number, Side.BEFORE)
            for number in range(1, PACKINGS + 1)
        ]
    return [
        KillPoint(scenario.name, kills.victim, kills.trigger, number, side)
        for number in range(1, changes[kills.trigger] + 1, kills.every)
        for side in (Side.BEFORE, Side.AFTER)
    ]


def sample(all_points: Sequence[KillPoint], *, fixed: int, rotating: int, seed: str) -> list[KillPoint]:
    """Some of the points in their order: always the same, evenly spread ones, and others drawn by the seed."""
    count = len(all_points)
    taken = set(range(min(fixed, count)))
    if 0 < fixed < count:
        taken = {(2 * index + 1) * count // (2 * fixed) for index in range(fixed)}
    rest = [index for index in range(count) if index not in taken]
    # a generator of its own for each list: the choice in one scenario does not hang on the others
    first = all_points[0] if all_points else None
    generator = random.Random(f"{seed} {first.id if first else ''}")
    taken |= set(generator.sample(rest, min(rotating, len(rest))))
    return [all_points[index] for index in sorted(taken)]
