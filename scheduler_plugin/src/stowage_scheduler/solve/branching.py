"""Proofs that patterns alone can not give: plans with few and with many pods of a class are bounded apart.

The relaxation over patterns may have a part of a pod of a class; no plan has. So plans are divided into those with at
most the whole number below and those with at least the one above, each of them bounded by column generation on the
patterns that are known by then (branching on the count of a class, as in branch and price: Barnhart and others,
Operations Research 46, 1998). Prices of patterns stay what they are, for only the counts are limited.
"""

from __future__ import annotations

from math import floor
from typing import TYPE_CHECKING

from stowage_scheduler.solve.effort import Clockwork

if TYPE_CHECKING:
    from stowage_scheduler.solve.patterns import PatternTier

_WHOLE = 1e-6


def is_out_of_reach(tier: PatternTier, target: int, limit: Clockwork, until: float) -> bool:
    """Whether it is proven, while more than `until` is left, that no plan has `target` pods in a tier."""
    every = [tier.box]
    while every:
        box = every.pop()
        tier.keep_to(box)
        if tier.bound(target, limit, until) < target:
            continue
        split = None if limit.left() <= until or not tier.is_solved else _most_divided(tier)
        if split is None:
            return False
        every += _halves(box, *split)
    return True


def _halves(box: list[tuple[int, int]], index: int, count: int) -> list[list[tuple[int, int]]]:
    """Plans with at most `count` pods of a class, and those with more."""
    fewest, most = box[index]
    return [[*box[:index], part, *box[index + 1 :]] for part in ((fewest, count), (count + 1, most))]


def _most_divided(tier: PatternTier) -> tuple[int, int] | None:
    """The class of whose pods most is cut, and the whole number below its count; None where none is cut."""
    counts = [variable.solution_value() for variable in tier.wanted]
    cut = [min(count - floor(count), floor(count) + 1 - count) for count in counts]
    index = max(range(len(cut)), key=cut.__getitem__, default=0)
    return (index, floor(counts[index])) if cut and cut[index] > _WHOLE else None
