"""The order of safe moves: a DAG of steps that keeps capacity, ports and budgets at each instant.

A sequence is found by simulation: a move goes when its target has room, a place likewise; evictions that
gain room come when nothing else goes; a cycle is broken by evicting one pod before its target is free
(`swap`). Each arrival then depends only on those departures from its node that it needs: the shortest
prefix, in the order of the sequence, after which it fits beside every earlier arrival. Whatever order
respects these edges, a node never holds more than the sequence allowed.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from stowage_scheduler.assign import Change
from stowage_scheduler.build import Build
from stowage_scheduler.cluster import HostPort
from stowage_scheduler.kube.matching import port_conflict
from stowage_scheduler.packing import Action, PodRef, Step
from stowage_scheduler.problem import PodClass
from stowage_scheduler.slots import Slot, slot_class


class UnorderableError(Exception):
    """No safe order exists, for budgets that forbid to break a cycle."""


class _Event(Struct, frozen=True):
    """A departure or an arrival on a node, in the order of the sequence; `step` owns it."""

    step: int
    change: Change
    arrives: bool


def order(build: Build, changes: Iterable[Change]) -> tuple[tuple[Step, ...], tuple[Slot, ...]]:
    """Steps in a safe order, with the slots that they fill.

    Raises:
        UnorderableError: when a cycle can not be broken within the disruption budgets.
    """
    sequence = _Sequence(build, list(changes))
    sequence.run()
    return sequence.steps()


class _Sequence:
    def __init__(self, build: Build, changes: list[Change]) -> None:
        self.build = build
        self.classes = build.problem.classes
        self.room = [list(free) for free in build.problem.free]
        self.ports: list[list[tuple[HostPort, ...]]] = [
            [fixed] if (fixed := tuple(f)) else [] for f in build.problem.ports
        ]
        for pod_class in self.classes:
            for node, count in pod_class.running.items():
                self._take(pod_class, node, count)
        self.allowed = [budget.allowed for budget in build.problem.budgets]
        self.moves = [c for c in changes if c.source is not None and c.target is not None]
        self.losses = [c for c in changes if c.target is None]
        self.places = [c for c in changes if c.source is None]
        self.parked: list[tuple[Change, int]] = []  # with the number of the swap step
        self.started: list[tuple[Change, bool]] = []  # steps so far, and whether they are swaps
        self.events: list[_Event] = []

    def run(self) -> None:
        """Start every change, one after the other."""
        while self.moves or self.losses or self.places or self.parked:
            if not (self._land_parked() or self._move() or self._place() or self._lose()):
                self._swap()

    def steps(self) -> tuple[tuple[Step, ...], tuple[Slot, ...]]:
        """The sequence as steps with their edges, and the slots."""
        steps: list[Step] = []
        slots: list[Slot] = []
        for number, (change, swap) in enumerate(self.started):
            pod = self.build.pods[change.uid]
            slot = None
            if change.target is not None:
                slot = self._slot(change, len(slots) + 1)
                slots.append(slot)
            node = change.source if change.source is not None else change.target
            steps.append(
                Step(
                    id=_step_id(number),
                    action=Action.PLACE if change.source is None else Action.EVICT,
                    pod=PodRef(pod.namespace, pod.name, pod.uid),
                    node=self.build.problem.nodes[node if node is not None else 0],
                    slot=slot.id if slot else None,
                    after=() if swap or change.target is None else self._needs(number, change),
                    swap=swap,
                )
            )
        return tuple(steps), tuple(slots)

    def _slot(self, change: Change, number: int) -> Slot:
        pod_class = self.classes[change.class_index]
        target = change.target if change.target is not None else 0
        return Slot(
            id=f"k{number:03d}",
            slot_class=slot_class(self.build.pods[change.uid]),
            node=self.build.problem.nodes[target],
            standing=pod_class.running.get(target, 0),
        )

    def _needs(self, number: int, change: Change) -> tuple[str, ...]:
        """Ids of the departures that must be over before this arrival fits."""
        node = change.target if change.target is not None else 0
        pod_class = self.classes[change.class_index]
        room = list(self.build.problem.free[node])
        for other in self.classes:
            _take_room(room, other, other.running.get(node, 0))
        arrivals, departures = self._before(number, node)
        for other in arrivals:
            _take_room(room, other, 1)
        needed: list[int] = []
        for step, leaver in departures:
            if _short(room, pod_class) or port_conflict(pod_class.ports, leaver.ports):
                needed.append(step)
                _take_room(room, leaver, -1)
        return tuple(_step_id(step) for step in needed)

    def _before(self, number: int, node: int) -> tuple[list[PodClass], list[tuple[int, PodClass]]]:
        """What arrives at and departs from a node before the arrival of step `number`."""
        arrivals: list[PodClass] = []
        departures: list[tuple[int, PodClass]] = []
        for event in self.events:
            pod_class = self.classes[event.change.class_index]
            if event.arrives and event.step == number:
                break
            if event.arrives and event.change.target == node:
                arrivals.append(pod_class)
            elif not event.arrives and event.change.source == node:
                departures.append((event.step, pod_class))
        return arrivals, departures

    def _take(self, pod_class: PodClass, node: int, count: int) -> None:
        _take_room(self.room[node], pod_class, count)
        if pod_class.ports:
            if count > 0:
                self.ports[node].append(pod_class.ports)
            else:
                self.ports[node].remove(pod_class.ports)

    def _fits(self, change: Change) -> bool:
        pod_class = self.classes[change.class_index]
        node = change.target if change.target is not None else 0
        if _short(self.room[node], pod_class):
            return False
        return all(port_conflict(pod_class.ports, taken) is None for taken in self.ports[node])

    def _may_evict(self, change: Change) -> bool:
        return all(self.allowed[budget] > 0 for budget in self.classes[change.class_index].budgets)

    def _budget(self, change: Change, amount: int) -> None:
        for budget in self.classes[change.class_index].budgets:
            self.allowed[budget] += amount

    def _start(self, change: Change, *, swap: bool = False) -> int:
        self.started.append((change, swap))
        return len(self.started) - 1

    def _depart(self, step: int, change: Change) -> None:
        self.events.append(_Event(step, change, arrives=False))
        self._take(self.classes[change.class_index], change.source if change.source is not None else 0, -1)

    def _arrive(self, step: int, change: Change) -> None:
        self.events.append(_Event(step, change, arrives=True))
        self._take(self.classes[change.class_index], change.target if change.target is not None else 0, 1)

    def _move(self) -> bool:
        for change in self.moves:
            if self._may_evict(change) and self._fits(change):
                self.moves.remove(change)
                step = self._start(change)
                self._arrive(step, change)
                self._depart(step, change)
                return True
        return False

    def _place(self) -> bool:
        for change in self.places:
            if self._fits(change):
                self.places.remove(change)
                self._arrive(self._start(change), change)
                return True
        return False

    def _land_parked(self) -> bool:
        for change, step in self.parked:
            if self._fits(change):
                self.parked.remove((change, step))
                self._arrive(step, change)
                self._budget(change, 1)
                return True
        return False

    def _lose(self) -> bool:
        for change in self.losses:
            if self._may_evict(change):
                self.losses.remove(change)
                self._budget(change, -1)
                self._depart(self._start(change), change)
                return True
        return False

    def _swap(self) -> None:
        """Evict the cheapest pod whose target is not free yet; its replacement waits for it."""
        candidates = [change for change in self.moves if self._may_evict(change)]
        if not candidates:
            blocked = ", ".join(sorted(self.build.pods[c.uid].key for c in self.moves or self.places))
            msg = f"no safe order for the moves of {blocked}"
            raise UnorderableError(msg)
        change = min(candidates, key=lambda c: (self.classes[c.class_index].move_cost, c.uid))
        self.moves.remove(change)
        self._budget(change, -1)
        step = self._start(change, swap=True)
        self._depart(step, change)
        self.parked.append((change, step))


def _step_id(number: int) -> str:
    return f"s{number + 1:03d}"


def _short(room: list[int], pod_class: PodClass) -> bool:
    return any(amount > room[r] for r, amount in enumerate(pod_class.requests) if amount)


def _take_room(room: list[int], pod_class: PodClass, count: int) -> None:
    for r, amount in enumerate(pod_class.requests):
        room[r] -= amount * count
