"""A histogram's buckets on other bounds than its own.

Engines have different buckets, and a role may have two versions of an engine; sums need the same bounds everywhere.
Within a bucket, values are taken as evenly spread, as `histogram_quantile` of PromQL takes them; what lies beyond the
last finite bound stays beyond it, so a latency is never made to look shorter than it may have been. Where the bounds
are the same, counts are too.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

Row = tuple[float, ...]
"""Cumulative counts: one for each bound, and one more for all."""


def on_bounds(bounds: Sequence[float], counts: Sequence[float], wanted: tuple[float, ...]) -> Row | None:
    """Cumulative counts at the bounds `wanted`, and of all.

    Args:
        bounds: of the buckets, in order, the last one infinite.
        counts: of each, cumulative; where one is below another before it, it is raised to that.
        wanted: bounds, in order, finite.

    Returns:
        None where there is no bucket for all, for then nobody knows how many there were.
    """
    if not bounds or bounds[-1] != math.inf:
        return None
    rising = list(accumulate(counts, max))
    found = [
        (rising[low] if low >= 0 else 0.0) * (1 - share) + rising[high] * share
        for low, high, share in _weights(tuple(bounds), wanted)
    ]
    return (*found, rising[-1])


@lru_cache(maxsize=64)
def _weights(bounds: tuple[float, ...], wanted: tuple[float, ...]) -> tuple[tuple[int, int, float], ...]:
    """For each wanted bound two buckets, -1 for none, and the share of the second."""
    found = []
    for one in wanted:
        high = bisect_left(bounds, one)
        if bounds[high] == one:
            found.append((high, high, 1.0))
        elif bounds[high] == math.inf:
            found.append((high - 1, high, 0.0))
        else:
            floor = bounds[high - 1] if high else 0.0
            found.append((high - 1, high, (one - floor) / (bounds[high] - floor)))
    return tuple(found)


def more(before: Row, after: Row) -> Row:
    """By how much each count rose; cumulative again where the row was torn."""
    return tuple(accumulate((max(0.0, late - early) for early, late in zip(before, after, strict=True)), max))


def plus(one: Row, other: Row) -> Row:
    """The sum of two rows; an empty one is nothing."""
    if not one or not other:
        return one or other
    return tuple(first + second for first, second in zip(one, other, strict=True))
