"""Replicas of which a part holds room, and the rest finds none: they give it up, and try again one by one.

Behind a gate they are placed together or not at all. Without a PackingPolicy, or where a ResourceQuota allows some of
the pods, several replicas could hold parts of what one of them needs, for ever.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from stowage.decide.serving.service_facts import PodFact

IN_PART_SECONDS: Final = 300.0
"""For so long a part is held with nothing coming on: nodes that are added for the rest take minutes."""
OTHERS_SECONDS: Final = 150.0
"""After so long all others of the variant that wait let go: the oldest may need just their room."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A replica whose pods are there, and do not all have a node.

    Attributes:
        since: when its attempt was decided.
        ordinal: which one.
        in_part_since: see `in_part_since`.
    """

    since: float
    ordinal: int
    in_part_since: float | None


def in_part_since(size: int, pods: Sequence[PodFact], *, is_refused: bool) -> float | None:
    """Since when a part of a replica's pods holds room and nothing has come on; None: all, or none, do so.

    Args:
        size: pods that the replica has to have.
        pods: those that are there.
        is_refused: the API server refuses the others; else those that are missing are about to be made.
    """
    placed = [one for one in pods if one.node is not None]
    if not pods or (not is_refused if len(pods) < size else len(placed) in {0, len(pods)}):
        return None
    placed_at = (one.scheduled_at for one in placed if one.scheduled_at is not None)
    return max([*(one.created_at for one in pods), *placed_at])


def letting_go(waiting: Iterable[Waiting], now: float) -> frozenset[int]:
    """Which replicas of a variant give up what they hold, and stop waiting for the rest."""
    known = sorted(waiting, key=lambda one: (one.since, one.ordinal))
    held = {one.ordinal: now - one.in_part_since for one in known if one.in_part_since is not None}
    gone = {ordinal for ordinal, seconds in held.items() if seconds >= IN_PART_SECONDS}
    if any(seconds >= OTHERS_SECONDS for seconds in held.values()):
        gone |= {one.ordinal for one in known[1:]}
    return frozenset(gone)


def in_part_words(size: int, pods: Sequence[PodFact]) -> str:
    """What was there of a replica that gave it up."""
    placed = sum(one.node is not None for one in pods)
    missing = "" if len(pods) >= size else f", {len(pods)} could be made"
    return f"of its {size} pods {placed} had a node{missing}; they were let go, and all are tried again"


def spread(name: str) -> float:
    """A factor from 1 to 2 for a wait, of its own for each replica: services that let go together try one by one."""
    return 1.0 + zlib.crc32(name.encode()) / 2**32
