"""One neighbourhood: a few nodes are freed and solved, the rest of the cluster stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from msgspec import Struct

from stowage_scheduler.greedy import sizes
from stowage_scheduler.placement import Placement
from stowage_scheduler.rules import RULES
from stowage_scheduler.solve.effort import Effort
from stowage_scheduler.solve.model import CountModel, Level

_BUILD_UNITS = 0.005  # what building a model counts in deterministic units


class Kind(IntEnum):
    """What a neighbourhood tries to reach."""

    FILL = 0  # more pods, by priority
    GATHER = 1  # the same, and free room pushed together on the first node, so that a large pod finds a hole
    CALM = 2  # the same pods with less disruption


class Neighbourhood(Struct, frozen=True):
    """What to solve. `growing` are the classes that may get more pods than they have."""

    kind: Kind
    nodes: tuple[int, ...]
    growing: tuple[int, ...]
    effort: Effort


class Answer(Struct, frozen=True):
    """Per node the pods of each class, or None when nothing was found in time; `spent` deterministic units."""

    held: Mapping[int, Mapping[int, int]] | None
    spent: float


class Ready(Struct):
    """A neighbourhood with its model, which holds all that it needs of the placement."""

    model: CountModel
    levels: list[Level]
    effort: Effort

    def solve(self) -> Answer:
        """Solve it; most of it leaves Python's lock alone."""
        held = self.model.maximise(self.levels, self.effort)
        return Answer(held, self.model.spent + _BUILD_UNITS)


def prepare(placement: Placement, wanted: Neighbourhood) -> Ready:
    """Build the model of a neighbourhood of a placement."""
    model = CountModel(placement, wanted.nodes, wanted.growing, RULES)
    if wanted.kind is Kind.CALM:
        model.keep_placed()
        return Ready(model, model.disruption_levels(), wanted.effort)
    levels = model.tier_levels()
    if wanted.kind is Kind.GATHER:
        levels.append(_hole_level(model, wanted.nodes[0]))
    return Ready(model, levels, wanted.effort)


def _hole_level(model: CountModel, hole: int) -> Level:
    """As little as possible on node `hole`, measured in shares of the cluster."""
    size = sizes(model.problem)
    here = model.on_node(hole)
    terms = tuple((-max(1, size[index]), variable) for index, variable in here)
    span = sum(max(1, size[index]) * model.problem.classes[index].limit(hole) for index, _ in here)
    return Level(terms, span)
