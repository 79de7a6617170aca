"""The cheapest moves for what a plan places: a bound, and a plan that comes near it.

The bound is that of `solve.columns`. Its prices say which fillings a plan near the bound can hold; CP-SAT chooses one
per node, within a cost that begins at the bound and rises until something is found.
"""

from __future__ import annotations

from math import ceil

from msgspec import Struct

from stowage_scheduler.placement import Placement
from stowage_scheduler.solve.columns import Bounded, Columns, is_countable
from stowage_scheduler.solve.effort import Clockwork
from stowage_scheduler.solve.least import Choosing, is_listable
from stowage_scheduler.solve.prices import Menu
from stowage_scheduler.solve.relaxation import SCALE

_BOUND_SHARE = 0.6  # of the time, for the bound
_ROUNDING = 1e-6
_UNITS_PER_MOVE = 0.008  # and per pod on a node
_CHOICE_SHARE = 0.5  # of what is left then, for one choice


class Calmer(Struct, frozen=True):
    """As many pods placed in each tier, no more of them lost, and moves that cost no more.

    `bound`: no such plan costs less, in restart seconds; None where it is not known.
    """

    placement: Placement
    bound: int | None

    def bound_of(self, other: Placement) -> int | None:
        """The bound, if it holds for another placement."""
        same = self.placement.placed_by_priority() == other.placed_by_priority()
        return self.bound if same and other.disruption()[0] <= self.placement.disruption()[0] else None


def calmer(placement: Placement, limit: Clockwork, share: float) -> Calmer:
    """Look for cheaper moves within `share` seconds or units."""
    lost, cost = placement.disruption()
    if not cost:
        return Calmer(placement, 0)
    if not is_countable(placement.problem) or min(share, limit.left()) <= 0:
        return Calmer(placement, None)
    until = max(0.0, limit.left() - share)
    columns = Columns(placement.problem, placement.placed_by_priority(), (placement, Placement(placement.problem)))
    cost //= columns.unit
    bounded = columns.least_moves(lost, cost, limit, limit.left() - share * _BOUND_SHARE)
    if bounded.least >= cost or not is_listable(placement.problem):
        return Calmer(placement, min(bounded.least, cost) * columns.unit)
    return _Nearing(placement, columns, bounded).run(limit, until)


def work_of(placement: Placement) -> float:
    """Deterministic units that the bound takes, very roughly."""
    return _UNITS_PER_MOVE * placement.disrupted() * sum(placement.placed_of) / max(1, len(placement.problem.nodes))


class _Nearing:
    """Choices of one filling per node, at a cost that rises from the bound."""

    def __init__(self, placement: Placement, columns: Columns, bounded: Bounded) -> None:
        self.placement = placement
        self.columns = columns
        self.bounded = bounded
        self.unit = columns.unit
        self.least = bounded.least

    def run(self, limit: Clockwork, until: float) -> Calmer:
        columns, now = self.columns, self.placement.disruption()[1] // self.unit
        cheapest = min(cost for cost, c in zip(columns.costs, columns.problem.classes, strict=True) if c.running)
        share = (limit.left() - until) * _CHOICE_SHARE
        menus = columns.known_menus(self.bounded, (now - 1) * SCALE - self.bounded.bound)
        best = self._chosen(menus, now - 1, limit, limit.left() - share)
        relaxed = max(self.least, ceil((self.bounded.value or 0.0) / SCALE - _ROUNDING))
        if best is not None:
            now = best.disruption()[1] // self.unit
        for cost in (relaxed, relaxed + 2 * max(1, cheapest)):
            if not self.least <= cost < now or limit.left() <= until:
                break
            share = (limit.left() - until) * _CHOICE_SHARE
            menus = columns.menus(self.bounded, cost * SCALE - self.bounded.bound, limit)
            found = self._chosen(menus, cost, limit, limit.left() - share)
            if found is not None:
                best = found
                break
        best = max(self.placement, best or self.placement, key=Placement.score)
        return Calmer(best, min(self.least * self.unit, best.disruption()[1]))

    def _chosen(self, menus: list[Menu], cost: int, limit: Clockwork, until: float) -> Placement | None:
        """A plan that costs no more than that; where it is the cheapest, or there is none, the bound rises."""
        gap = cost * SCALE - self.bounded.bound
        choosing = Choosing(self.columns, menus, gap, self.placement.disruption()[0], cost)
        choice, settled = choosing.solve(limit, until)
        settled = settled and all(menu.complete for menu in menus)
        if choice is None:
            if settled:
                self.least = max(self.least, cost + 1)
            return None
        found = self.placement.copy()
        for node, held in choice.items():
            found.replace(node, held)
        if settled:
            self.least = max(self.least, found.disruption()[1] // self.unit)
        return found if found.within_limits() else None
