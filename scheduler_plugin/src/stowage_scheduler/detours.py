"""Temporary places: a pod of a cycle goes to another node first, and from there to where it shall be.

A swap keeps a disruption of its budget until its replacement has landed, while the moves that make room for it need
another one. A pod in a temporary place is Ready again, so one disruption is enough for the whole cycle. It costs one
more eviction, so it is tried where no order exists without: one detour after the other, each of which lets more
changes start, until all do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import TypeVar

from msgspec import Struct, structs

from stowage_scheduler.attempts import Attempt, best_attempt
from stowage_scheduler.build import Build
from stowage_scheduler.options import PackOptions
from stowage_scheduler.packing import Step
from stowage_scheduler.patience import Patience
from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import Problem
from stowage_scheduler.sequence import Arrival, Departure, Part, Simulation, Transfer, short

_ATTEMPTS = 4  # ways to break the other cycles that are tried with each detour
_TRIES = 256  # simulations for one plan
_LOOK_ROUND = 32  # simulations, at least, before a detour that helps a little is taken
_WORK = 16_384  # changes that are simulated in all: fewer tries of large plans

PlaceT = TypeVar("PlaceT", bound=Hashable)


class Detour(Struct, frozen=True):
    """The move with index `move` goes by way of node `by`."""

    move: int
    by: int


class Detoured(Simulation):
    """Changes of which some moves have two legs: to a temporary place, and later from there on.

    The second leg is a move of its own, the last one of the parts, and starts after the first one. No leg is a swap.
    One temporary place has one pod of a kind at a time: who carries the plan out could not tell two of them apart.

    Args:
        problem: what runs where, room and budgets.
        parts: the changes.
        detours: which of them have two legs.
        picks: which option to take at each choice, in turn.
        place_of: what makes the pods of two changes of one kind; by default their class.

    Attributes:
        first_of: by step of a second leg, the step of its first one.
        turn_of: by step of a first leg, the step of the second leg that left the temporary place before.
    """

    def __init__(
        self,
        problem: Problem,
        parts: Sequence[Part],
        detours: Sequence[Detour],
        picks: Sequence[int] = (),
        place_of: Callable[[Part], Hashable] = lambda part: part.pod_class.index,
    ) -> None:
        """State what runs; nothing has started."""
        legs = list(parts)
        self._second: dict[int, int] = {}  # by index of a first leg
        self._sharing: dict[tuple[Hashable, int], list[int]] = defaultdict(list)  # first legs by kind and node
        self._place: dict[int, tuple[Hashable, int]] = {}  # by index of a first leg
        for detour in detours:
            move = legs[detour.move]
            if not isinstance(move, Transfer):
                msg = f"pod {move.uid} does not move"
                raise TypeError(msg)
            self._place[detour.move] = place = (place_of(move), detour.by)
            self._sharing[place].append(detour.move)
            self._second[detour.move] = len(legs)
            legs[detour.move] = structs.replace(move, target=detour.by)
            legs.append(structs.replace(move, source=detour.by))
        self._first = {second: first for first, second in self._second.items()}
        self._steps: dict[int, int] = {}  # of first legs that have started, by index
        self._over: dict[tuple[Hashable, int], int] = {}  # by temporary place, the last step that left it
        self.first_of: dict[int, int] = {}
        self.turn_of: dict[int, int] = {}
        super().__init__(problem, legs, picks)

    def _try(self, index: int) -> None:
        first = self._first.get(index)
        if first in self.left or index not in self.left:
            return  # a second leg is looked at again when the first one is over
        if self._is_taken(index):
            return  # a first leg when the one before it has left
        super()._try(index)
        if index in self.left:
            return
        step = len(self.starts) - 1
        if index in self._second:
            self._steps[index] = step
            if (before := self._over.get(self._place[index])) is not None:
                self.turn_of[step] = before
            self._try_again([self._second[index]])
        elif first is not None:
            self.first_of[step] = self._steps[first]
            place = self._place[first]
            self._over[place] = step
            self._try_again(other for other in self._sharing[place] if other in self.left)

    def _is_taken(self, index: int) -> bool:
        """Whether another pod of the kind has begun its way over the temporary place of a first leg, and not ended."""
        others = self._sharing[self._place[index]] if index in self._place else ()
        return any(other not in self.left and self._second[other] in self.left for other in others if other != index)

    def _may_swap(self, indices: Sequence[int], moves: dict[int, Transfer]) -> list[int]:  # type: ignore[override]
        legs = self._first.keys() | self._second.keys()
        return super()._may_swap([index for index in indices if index not in legs], moves)


def detoured(
    problem: Problem,
    parts: Sequence[Part],
    stuck: Attempt[Simulation],
    place_of: Callable[[Part], PlaceT],
    most: int | None,
    patience: Patience,
) -> Detoured | None:
    """A sequence with temporary places, where there is none without.

    Args:
        problem: what runs where, room and budgets.
        parts: the changes.
        stuck: the best attempt without temporary places.
        place_of: what makes the pods of two changes the same for whoever carries the plan out. A temporary place is
            on no node that such pods come to or leave for good, for nobody could tell who came.
        most: temporary places that the plan may have; None: no limit.
        patience: no further detour is tried when it is over.

    Returns:
        A simulation that came to its end; None when none was found.
    """
    taken = _taken(parts, place_of)
    tries = max(2, min(_TRIES, _WORK // max(1, len(parts))))
    detours: tuple[Detour, ...] = ()
    best: Attempt[Detoured] | Attempt[Simulation] = stuck
    while best.left and (most is None or len(detours) < most):
        better: tuple[Attempt[Detoured], Detour] | None = None
        enough = tries - max(_LOOK_ROUND, tries // 4)
        for detour in _worth_trying(parts, best, detours, taken, place_of, tries):
            if not tries or patience.over or (better is not None and tries <= enough):
                break
            tried = best_attempt(
                partial(Detoured, problem, parts, (*detours, detour), place_of=place_of),
                min(tries, _ATTEMPTS),
                patience,
            )
            tries -= tried.tried
            if not tried.left:
                return tried.simulation
            if len(tried.left) < len((best if better is None else better[0]).left):
                better = tried, detour
                if len(tried.simulation.parts) - 1 not in tried.left:
                    break  # it has come to its last place, and others went on
        if better is None:
            return None
        best, detours = better[0], (*detours, better[1])
    return None


def _taken(parts: Sequence[Part], place_of: Callable[[Part], PlaceT]) -> Mapping[PlaceT, set[int]]:
    """Nodes that pods of a kind come to or leave."""
    taken: dict[PlaceT, set[int]] = {}
    for part in parts:
        nodes = taken.setdefault(place_of(part), set())
        if not isinstance(part, Arrival):
            nodes.add(part.source)
        if not isinstance(part, Departure):
            nodes.add(part.target)
    return taken


def _worth_trying(
    parts: Sequence[Part],
    best: Attempt[Detoured] | Attempt[Simulation],
    detours: Sequence[Detour],
    taken: Mapping[PlaceT, set[int]],
    place_of: Callable[[Part], PlaceT],
    most: int,
) -> Iterator[Detour]:
    """Detours over nodes with room: when all that could go has gone, or else at the start.

    Moves that wait come before those that took room which others needed first. One node for each move comes first,
    the cheapest move before the others, then the next node for each.
    """
    simulation = best.simulation
    waiting, already = set(best.left), {detour.move for detour in detours}
    moves = [
        (number not in waiting, part.pod_class.move_cost, part.uid, number, part)
        for number, part in enumerate(parts)
        if isinstance(part, Transfer) and number not in already and not simulation.gates.concern(part.pod_class)
    ]
    first = sorted(moves, key=lambda one: one[:4])[:most]
    for later in (False, True):
        turns = [(number, move) for one, _, _, number, move in first if one is later]
        nodes = {number: sorted(move.pod_class.eligible - taken[place_of(move)]) for number, move in turns}
        for rooms in (simulation.room, simulation.room_at_start):
            each = [_roomy(rooms, nodes[number], number, move) for number, move in turns]
            yield from _in_turns(islice(one, most) for one in each)


def _roomy(rooms: Sequence[Sequence[int]], nodes: Iterable[int], number: int, move: Transfer) -> Iterator[Detour]:
    """Of these nodes, those with room for the pod of a move, as detours."""
    return (Detour(number, node) for node in nodes if not short(rooms[node], move.pod_class))


def _in_turns(each: Iterable[Iterator[Detour]]) -> Iterator[Detour]:
    """The first of each, then the second of each, and so on; nothing is looked for before it is asked for."""
    left = list(each)
    while left:
        going = []
        for one in left:
            if (detour := next(one, None)) is not None:
                going.append(one)
                yield detour
        left = going


def most_detours(options: PackOptions, placement: Placement, others: Iterable[Placement]) -> int | None:
    """Temporary places that an order for `placement` may have: as many more moves as the cap on moves allows.

    None at all while one of the other placements is as good but for its moves, and may need none.

    Returns:
        None when there is no limit.
    """
    own = placement.score()
    if any(other.score()[:-1] == own[:-1] and other.score() != own for other in others):
        return 0
    return None if options.max_moves is None else max(0, options.max_moves - placement.disrupted())


def cost_of_detours(build: Build, steps: Iterable[Step]) -> int:
    """What the further moves from temporary places cost, in restart seconds."""
    again = {step.pod.uid for step in steps if step.replacement_of}
    if not again:
        return 0
    costs = {
        uid: pod_class.move_cost
        for pod_class in build.problem.classes
        for uids in (pod_class.pending_uids, *pod_class.running_uids.values())
        for uid in uids
    }
    return sum(costs[uid] for uid in again)
