"""Moves that are known to lie on a cycle, for as long as few have gone since the cycles were looked for.

To look at all moves again for each swap takes time that grows with the square of their number: of 17,000 moves some
3,000 are swaps, and that took half a minute. Moves go and none comes, so who is off all cycles stays off, and who was
on one is asked alone. Only whether moves leave a group of nodes is not asked anew; so now and then all are looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from stowage_scheduler.cycles import Moving

_MANY = 256  # moves; fewer are all looked at each time
_GONE_SHARE = 0.1  # of the moves; then what was known is too old
_MOST_ASKED = 32  # candidates that make no room for anybody, for one swap

MovingT = TypeVar("MovingT", bound=Moving)
MovingT_contra = TypeVar("MovingT_contra", bound=Moving, contravariant=True)


class Course(Protocol[MovingT_contra]):
    """How far a simulation has come, as far as it matters here."""

    options: list[int]  # at each choice so far, how many there were

    @property
    def left(self) -> Collection[int]:
        """Numbers of those that have not ended."""

    @property
    def parked(self) -> Collection[int]:
        """Of these, who is gone and waits for its place."""

    @property
    def picks(self) -> Sequence[int]:
        """Which option to take at each choice; the best one when there are no more."""

    def makes_room(self, move: MovingT_contra) -> bool:
        """Whether anybody who waits could come when a pod is gone."""


class KnownCycles(Generic[MovingT]):
    """Candidates for a swap, the best first, with the moves among which they lay on a cycle.

    Args:
        moves: those that waited, by a number that names each; nothing is kept of few.
        ranked: numbers of those that may be swapped whatever else is, none better than those before it.
    """

    def __init__(self, moves: Mapping[int, MovingT], ranked: Sequence[int]) -> None:
        """Keep what is known; nothing is worked out."""
        self.moves = moves
        self.candidates = list(ranked) if len(moves) > _MANY else []
        self.least = len(moves) * (1 - _GONE_SHARE)
        self.onward: dict[int, list[int]] = defaultdict(list)  # by node, the moves that leave it
        self.back: dict[int, list[int]] = defaultdict(list)  # by node, those that come
        for number, move in moves.items() if self.candidates else ():
            self.onward[move.source].append(number)
            self.back[move.target].append(number)

    def swap(self, course: Course[MovingT]) -> int | None:
        """The best candidate by now, one that helps somebody if there is any; None: look at all moves again.

        It is noted as a choice without any other option.
        """
        turn = len(course.options)
        another = turn < len(course.picks) and course.picks[turn]
        if another or not self.candidates or len(course.left) < self.least:
            return None
        useless: list[int] = []
        found: int | None = None
        seen = 0
        for number in self.candidates:
            seen += 1
            if not _waits(course, number) or not self._on_a_cycle(course, number):
                continue
            if course.makes_room(self.moves[number]):
                found = number
                break
            useless.append(number)
            if len(useless) == _MOST_ASKED:
                break
        if found is None and useless:
            found = useless.pop(0)
        self.candidates[:seen] = useless
        if found is not None:
            course.options.append(1)
        return found

    def _on_a_cycle(self, course: Course[MovingT], number: int) -> bool:
        """Whether moves that wait lead from where a move goes to where it comes from, looked for from both ends."""
        fronts = [{self.moves[number].target}, {self.moves[number].source}]
        reached = [set(front) for front in fronts]
        while all(fronts):
            side = 0 if len(fronts[0]) <= len(fronts[1]) else 1
            fronts[side] = self._next(course, fronts[side], side) - reached[side]
            reached[side] |= fronts[side]
            if not fronts[side].isdisjoint(reached[1 - side]):
                return True
        return False

    def _next(self, course: Course[MovingT], nodes: set[int], side: int) -> set[int]:
        """Where moves lead from some nodes, or (`side` 1) where they come from."""
        found: set[int] = set()
        edges = self.back if side else self.onward
        for node in nodes:
            edges[node] = waiting = [number for number in edges[node] if _waits(course, number)]
            found.update(self.moves[one].source if side else self.moves[one].target for one in waiting)
        return found


def _waits(course: Course[MovingT], number: int) -> bool:
    return number in course.left and number not in course.parked
