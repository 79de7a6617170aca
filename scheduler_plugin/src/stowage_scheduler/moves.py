"""The order of safe moves: a DAG of steps that keeps capacity, ports and budgets at each instant.

A sequence is found by simulation (`sequence.py`). Each arrival then depends only on those departures from
its node that it needs: the shortest prefix, in the order of the sequence, after which it fits beside every
earlier arrival. The arrival of a move or a place needs them before its step starts; that of a swap before
its slot opens. Whatever order respects both, a node never holds more than the sequence allowed.

The arrivals of one gang depend on what any of them needs, so that all of it starts at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from stowage_scheduler.assign import Change
from stowage_scheduler.attempts import best_attempt
from stowage_scheduler.build import Build
from stowage_scheduler.cluster import Pod
from stowage_scheduler.detours import Detoured, detoured
from stowage_scheduler.edges import between_pods
from stowage_scheduler.kube.matching import port_conflict
from stowage_scheduler.owner_order import binding, chains, with_owners
from stowage_scheduler.packing import Action, PodRef, Step
from stowage_scheduler.patience import Patience
from stowage_scheduler.problem import PodClass, Problem
from stowage_scheduler.sequence import (
    Arrival,
    Departure,
    Event,
    Part,
    Simulation,
    Start,
    Transfer,
    part_of,
    short,
    take_room,
)
from stowage_scheduler.slots import Slot, slot_class

_NO_LIMITS: Mapping[str, int] = MappingProxyType({})
_ATTEMPTS = 32  # ways to break cycles that are tried, the best ones first
_MOST_TRIED = 100_000  # changes of all attempts together: fewer attempts for large plans


class UnorderableError(Exception):
    """No safe order was found, for budgets that forbid to break a cycle.

    `changes` are those that could not start, in the attempt that left the fewest: without them, or with
    other changes in their place, there may be an order.
    """

    def __init__(self, message: str, changes: tuple[Change, ...]) -> None:
        """Keep what could not be ordered."""
        super().__init__(message)
        self.changes = changes


def order(
    build: Build,
    changes: Iterable[Change],
    at_once: Mapping[str, int] = _NO_LIMITS,
    *,
    most_detours: int | None = None,
    patience: Patience | None = None,
) -> tuple[tuple[Step, ...], tuple[Slot, ...]]:
    """Steps in a safe order, with the slots that they fill.

    Args:
        build: the problem and its pods.
        changes: what leads from what runs to the placement.
        at_once: by UID of a controller, how many of its pods may be on their way at the same time.
        most_detours: temporary places that the plan may have, each of them one more move; None: no limit.
        patience: how much work attempts may take, shared by the placements of a plan; None: this is the only one.

    Raises:
        UnorderableError: when a cycle can not be broken within the disruption budgets.
    """
    made = tuple(changes)
    parts = [part_of(change, build.problem.classes) for change in made]
    limits = binding(parts, build.pods, at_once)
    patience = patience or Patience()
    patience.begin()
    problem, parts = with_owners(build.problem, parts, build.pods, limits)
    simulation = _simulate(build, made, problem, parts, most_detours, patience)
    needs = {**_needs(simulation), **_spared_budgets(simulation.starts)}
    for step, others in between_pods(build.problem, simulation.starts, simulation.events).items():
        needs[step] = tuple(sorted({*needs[step], *map(_step_id, others)}, key=_step_number))
    owners = chains(simulation.starts, build.pods, limits)
    for step, other in (*owners.items(), *_first_legs(simulation).items(), *_turns(simulation).items()):
        needs[step] = tuple(sorted({*needs[step], _step_id(other)}, key=_step_number))
    return _steps(build, simulation, {**needs, **_of_gangs(simulation.starts, needs)})


def _simulate(
    build: Build,
    changes: tuple[Change, ...],
    problem: Problem,
    parts: Sequence[Part],
    most_detours: int | None,
    patience: Patience,
) -> Simulation:
    """The first sequence that comes to an end, going back on the last choices first; with detours if need be."""
    most = max(1, min(_ATTEMPTS, _MOST_TRIED // max(1, len(parts))))
    attempt = best_attempt(lambda picks: Simulation(problem, parts, picks), most, patience)
    if not attempt.left:
        return attempt.simulation
    kind_of = {part.uid: slot_class(build.pods[part.uid]) for part in parts}
    by_detours = detoured(problem, parts, attempt, lambda part: kind_of[part.uid], most_detours, patience)
    if by_detours is not None:
        return by_detours
    blocked = tuple(changes[index] for index in attempt.left)
    names = ", ".join(sorted(build.pods[change.uid].key for change in blocked))
    raise UnorderableError(f"no safe order for the moves of {names}", blocked)


def _first_legs(simulation: Simulation) -> Mapping[int, int]:
    """By step of a pod that leaves its temporary place, the step that sent it there."""
    return simulation.first_of if isinstance(simulation, Detoured) else {}


def _turns(simulation: Simulation) -> Mapping[int, int]:
    """By step of a pod that goes to a temporary place, the step of one like it that left the place before."""
    return simulation.turn_of if isinstance(simulation, Detoured) else {}


def _needs(simulation: Simulation) -> dict[int, tuple[str, ...]]:
    """By step, the ids of the departures that must be over before its pod fits."""
    needs: dict[int, tuple[str, ...]] = {}
    by_node: dict[int, list[Event]] = defaultdict(list)
    for event in simulation.events:
        by_node[event.node].append(event)
    for node, events in by_node.items():
        needs.update(_needs_on_node(simulation, node, events))
    return needs


def _needs_on_node(simulation: Simulation, node: int, events: Sequence[Event]) -> dict[int, tuple[str, ...]]:
    needs: dict[int, tuple[str, ...]] = {}
    beside_arrivals = list(simulation.room_at_start[node])
    departed: list[Event] = []
    openers = simulation.gates.openers(node, [event.pod_class for event in events if not event.arrives])
    for event in events:
        if not event.arrives:
            departed.append(event)
            continue
        steps = list(_shortest(beside_arrivals, departed, event.pod_class))
        if simulation.gates.concern(event.pod_class):
            steps = sorted({*steps, *(departed[number].step for number in openers)})
        needs[event.step] = tuple(map(_step_id, steps))
        take_room(beside_arrivals, event.pod_class, 1)
    return needs


def _shortest(beside_arrivals: Sequence[int], departed: Iterable[Event], pod_class: PodClass) -> Iterable[int]:
    """The first departures after which one more pod fits, and those that free its host ports."""
    room = list(beside_arrivals)
    for leaving in departed:
        if short(room, pod_class) or port_conflict(pod_class.ports, leaving.pod_class.ports):
            take_room(room, leaving.pod_class, -1)
            yield leaving.step


def _of_gangs(starts: Sequence[Start], needs: Mapping[int, tuple[str, ...]]) -> dict[int, tuple[str, ...]]:
    """By step of a pod of a gang, the ids that any pod of the gang needs.

    No circle comes of that: in the sequence all that a gang needs comes before the first of its arrivals.
    """
    gangs: dict[int, list[int]] = defaultdict(list)
    for number, start in enumerate(starts):
        if isinstance(start.part, Arrival) and start.part.pod_class.gang is not None:
            gangs[start.part.pod_class.gang].append(number)
    return {
        number: union
        for numbers in gangs.values()
        for union in [tuple(sorted({one for number in numbers for one in needs[number]}, key=_step_number))]
        for number in numbers
    }


def _spared_budgets(starts: Iterable[Start]) -> dict[int, tuple[str, ...]]:
    """By step of a pod that loses its place, the ids of the moves that need its budget before.

    A swap takes a disruption until its replacement has landed, and the moves that make room for it may need
    another one. Whoever never comes back must not take that.
    """
    spared: dict[int, tuple[str, ...]] = {}
    since_swap: dict[int, list[int]] = {}  # by budget
    for number, start in enumerate(starts):
        budgets = start.part.pod_class.budgets
        if isinstance(start.part, Departure):
            moves = {step for budget in budgets for step in since_swap.get(budget, ())}
            spared[number] = tuple(map(_step_id, sorted(moves)))
        elif isinstance(start.part, Transfer):
            for budget in budgets:
                if start.swap or budget in since_swap:
                    since_swap.setdefault(budget, []).append(number)
    return spared


def _steps(
    build: Build, simulation: Simulation, needs: Mapping[int, tuple[str, ...]]
) -> tuple[tuple[Step, ...], tuple[Slot, ...]]:
    """The sequence as steps with their edges, and the slots."""
    nodes = build.problem.nodes
    first_of = _first_legs(simulation)
    steps: list[Step] = []
    slots: list[Slot] = []
    for number, (part, swap) in enumerate((start.part, start.swap) for start in simulation.starts):
        pod = build.pods[part.uid]
        slot_id = None
        if not isinstance(part, Departure):
            slot_id = f"k{len(slots) + 1:03d}"
            slots.append(Slot(slot_id, slot_class(pod), nodes[part.target], after=needs[number] if swap else ()))
        steps.append(
            Step(
                id=_step_id(number),
                action=_action(part, pod),
                pod=PodRef(pod.namespace, pod.name, pod.uid),
                node=nodes[part.target if isinstance(part, Arrival) else part.source],
                slot=slot_id,
                after=() if swap else needs[number],
                swap=swap,
                gang=_gang_of(part, pod),
                replacement_of=_step_id(first_of[number]) if number in first_of else "",
            )
        )
    return tuple(steps), tuple(slots)


def _gang_of(part: Part, pod: Pod) -> str:
    """The gang that a pod arrives with; one that joins a gang that can do without it arrives alone."""
    together = isinstance(part, Arrival) and part.pod_class.gang is not None
    return pod.gang.name if together and pod.gang is not None else ""


def _action(part: Part, pod: Pod) -> Action:
    if not isinstance(part, Arrival):
        return Action.EVICT
    return Action.UNGATE if pod.gated else Action.PLACE


def _step_id(number: int) -> str:
    return f"s{number + 1:03d}"


def _step_number(step_id: str) -> int:
    return int(step_id[1:])
