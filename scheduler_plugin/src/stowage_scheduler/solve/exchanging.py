"""How often exchanges are tried, and for what: first more pods, then more pods or fewer moves in turn."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from stowage_scheduler.placement import Placement
from stowage_scheduler.solve.effort import Clockwork
from stowage_scheduler.solve.exchange import Exchange

_QUICK = 150  # fruitless rounds of a first try, and twice as many for each later one
_TRIES = 6  # for fewer moves, where no more pods can be placed
_SLOW = 8  # of the pods that are too many, so many parts stay for the next try


def exchanged(start: Placement, bounds: Mapping[int, int], random: Random, limit: Clockwork, until: float) -> Placement:
    """The best that exchanges find: first more pods, then more pods or fewer moves in turn.

    Args:
        start: any placement; the answer is not worse.
        bounds: pods placed by priority or higher that nothing can exceed.
        random: makes it repeatable.
        limit: of the whole search.
        until: seconds or units of it that must be left over.
    """
    exchange = Exchange(start.problem, random, limit, start)
    lowest = start.problem.priorities[-1]
    best = start
    wanted = dict(bounds)
    while limit.left() > until and _tiers(wanted) > _tiers(best.placed_by_priority()):
        found = [exchange.reach(wanted, until, _QUICK, keep=keep) for keep in (True, False)]
        reached = max([one for one in found if one is not None], key=Placement.score, default=None)
        if reached is None:
            break
        best = max(best, reached, key=Placement.score)
        # those of the lowest priority give way
        short = sum(wanted.values()) - sum(reached.placed_by_priority().values())
        wanted[lowest] -= max(1, short // _SLOW)
        if wanted[lowest] < best.placed_by_priority()[lowest]:
            break
    if best is start:  # limits that span nodes forbid it, or there is no time
        return _stepwise(exchange, best, bounds, until)
    patience, tries = _QUICK, 0
    while limit.left() > until:
        placed = best.placed_by_priority()
        open_ = _tiers(placed) < _tiers(bounds)
        if not open_ and tries == _TRIES:
            break
        tries += 1
        patience *= 2 if open_ else 1
        if open_:
            more = {**placed, lowest: placed[lowest] + 1}
            best = max(best, exchange.reach(more, until, patience, keep=False) or best, key=Placement.score)
        for keep in (True, False):
            again = exchange.reach(best.placed_by_priority(), until, _QUICK, keep=keep)
            best = max(best, again or best, key=Placement.score)
    return best


def _stepwise(exchange: Exchange, best: Placement, bounds: Mapping[int, int], until: float) -> Placement:
    """As many pods as limits that span nodes let through: tier by tier, by halving what is not known to be too many."""
    for priority in best.problem.priorities:
        low, high = best.placed_by_priority()[priority], bounds[priority]
        while low < high and exchange.limit.left() > until:
            middle = (low + high + 1) // 2
            placed = best.placed_by_priority()
            wanted = {p: placed[p] if p > priority else max(middle, placed[p]) for p in placed}
            found = exchange.reach(wanted, until, _QUICK, keep=False, gently=True)
            best = max(best, found or best, key=Placement.score)
            now = best.placed_by_priority()[priority]
            low, high = (max(now, middle), high) if now >= middle else (now, middle - 1)
    return best


def _tiers(counts: Mapping[int, int]) -> tuple[int, ...]:
    return tuple(counts.values())
