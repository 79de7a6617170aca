"""Cheaper moves, part by part: as many nodes at a time as `solve.calmer` settles quickly."""

from __future__ import annotations

from stowage_scheduler.solve.calmer import calmer
from stowage_scheduler.solve.columns import is_countable
from stowage_scheduler.solve.least import is_listable
from stowage_scheduler.solve.part import part_of
from stowage_scheduler.solve.search import Search

_PODS = 32  # on the nodes of a part
_FEWEST_NODES = 4
_PARTS = 3  # fewer are not worth it
_PART_SHARE = 0.1  # seconds or units of one part
_PATIENCE = 8  # fruitless parts


def calm_parts(search: Search, until: float) -> None:
    """Go on while it helps and more than `until` seconds or units are left."""
    problem, limit = search.problem, search.limit
    if not is_listable(problem) or problem.gangs or not is_countable(problem):
        return
    fruitless = 0
    while fruitless < _PATIENCE and limit.left() > until:
        standing = sum(search.best.placed_of)
        nodes = search.between_moves(max(_FEWEST_NODES, _PODS * len(problem.nodes) // max(1, standing)))
        if not nodes or _PARTS * len(nodes) > len(problem.nodes) or search.best.disrupted() <= len(nodes):
            return  # all nodes at once take hardly longer
        part = part_of(search.best, nodes)
        found = calmer(part.placement, limit, min(_PART_SHARE, limit.left() - until))
        before = search.best
        if found.placement is not part.placement:
            search.adopt(part.put_into(before, found.placement))
        fruitless = 0 if search.best is not before else fruitless + 1
