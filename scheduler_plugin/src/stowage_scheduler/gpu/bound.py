"""How much GPU any placement of some pods could hold: a proven upper bound.

Nodes of one kind count as one: their CPU and memory are pooled, while each device is filled on its own, by a pattern
of shares or by a whole pod (column generation after Gilmore and Gomory, Operations Research 9, 1961). A linear
programme finds prices; the bound is then the Lagrangian one that these prices give, computed in integers. Any prices of
no less than zero give a valid bound, so nothing depends on how exactly the programme was solved.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from ortools.linear_solver import pywraplp

from stowage_scheduler.gpu.devices import DEVICE_MILLI, Demand

_SCALE = 1_000_000  # prices are ints, in millionths of a milli-GPU
_ROUNDS = 60
_MISSING = 1000.0  # price of what has to be placed and is not; only until there are patterns enough

Pattern = tuple[tuple[int, int], ...]
"""How often each size stands on a device: (milli, times)."""


class NodeKind(Struct, frozen=True):
    """Nodes that are alike: CPU in milli-CPU and memory in MiB of one, devices of one, and how many there are."""

    cpu_milli: int
    memory_mib: int
    devices: int
    model: str
    nodes: int

    def admits(self, demand: Demand) -> bool:
        """Whether the pod alone fits on an empty node."""
        return (
            demand.cpu_milli <= self.cpu_milli
            and demand.memory_mib <= self.memory_mib
            and demand.gpu_count <= self.devices
            and (not demand.gpu_count or not demand.models or self.model in demand.models)
        )


class Asked(Struct, frozen=True):
    """Pods that ask for the same: at most so many arrive, and at least so many of them have to be placed."""

    demand: Demand
    most: int
    least: int = 0


class Prices(Struct, frozen=True):
    """Multipliers, no less than zero: of CPU and memory by kind of node, of one pod more or less by row asked."""

    cpu: tuple[int, ...]
    memory: tuple[int, ...]
    most: tuple[int, ...]
    least: tuple[int, ...]


def held_bound(kinds: Sequence[NodeKind], asked: Sequence[Asked]) -> int:
    """An upper bound of the milli-GPU that any placement holds which places at least `least` of each row.

    It is also a bound when no such placement exists.
    """
    asked = [row for row in asked if row.most]
    lowest = sum(kind.nodes * kind.devices for kind in kinds) * DEVICE_MILLI
    lowest = min(lowest, sum(row.most * row.demand.total_milli for row in asked))
    if not lowest:
        return 0
    master = _Master(kinds, asked)
    for _ in range(_ROUNDS):
        prices = master.solve()
        if prices is None:
            break
        lowest = min(lowest, lagrangian(kinds, asked, prices))
        if not master.extend():
            break
    return lowest


def lagrangian(kinds: Sequence[NodeKind], asked: Sequence[Asked], prices: Prices) -> int:
    """The bound that some prices give, in milli-GPU."""
    total = sum(row.most * price for row, price in zip(asked, prices.most, strict=True))
    total -= sum(row.least * price for row, price in zip(asked, prices.least, strict=True))
    loose = [0] * len(asked)  # what a pod without GPUs is worth where it is worth most
    for number, kind in enumerate(kinds):
        total += kind.nodes * (kind.cpu_milli * prices.cpu[number] + kind.memory_mib * prices.memory[number])
        worth: dict[int, int] = {}
        for index, row in enumerate(asked):
            demand = row.demand
            if not kind.admits(demand):
                continue
            value = _SCALE * demand.total_milli - prices.most[index] + prices.least[index]
            value -= demand.cpu_milli * prices.cpu[number] + demand.memory_mib * prices.memory[number]
            if demand.gpu_count:
                each = -(-value // demand.gpu_count)
                worth[demand.gpu_milli] = max(each, worth.get(demand.gpu_milli, 0))
            else:
                loose[index] = max(value, loose[index])
        total += kind.nodes * kind.devices * _fullest(worth)[0]
    total += sum(row.most * value for row, value in zip(asked, loose, strict=True))
    return total // _SCALE


def _fullest(worth: dict[int, int]) -> tuple[int, Pattern]:
    """The most valuable filling of one device (unbounded knapsack), and the filling."""
    best = [0] * (DEVICE_MILLI + 1)
    last = [0] * (DEVICE_MILLI + 1)
    sizes = sorted((milli, value) for milli, value in worth.items() if value > 0)
    for room in range(1, DEVICE_MILLI + 1):
        best[room] = best[room - 1]
        for milli, value in sizes:
            if milli > room:
                break
            if best[room - milli] + value > best[room]:
                best[room], last[room] = best[room - milli] + value, milli
    times: dict[int, int] = {}
    room = DEVICE_MILLI
    while room:
        if last[room]:
            times[last[room]] = times.get(last[room], 0) + 1
        room -= last[room] or 1
    return best[DEVICE_MILLI], tuple(sorted(times.items()))


class _Master:
    """The linear programme: pods by row and kind of node, devices by pattern and kind."""

    def __init__(self, kinds: Sequence[NodeKind], asked: Sequence[Asked]) -> None:
        self.solver = pywraplp.Solver.CreateSolver("GLOP")
        infinity = self.solver.infinity()
        row = self.solver.Constraint
        self.cpu = [row(-infinity, kind.nodes * kind.cpu_milli) for kind in kinds]
        self.memory = [row(-infinity, kind.nodes * kind.memory_mib) for kind in kinds]
        self.devices = [row(-infinity, kind.nodes * kind.devices) for kind in kinds]
        self.pods = [row(one.least, one.most) for one in asked]
        sizes = sorted({one.demand.gpu_milli for one in asked if one.demand.gpu_count})
        self.covered = [{milli: row(0, infinity) for milli in sizes} for _ in kinds]  # patterns minus pods
        self.objective = self.solver.Objective()
        self.objective.SetMaximization()
        for number, kind in enumerate(kinds):
            for index, one in enumerate(asked):
                if kind.admits(one.demand):
                    self._pods_on(number, index, one.demand)
            for milli in sizes:
                self._add(number, ((milli, DEVICE_MILLI // milli),))
        for constraint, one in zip(self.pods, asked, strict=True):
            missing = self.solver.NumVar(0, one.least, "")
            constraint.SetCoefficient(missing, 1)
            self.objective.SetCoefficient(missing, -_MISSING * (one.demand.total_milli + DEVICE_MILLI))

    def _pods_on(self, number: int, index: int, demand: Demand) -> None:
        variable = self.solver.NumVar(0, self.solver.infinity(), "")
        self.objective.SetCoefficient(variable, demand.total_milli)
        self.pods[index].SetCoefficient(variable, 1)
        self.cpu[number].SetCoefficient(variable, demand.cpu_milli)
        self.memory[number].SetCoefficient(variable, demand.memory_mib)
        if demand.gpu_count:
            self.covered[number][demand.gpu_milli].SetCoefficient(variable, -demand.gpu_count)

    def _add(self, number: int, pattern: Pattern) -> None:
        variable = self.solver.NumVar(0, self.solver.infinity(), "")
        self.devices[number].SetCoefficient(variable, 1)
        for milli, times in pattern:
            self.covered[number][milli].SetCoefficient(variable, times)

    def solve(self) -> Prices | None:
        """Prices of the programme as it is; None where it has no answer."""
        if self.solver.Solve() != pywraplp.Solver.OPTIMAL:
            return None
        pods = [round(row.dual_value() * _SCALE) for row in self.pods]
        return Prices(
            cpu=tuple(max(0, round(row.dual_value() * _SCALE)) for row in self.cpu),
            memory=tuple(max(0, round(row.dual_value() * _SCALE)) for row in self.memory),
            most=tuple(max(0, price) for price in pods),
            least=tuple(max(0, -price) for price in pods),
        )

    def extend(self) -> bool:
        """Adds the patterns that would pay; False when there are none."""
        found = []
        for number, rows in enumerate(self.covered):
            worth = {milli: round(-row.dual_value() * _SCALE) for milli, row in rows.items()}
            value, pattern = _fullest(worth)
            if value > round(self.devices[number].dual_value() * _SCALE) + len(worth):
                found.append((number, pattern))
        for number, pattern in found:
            self._add(number, pattern)
        return bool(found)
