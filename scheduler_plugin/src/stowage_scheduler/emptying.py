"""The answer to which nodes can be emptied, as values: whoever reads it need not load the packer."""

from __future__ import annotations

from msgspec import Struct

from stowage_scheduler.packing import Packing


class Candidate(Struct, frozen=True):
    """A node whose pods may all leave: how many they are, and the share of it that they use, in millionths."""

    node: str
    moves: int
    used: int


class Consolidation(Struct, frozen=True):
    """The nodes that can be emptied together, and the plan that does so (None: there are none).

    `candidates` are those that were looked at, the least used ones first, `waiting` the pods that wait for a place:
    while there are any nothing is consolidated.
    """

    nodes: tuple[str, ...] = ()
    packing: Packing | None = None
    candidates: tuple[Candidate, ...] = ()
    waiting: int = 0
