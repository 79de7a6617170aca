"""How many nodes a job shall have: people ask, nodes are lost and come back, and a change costs a start.

A pure decision. What it has to remember, times of changes and of what was missing, is in the job's status.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from msgspec import Struct

PRIOR_RESTART_SECONDS: Final = 60.0
"""From the end of the processes to the next step, until a first recovery was measured. An assumption."""
SHORTEST_WAIT_SECONDS: Final = 15.0
SHORTEST_ROOM_SECONDS: Final = 30.0
LONGEST_AUTO_SECONDS: Final = 600.0
LOOK_SECONDS: Final = 10.0
"""How often a job that has fewer nodes than it could looks for room: other pods end without ringing it."""


class SizeReason(StrEnum):
    """Why a job has the size that it has."""

    UNCHANGED = "Unchanged"
    ASKED = "Asked"
    """By `nodes.target`, or because the size is not allowed any more."""
    JOINED = "Joined"
    """More nodes have come and can begin."""
    NODES_MISSING = "NodesMissing"
    """Some have had no node for so long that fewer are better."""
    ROOM_FOR_MORE = "RoomForMore"
    """There has been room for so long that more are asked for; those that run go on meanwhile."""
    GIVEN_UP = "GivenUp"
    """What was asked for got no node."""


class Limits(Struct, frozen=True):
    """`spec.elastic` in seconds; None: Auto."""

    shrink_after: float | None = None
    grow_after: float | None = None
    cooldown: float = 60.0


class SizeFacts(Struct, frozen=True):
    """What the size is decided from; times in seconds since 1970.

    Attributes:
        sizes: the allowed numbers of nodes, ascending.
        size: seats that train, or shall.
        heading: seats that were asked for; above `size` where some wait beside those that train.
        placed: of `size`, those with a node.
        joining: further seats that could begin now.
        coming: further seats with a node, those of `joining` among them.
        running: whether every rank of the epoch runs.
        target: what people ask for.
        room: further nodes that could take a pod each.
        missing_since: since when not all of `size` have a node.
        room_since: since when more could begin, or would have room.
        resized_at: when `size` last changed.
        asked_at: when `heading` last changed.
        held_until: it does not ask for more by itself before.
        resumable: whether a start does not lose all: a checkpoint was told of.
        restart_seconds: what a change costs.
        horizon_seconds: how long the job is expected to run undisturbed.
    """

    sizes: tuple[int, ...]
    size: int
    heading: int
    placed: int
    joining: int = 0
    coming: int = 0
    running: bool = True
    target: int | None = None
    room: int = 0
    missing_since: float | None = None
    room_since: float | None = None
    resized_at: float | None = None
    asked_at: float | None = None
    held_until: float = 0.0
    resumable: bool = True
    restart_seconds: float = PRIOR_RESTART_SECONDS
    horizon_seconds: float = 86400.0


class Size(Struct, frozen=True):
    """`size` seats train from now on, and `heading - size` more are waited for; `again_at`: when to look again."""

    size: int
    heading: int
    reason: SizeReason
    again_at: float | None = None


def first_size(sizes: Sequence[int], target: int | None, room: int) -> int:
    """With how many nodes a job begins: as asked, else as many as there is room for, else the fewest."""
    if target is not None:
        return target
    return _largest(sizes, room) or sizes[0]


def decide_size(facts: SizeFacts, limits: Limits, now: float) -> Size:
    """The size from now on.

    What people ask for is done at once. What the job does by itself keeps `limits.cooldown` between two changes of its
    size.
    """
    asked = _asked(facts)
    if asked is not None and asked < facts.size:
        return Size(asked, asked, SizeReason.ASKED)
    missing = facts.size - facts.placed
    if missing > 0:
        return _fewer(facts, limits, now)
    top = facts.target if facts.target is not None else max(facts.sizes[-1], facts.heading)
    if facts.size >= top:
        return Size(facts.size, max(facts.size, asked or 0), SizeReason.UNCHANGED)
    return _more(facts, limits, asked, now)


def shrink_wait(facts: SizeFacts, limits: Limits) -> float:
    """How long lost nodes are waited for, in seconds.

    To shrink now is better than to wait for `w` iff `(w - T_shrink)·thr(n-k) > max(0, T_grow - T_R)·thr(n)`. A planned
    growth costs what a restart costs, so that is `w > T_shrink`. Nobody knows `w`: who waits for as long as shrinking
    costs never loses more than twice what the best would have lost (ski rental).
    """
    if limits.shrink_after is not None:
        return limits.shrink_after
    return min(max(facts.restart_seconds, SHORTEST_WAIT_SECONDS), LONGEST_AUTO_SECONDS)


def grow_wait(facts: SizeFacts, limits: Limits) -> float:
    """How long there has to be room, in seconds: by default as long as a start takes, or it may be gone by then."""
    if limits.grow_after is not None:
        return limits.grow_after
    return min(max(facts.restart_seconds, SHORTEST_ROOM_SECONDS), LONGEST_AUTO_SECONDS)


def pays(size: int, larger: int, restart_seconds: float, horizon_seconds: float) -> bool:
    """Whether a job on `larger` nodes is further after the horizon than one that goes on with `size`.

    `thr(n)·(h - T_grow) > thr(n-k)·h`, with throughput in proportion to nodes.
    """
    return larger * (horizon_seconds - restart_seconds) > size * horizon_seconds


def _asked(facts: SizeFacts) -> int | None:
    """What people ask for: a target, or bounds that the size breaks."""
    if facts.target is not None:
        return facts.target
    if facts.size in facts.sizes:
        return None
    return _largest(facts.sizes, facts.size) or facts.sizes[0]


def _fewer(facts: SizeFacts, limits: Limits, now: float) -> Size:
    since = facts.missing_since if facts.missing_since is not None else now
    wait = shrink_wait(facts, limits)
    believed = facts.room if now < since + 2 * wait else 0  # whoever places them does not see that room
    size = _largest(facts.sizes, min(facts.placed + believed, facts.size - 1))
    if facts.placed + believed >= facts.size:
        size = None
    due = max(since + wait, _after(facts.resized_at, limits.cooldown))
    if facts.sizes[0] >= facts.size:
        return Size(facts.size, max(facts.size, facts.heading), SizeReason.UNCHANGED)  # nothing to choose
    if size is None or now < due:
        again = due if now < due else now + LOOK_SECONDS
        return Size(facts.size, max(facts.size, facts.heading), SizeReason.UNCHANGED, again)
    heading = facts.target if facts.target is not None else size
    return Size(size, max(size, heading), SizeReason.NODES_MISSING)


def _more(facts: SizeFacts, limits: Limits, asked: int | None, now: float) -> Size:
    heading = asked if asked is not None else max(facts.size, facts.heading)
    cool = _after(facts.resized_at, limits.cooldown)
    ready = _largest(facts.sizes, min(heading, facts.size + facts.joining)) or facts.size
    if ready > facts.size and facts.running:
        patient = (facts.room_since if facts.room_since is not None else now) + grow_wait(facts, limits)
        due = max(cool, now if ready == heading else patient)
        if now >= due:
            return Size(ready, heading, SizeReason.JOINED)
        return Size(facts.size, heading, _changed(facts, heading), due)
    if asked is not None:
        return Size(facts.size, heading, _changed(facts, heading))
    if heading > facts.size:
        return _waiting(facts, limits, heading, now)
    return _asking(facts, limits, cool, now)


def _waiting(facts: SizeFacts, limits: Limits, heading: int, now: float) -> Size:
    """More were asked for without anybody's wish: what has no node after a while is given up."""
    given_up = _after(facts.asked_at, shrink_wait(facts, limits))
    if facts.size + facts.coming >= heading:
        return Size(facts.size, heading, SizeReason.UNCHANGED)
    if now < given_up:
        return Size(facts.size, heading, SizeReason.UNCHANGED, given_up)
    rest = _largest(facts.sizes, facts.size + facts.coming) or facts.size
    return Size(facts.size, max(rest, facts.size), SizeReason.GIVEN_UP)


def _asking(facts: SizeFacts, limits: Limits, cool: float, now: float) -> Size:
    larger = _largest(facts.sizes, facts.size + facts.room) or facts.size
    if not (
        facts.running
        and facts.resumable
        and larger > facts.size
        and pays(facts.size, larger, facts.restart_seconds, facts.horizon_seconds)
    ):
        return Size(facts.size, facts.size, SizeReason.UNCHANGED, now + LOOK_SECONDS)
    since = facts.room_since if facts.room_since is not None else now
    due = max(since + grow_wait(facts, limits), cool, _after(facts.asked_at, limits.cooldown), facts.held_until)
    if now < due:
        return Size(facts.size, facts.size, SizeReason.UNCHANGED, min(due, now + LOOK_SECONDS))
    return Size(facts.size, larger, SizeReason.ROOM_FOR_MORE)


def _changed(facts: SizeFacts, heading: int) -> SizeReason:
    return SizeReason.ASKED if heading != facts.heading else SizeReason.UNCHANGED


def _after(at: float | None, seconds: float) -> float:
    return at + seconds if at is not None else 0.0


def _largest(sizes: Sequence[int], most: int) -> int | None:
    """The largest allowed size of at most so many."""
    return max((one for one in sizes if one <= most), default=None)
