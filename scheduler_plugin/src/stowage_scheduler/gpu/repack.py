"""Room for one more pod by moving a few that run: the fewest moves on a handful of nodes.

A CP-SAT model at the level of devices. Shares get a Boolean per device; whole pods get one per node, because which of
its empty devices they take makes no difference, and the node's devices say whether whole pods have them. A pod that
changes its node or a device counts as moved.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from ortools.sat.python import cp_model

from stowage_scheduler.gpu.devices import DEVICE_MILLI, Demand

_UNITS = 0.1
"""Deterministic units of CP-SAT for one model; a model of four nodes takes about 0.02 of them."""


class Held(Struct, frozen=True):
    """A running pod that may move, and the devices that it has."""

    demand: Demand
    devices: tuple[int, ...]


class Node(Struct, frozen=True):
    """A node: what is free (CPU in milli-CPU, memory in MiB, milli per device), and the pods that may move.

    What is neither free nor held by `held` stays as it is.
    """

    cpu_milli: int
    memory_mib: int
    free_milli: tuple[int, ...]
    model: str
    held: tuple[Held, ...]


class Place(Struct, frozen=True):
    """Index of a node, and devices there."""

    node: int
    devices: tuple[int, ...]


class Move(Struct, frozen=True):
    """Pod number `pod` of node `node` goes elsewhere, or to other devices of its node."""

    node: int
    pod: int
    target: Place


class Repacking(Struct, frozen=True):
    """Where the new pod goes, and what moves for it; `fewest`: no fewer moves on these nodes would do."""

    place: Place
    moves: tuple[Move, ...]
    fewest: bool


def make_room(
    nodes: Sequence[Node], demand: Demand, *, most_moves: int, units: float = _UNITS, seed: int = 0
) -> Repacking | None:
    """The fewest moves among some nodes that give a new pod a place; every pod of theirs keeps one.

    Args:
        nodes: a few; the model has a Boolean per share and device.
        demand: the pod without a place.
        most_moves: no answer needs more.
        units: CP-SAT's deterministic time; same input, same answer.
        seed: of the solver.

    Returns:
        None: there is no such answer, or none was found in the time given.
    """
    model = _Model(nodes, demand, most_moves)
    return model.solve(units, seed)


class _Pod:
    """Choices of one pod: staying, or a variable per place."""

    def __init__(self, demand: Demand, home: Place | None) -> None:
        self.demand = demand
        self.home = home
        self.stays: cp_model.IntVar | None = None
        self.shares: dict[tuple[int, int], cp_model.IntVar] = {}  # (node, device)
        self.wholes: dict[int, cp_model.IntVar] = {}  # node

    def here(self, node: int) -> list[cp_model.IntVar]:
        """All variables that mean this node."""
        found = [v for (at, _), v in self.shares.items() if at == node]
        found += [v for at, v in self.wholes.items() if at == node]
        if self.stays is not None and self.home is not None and self.home.node == node:
            found.append(self.stays)
        return found


class _Model:
    def __init__(self, nodes: Sequence[Node], demand: Demand, most_moves: int) -> None:
        self.cp = cp_model.CpModel()
        self.nodes = nodes
        self.most_moves = most_moves
        self.newcomer = _Pod(demand, None)
        self.running = [
            [_Pod(held.demand, Place(number, held.devices)) for held in node.held] for number, node in enumerate(nodes)
        ]
        self.pods = [self.newcomer, *(pod for pods in self.running for pod in pods)]
        for pod in self.pods:
            self._choices(pod)
        self.taken = [[self.cp.new_bool_var("") for _ in node.free_milli] for node in nodes]  # by whole pods that come
        for number, node in enumerate(nodes):
            self._capacity(number, node)
        self.stays = [pod.stays for pod in self.pods if pod.stays is not None]
        moves = len(self.stays) - cp_model.LinearExpr.sum(self.stays)
        self.cp.add(moves <= most_moves)
        self.cp.maximize(cp_model.LinearExpr.sum(self.stays))

    def _choices(self, pod: _Pod) -> None:
        demand = pod.demand
        if pod.home is not None:
            pod.stays = self.cp.new_bool_var("")
            self.cp.add_hint(pod.stays, 1)
        for number, node in enumerate(self.nodes):
            if demand.gpu_count and demand.models and node.model not in demand.models:
                continue
            at_home = pod.home is not None and pod.home.node == number
            if demand.shared:
                for device in range(len(node.free_milli)):
                    if not (at_home and pod.home is not None and device in pod.home.devices):
                        pod.shares[number, device] = self.cp.new_bool_var("")
            elif demand.gpu_count <= len(node.free_milli) and not (at_home and not demand.gpu_count):
                pod.wholes[number] = self.cp.new_bool_var("")
        every = [*pod.shares.values(), *pod.wholes.values(), *([pod.stays] if pod.stays is not None else [])]
        self.cp.add_exactly_one(every)

    def _capacity(self, number: int, node: Node) -> None:
        here = [(pod, variable) for pod in self.pods for variable in pod.here(number)]
        for room, ask in (
            (node.cpu_milli + sum(h.demand.cpu_milli for h in node.held), [p.demand.cpu_milli for p, _ in here]),
            (node.memory_mib + sum(h.demand.memory_mib for h in node.held), [p.demand.memory_mib for p, _ in here]),
        ):
            self.cp.add(cp_model.LinearExpr.weighted_sum([v for _, v in here], ask) <= room)
        coming = [(pod.demand.gpu_count, pod.wholes[number]) for pod in self.pods if number in pod.wholes]
        taken = self.taken[number]
        self.cp.add(
            cp_model.LinearExpr.sum(taken)
            == cp_model.LinearExpr.weighted_sum([v for _, v in coming], [count for count, _ in coming])
        )
        for device, free in enumerate(node.free_milli):
            staying = [p for p in self.running[number] if p.home is not None and device in p.home.devices]
            terms = [(p.demand.gpu_milli, p.stays) for p in staying if p.stays is not None]
            terms += [(p.demand.gpu_milli, p.shares[number, device]) for p in self.pods if (number, device) in p.shares]
            terms.append((DEVICE_MILLI, taken[device]))
            room = free + sum(p.demand.gpu_milli for p in staying)
            self.cp.add(cp_model.LinearExpr.weighted_sum([v for _, v in terms], [k for k, _ in terms]) <= room)

    def solve(self, units: float, seed: int) -> Repacking | None:
        """The answer, or None."""
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 1
        solver.parameters.random_seed = seed
        solver.parameters.max_deterministic_time = units
        status = solver.solve(self.cp)
        if status not in {cp_model.OPTIMAL, cp_model.FEASIBLE}:
            return None
        spare = [[d for d, variable in enumerate(taken) if solver.value(variable)] for taken in self.taken]
        place = self._place(solver, self.newcomer, spare)
        moves = tuple(
            Move(number, index, self._place(solver, pod, spare))
            for number, pods in enumerate(self.running)
            for index, pod in enumerate(pods)
            if pod.stays is not None and not solver.value(pod.stays)
        )
        return Repacking(place, moves, fewest=status == cp_model.OPTIMAL)

    def _place(self, solver: cp_model.CpSolver, pod: _Pod, spare: list[list[int]]) -> Place:
        """Where a pod goes; whole pods take the devices of theirs in turn."""
        for (node, device), variable in pod.shares.items():
            if solver.value(variable):
                return Place(node, (device,))
        node = next(node for node, variable in pod.wholes.items() if solver.value(variable))
        devices = tuple(spare[node].pop(0) for _ in range(pod.demand.gpu_count))
        return Place(node, devices)
