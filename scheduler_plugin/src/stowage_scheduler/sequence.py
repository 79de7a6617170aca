"""One sequence of changes that keeps capacity, ports and budgets at each instant, found by simulation.

A pod that waits for its place lands first, then moves go whose target has room, then places. When none of them can go,
a pod without a place at the end is evicted, or a cycle is broken by a *swap*: one pod is evicted before its target is
free. That is a choice, and a choice may turn out to be wrong for the budgets, so the caller says which option to take.

The pods of a gang arrive together, as soon as all of them have room.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence

from msgspec import Struct

from stowage_scheduler.assign import Change
from stowage_scheduler.cluster import HostPort
from stowage_scheduler.cycles import Cycle, cycles, nth_best
from stowage_scheduler.devices.gates import DeviceGates
from stowage_scheduler.known_cycles import KnownCycles
from stowage_scheduler.kube.matching import port_conflict
from stowage_scheduler.problem import PodClass, Problem
from stowage_scheduler.relations import Tallies

_FOR_A_CYCLE = 2  # disruptions: one for the swap, one for the moves until its replacement has landed
_FOR_MOVES = 1


class Arrival(Struct, frozen=True):
    """A pending pod that gets a place on node `target`."""

    uid: str
    pod_class: PodClass
    target: int


class Departure(Struct, frozen=True):
    """A running pod that loses its place on node `source`."""

    uid: str
    pod_class: PodClass
    source: int


class Transfer(Struct, frozen=True):
    """A running pod that moves from node `source` to node `target`."""

    uid: str
    pod_class: PodClass
    source: int
    target: int


Part = Arrival | Departure | Transfer
"""A change that says what it does."""


class Event(Struct, frozen=True):
    """A pod that comes to a node, or leaves it, because of step `step`."""

    step: int
    pod_class: PodClass
    node: int
    arrives: bool


class Start(Struct, frozen=True):
    """A step: the change that starts, and whether it is a swap."""

    part: Part
    swap: bool = False


class StuckError(Exception):
    """Nothing can start any more. `left` are the indices of the changes that wait."""

    def __init__(self, left: tuple[int, ...]) -> None:
        """Keep what waits."""
        super().__init__(f"{len(left)} changes can not start")
        self.left = left


def part_of(change: Change, classes: Sequence[PodClass]) -> Part:
    """The change, told apart by what it does.

    Raises:
        ValueError: it has neither a source nor a target.
    """
    pod_class = classes[change.class_index]
    if change.source is not None and change.target is not None:
        return Transfer(change.uid, pod_class, change.source, change.target)
    if change.target is not None:
        return Arrival(change.uid, pod_class, change.target)
    if change.source is not None:
        return Departure(change.uid, pod_class, change.source)
    msg = f"pod {change.uid} neither comes nor goes"
    raise ValueError(msg)


class Simulation:
    """The changes being carried out one after the other.

    Args:
        problem: what runs where, room and budgets.
        parts: the changes; among those that can go, the first goes first.
        picks: which option to take at each choice, in turn; the best one (0) when there are no more.
    """

    def __init__(self, problem: Problem, parts: Sequence[Part], picks: Sequence[int] = ()) -> None:
        """State what runs; nothing has started."""
        self.parts = parts
        self.picks = picks
        self.options: list[int] = []  # at each choice so far, how many there were
        self.starts: list[Start] = []
        self.events: list[Event] = []
        self.ports: list[list[tuple[HostPort, ...]]] = [
            [fixed] if (fixed := tuple(ports)) else [] for ports in problem.ports or [()] * len(problem.nodes)
        ]
        self.room = [list(free) for free in problem.free]
        self.roles_of = problem.roles_of
        self.serial = frozenset(n for n, relation in enumerate(problem.relations) if relation.is_serial)
        self.tallies = Tallies(problem)
        self.gates = DeviceGates(problem, ((p.pod_class, p.target) for p in parts if not isinstance(p, Departure)))
        for pod_class in problem.classes:
            for node, count in (*pod_class.running.items(), *pod_class.displaced.items()):
                self._take(pod_class, node, count)
        self.room_at_start = [tuple(row) for row in self.room]
        self.allowed = [budget.allowed for budget in problem.budgets]
        self.together = self._gangs()
        self.left = dict.fromkeys(range(len(parts)))  # those that have not ended, in order
        self.away: set[str] = set()  # UIDs of pods that left in a swap
        self.parked: dict[int, int] = {}  # swaps whose replacement waits: index to step
        self.to_lose = deque(i for i, p in enumerate(parts) if isinstance(p, Departure) and not p.pod_class.budgets)
        self.to_try: list[tuple[int, int]] = []
        self.queued: set[int] = set()  # those in `to_try`
        self.for_room: dict[int, dict[int, None]] = defaultdict(dict)  # by node; dicts for their order
        self.for_budget: dict[int, list[int]] = defaultdict(list)
        self.for_others: dict[int, None] = {}  # until pods that a rule speaks of come or go
        self.known: KnownCycles[Transfer] = KnownCycles({}, ())

    def _gangs(self) -> dict[int, tuple[int, ...]]:
        """By the index of each arrival of a gang all of the gang's, the one that speaks for them first."""
        found: dict[int, list[int]] = defaultdict(list)
        for index, part in enumerate(self.parts):
            if isinstance(part, Arrival) and part.pod_class.gang is not None:
                found[part.pod_class.gang].append(index)
        return {index: tuple(indices) for indices in found.values() for index in indices}

    def run(self) -> None:
        """Start every change.

        Raises:
            StuckError: the choices made lead nowhere.
        """
        self._try_again(self.left)
        while self.left:
            if self.to_try:
                index = heapq.heappop(self.to_try)[1]
                self.queued.discard(index)
                self._try(index)
            elif self.to_lose:
                self._lose(self.to_lose.popleft())
            else:
                self._choose()

    def _try_again(self, indices: Iterable[int]) -> None:
        """Look at changes once more, the urgent ones first."""
        for index in indices:
            part = self.parts[index]
            speaks = index not in self.together or self.together[index][0] == index
            if not isinstance(part, Departure) and speaks and index not in self.queued:
                self.queued.add(index)
                heapq.heappush(self.to_try, (self._rank(index, part), index))

    def _rank(self, index: int, part: Arrival | Transfer) -> int:
        """Replacements that wait, then moves, then places; under a budget first, for those are no good for a swap."""
        if index in self.parked:
            return 0
        if isinstance(part, Transfer):
            return 1 if part.pod_class.budgets else 2
        return 3

    def _try(self, index: int) -> None:
        """Carry out an arrival or a move that has room, or note what it waits for."""
        part = self.parts[index]
        if isinstance(part, Departure) or index not in self.left:
            return
        if index in self.together:
            self._try_gang(index)
            return
        roomy = self._has_room(part)
        if not roomy or not self._admitted(part):
            self._wait(index, part, for_others=roomy)
            return
        if index in self.parked:
            self._arrive(self.parked.pop(index), part)
            self._budget(part, 1)
        elif isinstance(part, Arrival):
            self._arrive(self._start(part), part)
        else:
            spent = next((budget for budget in part.pod_class.budgets if self.allowed[budget] < 1), None)
            if spent is not None:
                self.for_budget[spent].append(index)
                return
            step = self._start(part)
            self._arrive(step, part)
            self._depart(step, part)
        del self.left[index]

    def _try_gang(self, speaker: int) -> None:
        """Let all pods of a gang arrive, or note which of their nodes is still full."""
        arrivals = self._arriving(speaker)
        blocked = self._blocked(arrivals)
        if blocked:
            for one in blocked:
                self._wait(speaker, one, for_others=bool(self.roles_of[one.pod_class.index]))
            return
        for index, arrival in zip(self.together[speaker], arrivals, strict=True):
            self._arrive(self._start(arrival), arrival)
            del self.left[index]

    def _wait(self, index: int, blocked: Arrival | Transfer, *, for_others: bool) -> None:
        """Look again when a pod leaves the node, or pods come or go that a rule between pods speaks of."""
        self.for_room[blocked.target][index] = None
        if for_others:
            self.for_others[index] = None

    def _arriving(self, index: int) -> list[Arrival | Transfer]:
        """What arrives together with a change, itself among it."""
        parts = (self.parts[i] for i in self.together.get(index, (index,)))
        return [part for part in parts if not isinstance(part, Departure)]

    def _blocked(self, arrivals: Iterable[Arrival | Transfer]) -> list[Arrival | Transfer]:
        """Those that can not come beside the others; who is refused is asked again when another has come."""
        waiting, taken = list(arrivals), list[Arrival | Transfer]()
        came = True
        while waiting and came:
            came = False
            for arrival in list(waiting):
                if self._fits(arrival):
                    self._take(arrival.pod_class, arrival.target, 1)
                    waiting.remove(arrival)
                    taken.append(arrival)
                    came = True
        for arrival in taken:
            self._take(arrival.pod_class, arrival.target, -1)
        return waiting

    def _choose(self) -> None:
        """Nothing goes by itself: break a cycle, or let a pod go whose budget may be needed elsewhere."""
        if (swap := self.known.swap(self)) is not None:
            self._swap(swap, self.known.moves[swap])
            return
        moves = {i: p for i in self.left if isinstance(p := self.parts[i], Transfer) and i not in self.parked}
        losses = {i: p for i in self.left if isinstance(p := self.parts[i], Departure) and self._may_evict(p)}
        found = cycles(moves)
        harmless = next((i for i, loss in losses.items() if self._spares_the_moves(loss, moves, found)), None)
        if harmless is not None:
            self._lose(harmless)
            return
        still_to_lose = {p.source for i in self.left if isinstance(p := self.parts[i], Departure)}
        tight = [i for c in found if c.closed and not c.nodes & still_to_lose for i in c.moves]
        known = set(tight)
        loose = [i for c in found for i in c.moves if i not in known]
        options = [self._may_swap(tight, moves), list(losses), self._may_swap(loose, moves)]
        if not any(options) and self.for_others:
            options = [self._may_swap(moves, moves)]  # pods of different nodes may be in each other's way as well
        if not any(options):
            raise StuckError(tuple(self.left))
        turn = len(self.options)
        self.options.append(sum(map(len, options)))
        pick = self.picks[turn] if turn < len(self.picks) else 0
        while pick >= len(options[0]):
            pick -= len(options.pop(0))
        if options[0][0] in losses:
            self._lose(options[0][pick])
            return
        scarcity = {i: self._scarcity(moves[i]) for i in options[0]}
        ranked = sorted(options[0], key=lambda i: (scarcity[i], moves[i].pod_class.move_cost, moves[i].uid))
        index = nth_best(ranked, scarcity, lambda i: self.makes_room(moves[i]), pick)
        self.known = KnownCycles(moves, [i for i in ranked if i != index and i in known and not scarcity[i][0]])
        self._swap(index, moves[index])

    def _spares_the_moves(self, loss: Departure, moves: dict[int, Transfer], found: Sequence[Cycle]) -> bool:
        """Whether enough disruptions are left for moves under the same budgets, and for swaps among them."""
        in_cycles = {index for cycle in found for index in cycle.moves}
        for budget in loss.pod_class.budgets:
            covered = [index for index, move in moves.items() if budget in move.pod_class.budgets]
            needed = (_FOR_A_CYCLE if in_cycles.intersection(covered) else _FOR_MOVES) if covered else 0
            if self.allowed[budget] - 1 < needed:
                return False
        return True

    def _may_swap(self, indices: Iterable[int], moves: dict[int, Transfer]) -> list[int]:
        """Moves that may be taken out of their cycle now."""
        return [i for i in indices if self._may_evict(moves[i]) and not self._is_serial(moves[i].pod_class)]

    def _is_serial(self, pod_class: PodClass) -> bool:
        """Whether it matters to others when a pod of a class lands: a swap can not tell."""
        return any(number in self.serial for number, _ in self.roles_of[pod_class.index])

    def _scarcity(self, move: Transfer) -> tuple[bool, float]:
        """Whether a swap needs a budget, and how little is left of it."""
        slack = min((float(self.allowed[budget]) for budget in move.pod_class.budgets), default=math.inf)
        return bool(move.pod_class.budgets), -slack

    def makes_room(self, move: Transfer) -> bool:
        """Whether anybody who waits for the node of a pod could come when it is gone."""
        self._take(move.pod_class, move.source, -1)
        found = any(not self._blocked(self._arriving(i)) for i in self.for_room[move.source])
        self._take(move.pod_class, move.source, 1)
        return found

    def _lose(self, index: int) -> None:
        part = self.parts[index]
        if isinstance(part, Departure):
            del self.left[index]
            self._budget(part, -1)
            self._depart(self._start(part), part)

    def _swap(self, index: int, move: Transfer) -> None:
        self._budget(move, -1)
        step = self._start(move, swap=True)
        self.parked[index] = step
        self.away.add(move.uid)
        self._depart(step, move)

    def _start(self, part: Part, *, swap: bool = False) -> int:
        self.starts.append(Start(part, swap))
        return len(self.starts) - 1

    def _arrive(self, step: int, part: Arrival | Transfer) -> None:
        self._note(Event(step, part.pod_class, part.target, arrives=True))
        self._take(part.pod_class, part.target, 1)

    def _depart(self, step: int, part: Departure | Transfer) -> None:
        self._note(Event(step, part.pod_class, part.source, arrives=False))
        self._take(part.pod_class, part.source, -1)
        self._try_again(self.for_room.pop(part.source, ()))

    def _note(self, event: Event) -> None:
        """Keep what happened, and look again at whom it may help."""
        self.events.append(event)
        if self.roles_of[event.pod_class.index] and self.for_others:
            waiting, self.for_others = self.for_others, {}
            self._try_again(waiting)

    def _take(self, pod_class: PodClass, node: int, count: int) -> None:
        take_room(self.room[node], pod_class, count)
        self.tallies.add(pod_class, node, count)
        self.gates.take(pod_class, node, count)
        if pod_class.ports:
            if count > 0:
                self.ports[node] += [pod_class.ports] * count
            else:
                self.ports[node].remove(pod_class.ports)

    def _fits(self, part: Arrival | Transfer) -> bool:
        return self._has_room(part) and self._admitted(part)

    def _has_room(self, part: Arrival | Transfer) -> bool:
        if short(self.room[part.target], part.pod_class) or not self.gates.open(part.pod_class, part.target):
            return False
        ports = part.pod_class.ports
        return not ports or all(port_conflict(ports, taken) is None for taken in self.ports[part.target])

    def _admitted(self, part: Arrival | Transfer) -> bool:
        """Whether the rules between pods let a pod come, once it has left where it is."""
        if not self.roles_of[part.pod_class.index]:
            return True
        if not isinstance(part, Transfer) or part.uid in self.away:
            return self.tallies.admits(part.pod_class, part.target)
        self.tallies.add(part.pod_class, part.source, -1)
        admitted = self.tallies.admits(part.pod_class, part.target)
        self.tallies.add(part.pod_class, part.source, 1)
        return admitted

    def _may_evict(self, part: Departure | Transfer) -> bool:
        return all(self.allowed[budget] > 0 for budget in part.pod_class.budgets)

    def _budget(self, part: Part, amount: int) -> None:
        for budget in part.pod_class.budgets:
            self.allowed[budget] += amount
            if amount > 0:
                self._try_again(self.for_budget.pop(budget, ()))


def short(room: Sequence[int], pod_class: PodClass) -> bool:
    """Whether one more pod of a class has no room."""
    return any(amount > room[r] for r, amount in enumerate(pod_class.requests) if amount)


def take_room(room: list[int], pod_class: PodClass, count: int) -> None:
    """Take the room of `count` pods; give it back when negative."""
    for r, amount in enumerate(pod_class.requests):
        room[r] -= amount * count
