"""GPU devices in CP-SAT: which device each newcomer with a share gets, on nodes where pods share them.

The same as `devices.fit` says, in rows: shares that stay on known devices take room there, others count as a device of
their own or on every device that is handed out. Rows bind a node only while somebody with a need of devices comes.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from ortools.sat.python import cp_model

from stowage_scheduler.devices.fit import Amounts, Standing
from stowage_scheduler.devices.limits import DeviceLimits, known_device

if TYPE_CHECKING:
    from stowage_scheduler.solve.model import CountModel


def keep_to_devices(model: CountModel) -> None:
    """Add the rows of every node of the model on which somebody might come for devices."""
    for limits in model.problem.device_limits:
        for node in model.nodes:
            fixed = limits.nodes.get(node)
            classes = [index for index, _ in model.on_node(node) if _needs_devices(limits, node, index)]
            standing = [index for index, running in limits.running.items() if running.get(node)]
            if fixed is None or not any(limits.needs[index].strict for index in classes):
                continue
            if _is_shared(fixed, limits, [*classes, *standing]):
                _Rows(model, limits, node, fixed).add(classes, standing)


def _needs_devices(limits: DeviceLimits, node: int, index: int) -> bool:
    return index in limits.needs and (bool(limits.needs[index].share) or node not in limits.sliced)


def _is_shared(fixed: Standing, limits: DeviceLimits, classes: list[int]) -> bool:
    """Whether a share can be on a node at all; else the number of devices says all."""
    if fixed.unknown or any(any(load) for load in fixed.known):
        return True
    return any(limits.needs[index].share for index in classes)


class _Sum:
    """A linear expression that grows."""

    def __init__(self, constant: int = 0) -> None:
        self.constant = constant
        self.factors: list[int] = []
        self.variables: list[cp_model.IntVar] = []

    def add(self, factor: int, variable: cp_model.IntVar | None) -> None:
        if factor and variable is not None:
            self.factors.append(factor)
            self.variables.append(variable)

    def times(self, factor: int) -> _Sum:
        product = _Sum(self.constant * factor)
        product.factors, product.variables = [one * factor for one in self.factors], list(self.variables)
        return product

    def plus(self, other: _Sum) -> _Sum:
        both = _Sum(self.constant + other.constant)
        both.factors, both.variables = self.factors + other.factors, self.variables + other.variables
        return both

    def at_most(self, most: int) -> cp_model.BoundedLinearExpression:
        return cp_model.LinearExpr.weighted_sum(self.variables, self.factors) <= most - self.constant  # type: ignore[return-value]

    def is_(self, amount: int) -> cp_model.BoundedLinearExpression:
        return cp_model.LinearExpr.weighted_sum(self.variables, self.factors) == amount - self.constant  # type: ignore[return-value]


class _Rows:
    """The rows of one node."""

    def __init__(self, model: CountModel, limits: DeviceLimits, node: int, fixed: Standing) -> None:
        self.model, self.cp, self.limits, self.node, self.fixed = model, model.cp, limits, node, fixed
        self.measures = range(len(fixed.capacity))
        self.taken = _Sum(fixed.whole)  # devices that no newcomer with a share gets, and those that one does
        self.everywhere = [_Sum() for _ in self.measures]  # of shares that count on every device
        self.loose = False  # whether there may be any of those
        self.on_device: dict[int, list[int]] = defaultdict(list)  # classes of shares that stand there
        self.parts: dict[Amounts, _Sum] = {}  # by size of shares, newcomers less those that have a device

    def add(self, classes: list[int], standing: list[int]) -> None:
        for share in self.fixed.unknown:
            self._loose(share, None, 1)
        for index in standing:
            self._stays(index)
            self._stays_first(index)
        active = self.cp.new_bool_var("")  # somebody comes for devices
        for index in classes:
            coming, need = self._coming(index), self.limits.needs[index]
            if need.strict:
                self.cp.add(coming.is_(0)).only_enforce_if(~active)
            if need.share:
                self.parts[need.share] = self.parts.get(need.share, _Sum()).plus(coming.times(need.times))
            else:
                self._comes_whole(index, coming)
        previous: cp_model.IntVar | None = None
        for device in range(self.fixed.devices):
            previous = self._device(device, previous)
        for part in self.parts.values():
            self.cp.add(part.is_(0)).only_enforce_if(active)
        self.cp.add(self.taken.at_most(self.fixed.devices)).only_enforce_if(active)

    def _stay(self, index: int) -> cp_model.IntVar | None:
        return self.model.stay.get((index, self.node))

    def _coming(self, index: int) -> _Sum:
        found = _Sum()
        found.add(1, self.model.count[index, self.node])
        found.add(-1, self._stay(index))
        return found

    def _stays(self, index: int) -> None:
        """Count the pods of a class that run here."""
        need = self.limits.needs[index]
        if need.whole and self.node not in self.limits.sliced:
            self.taken.add(need.whole, self._stay(index))
        if not need.share:
            return
        device = known_device(need, self.fixed.devices)
        if device is None:
            self._loose(need.share, self._stay(index), self.limits.running[index][self.node], need.times)
        else:
            self.on_device[device].append(index)

    def _stays_first(self, index: int) -> None:
        """Nobody comes while another of the class leaves: who stands here is not packed anew."""
        stay, runs = self._stay(index), self.limits.running[index][self.node]
        if stay is None or (index, self.node) not in self.model.count:
            return
        full = self.cp.new_bool_var("")
        self.cp.add(stay == runs).only_enforce_if(full)
        self.cp.add(self._coming(index).is_(0)).only_enforce_if(~full)

    def _loose(self, share: Amounts, stay: cp_model.IntVar | None, most: int, times: int = 1) -> None:
        """Count shares that may stand on any device, `times` for each pod; without `stay` they are fixed."""
        self.loose = True
        alone = self.cp.new_int_var(0, most * times, "")
        if stay is not None:
            self.cp.add(alone <= times * stay)
        self.taken.add(1, alone)
        for measure in self.measures:
            self.everywhere[measure].add(-share[measure], alone)
            self.everywhere[measure].add(share[measure] * times, stay)
            self.everywhere[measure].constant += share[measure] * most if stay is None else 0

    def _comes_whole(self, index: int, coming: _Sum) -> None:
        whole = self.limits.needs[index].whole
        for factor, variable in zip(coming.factors, coming.variables, strict=True):
            self.taken.add(whole * factor, variable)
        if self.loose:  # a device that might have a share is not empty
            came = self.cp.new_bool_var("")
            self.cp.add(coming.is_(0)).only_enforce_if(~came)
            for measure in self.measures:
                self.cp.add(self.everywhere[measure].is_(0)).only_enforce_if(came)

    def _device(self, device: int, previous: cp_model.IntVar | None) -> cp_model.IntVar | None:
        """Who comes to one device; empty ones are all alike, so they open one after the other."""
        known, standing = self.fixed.known[device], self.on_device[device]
        used, opened = self.cp.new_bool_var(""), self.cp.new_bool_var("")  # by anybody, for newcomers
        self.taken.add(1, used)
        self.cp.add_implication(opened, used)
        for index in standing:
            if (stay := self._stay(index)) is not None:
                self.cp.add(stay == 0).only_enforce_if(~used)
        loads = [_Sum(amount) for amount in known]
        for share, coming in self.parts.items():
            most = self._most(share, known)
            if not most:
                continue
            part = self.cp.new_int_var(0, most, "")
            self.cp.add(part == 0).only_enforce_if(~opened)
            coming.add(-1, part)
            for measure, load in enumerate(loads):
                load.add(share[measure], part)
        for measure, load in enumerate(loads):
            for index in standing:
                need = self.limits.needs[index]
                load.add(need.share[measure] * need.times, self._stay(index))
            total = load.plus(self.everywhere[measure])
            self.cp.add(total.at_most(self.fixed.capacity[measure])).only_enforce_if(opened)
        if any(known):
            self.cp.add(used == 1)
        elif not standing:
            if previous is not None:
                self.cp.add_implication(opened, previous)
            return opened
        return previous

    def _most(self, share: Amounts, known: Amounts) -> int:
        """Most shares of a size on a device that has fixed shares alone."""
        room = zip(self.fixed.capacity, known, share, strict=True)
        return min(max(0, have - taken) // amount for have, taken, amount in room if amount)
