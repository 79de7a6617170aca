"""The fillings of nodes that are worth most at given prices, for nodes whose fillings are too many to list.

A filling is a knapsack with a few resources. Its linear relaxation prices the resources; at those prices each pod has
a profit, and a filling loses against the relaxation what it leaves out of those with profit, takes of those without,
and the room that stays empty. Fillings are built class by class, those with the largest profit or loss first, for all
nodes at once with arrays, and given up once they have lost more than the best known filling (the core of a knapsack:
Balas and Zemel, Operations Research 28, 1980). Where too many are left, those that lost least go on, and the bound says
what the others might still be worth.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from ortools.linear_solver import pywraplp

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_SAFE = 1e-9  # share of a worth that rounding can not reach
_FORBIDDEN = 1e300


class Valued(Struct, frozen=True):
    """`most[n]`: no filling of node `n` is worth more. Row `i` of `rows` (pods by class) is a filling of `nodes[i]`.

    `complete[n]`: every filling that is worth at least what was asked for is among the rows, but for those that
    another one holds.
    """

    most: Ints
    nodes: Ints
    rows: npt.NDArray[np.int16]
    worth: Ints
    complete: npt.NDArray[np.bool_]
    looked_at: int


class Knapsacks:
    """Nodes with room, and the pods that may stand on them; `home` are those that are worth more there."""

    def __init__(self, requests: Ints, rooms: Ints, most: Ints, home: Ints) -> None:
        """Shapes: `requests[c, r]`, `rooms[n, r]`, `most[n, c]`, `home[n, c]`."""
        scarce = _scarce(requests, rooms)
        self.requests = requests[:, scarce].astype(np.float64)
        self.rooms = rooms[:, scarce].astype(np.float64)
        self.most = most
        self.home = np.minimum(home, most)
        self.scale = 1.0 / np.maximum(1.0, self.rooms.max(axis=0, initial=1.0))
        self._state()

    def _state(self) -> None:
        """The relaxation: all nodes in one programme, for it is solved again and again from its last answer."""
        self.solver = pywraplp.Solver.CreateSolver("GLOP")
        self.objective = self.solver.Objective()
        self.objective.SetMaximization()
        self.limits = []
        self.parts: list[tuple[pywraplp.Variable, int, bool]] = []
        self.seen: list[float] = []
        shares, rooms = self.requests * self.scale, self.rooms * self.scale
        for node in range(len(rooms)):
            limits = [self.solver.Constraint(-self.solver.infinity(), float(room)) for room in rooms[node]]
            self.limits.append(limits)
            for index in np.flatnonzero(self.most[node]).tolist():
                at_home = int(self.home[node, index])
                for count, is_home in ((at_home, True), (int(self.most[node, index]) - at_home, False)):
                    if count:
                        variable = self.solver.NumVar(0, count, "")
                        for limit, share in zip(limits, shares[index].tolist(), strict=True):
                            if share:
                                limit.SetCoefficient(variable, share)
                        self.parts.append((variable, index, is_home))
                        self.seen.append(0.0)

    def has_room(self, node: int, rows: Ints) -> npt.NDArray[np.bool_]:
        """Whether a pod could be added to a filling of a node."""
        room = self.rooms[node] - rows @ self.requests
        found = np.zeros(len(rows), dtype=np.bool_)
        for index, requests in enumerate(self.requests):
            found |= (rows[:, index] < self.most[node, index]) & (room >= requests).all(axis=1)
        return found

    def _resource_prices(self, prices: Floats, bonus: Floats) -> Floats:
        at_home = (prices + bonus).tolist()
        elsewhere = prices.tolist()
        for number, (variable, index, is_home) in enumerate(self.parts):
            worth = at_home[index] if is_home else elsewhere[index]
            if worth != self.seen[number]:
                self.objective.SetCoefficient(variable, worth)
                self.seen[number] = worth
        self.solver.Solve()
        duals = np.array([[limit.dual_value() for limit in limits] for limits in self.limits], dtype=np.float64)
        found: Floats = np.maximum(0.0, duals.reshape(self.rooms.shape)) * self.scale
        return np.asarray(found)

    def value(self, prices: Ints, bonus: Ints, wanted: Ints, most_kept: int) -> Valued:
        """The fillings that are worth at least `wanted[n]`, as far as `most_kept` per node let them be found.

        Args:
            prices: what a pod of each class is worth.
            bonus: what one is worth beyond that where it is at home.
            wanted: by node.
            most_kept: fillings in the making, per node.
        """
        value, extra = prices.astype(np.float64), bonus.astype(np.float64)
        toll = self._resource_prices(value, extra)  # by node and resource
        tolls = toll @ self.requests.T
        profit, at_home = value[None, :] - tolls, value[None, :] + extra[None, :] - tolls
        elsewhere = self.most - self.home
        ceiling = (
            (toll * self.rooms).sum(axis=1)
            + (np.maximum(0.0, at_home) * self.home).sum(axis=1)
            + (np.maximum(0.0, profit) * elsewhere).sum(axis=1)
        )
        gap = ceiling - wanted
        gap += _SAFE * (np.abs(ceiling) + 1.0)
        return _Making(self, profit, at_home, toll, ceiling, gap, most_kept).run(prices, bonus)


def _scarce(requests: Ints, rooms: Ints) -> list[int]:
    """Resources that can run short before another one does, on some node."""
    found = list(range(rooms.shape[1]))
    for resource in range(rooms.shape[1]):
        others = [other for other in found if other != resource]
        if any(_most_of(resource, other, requests, rooms) <= rooms[:, resource].min(initial=0) for other in others):
            found.remove(resource)
    return found


def _most_of(resource: int, other: int, requests: Ints, rooms: Ints) -> float:
    """Most of a resource that pods can take before another one runs out, were there any number of each class."""
    asks, limits = requests[:, resource].astype(np.float64), requests[:, other].astype(np.float64)
    if (asks[limits == 0] > 0).any():
        return float(np.inf)
    ratio = np.divide(asks, limits, out=np.zeros_like(asks), where=limits > 0)
    return float(ratio.max(initial=0.0)) * float(rooms[:, other].max(initial=0))


class _Making:
    """Fillings in the making, of all nodes."""

    def __init__(
        self,
        sacks: Knapsacks,
        profit: Floats,
        at_home: Floats,
        toll: Floats,
        ceiling: Floats,
        gap: Floats,
        most_kept: int,
    ) -> None:
        self.sacks = sacks
        self.toll = toll
        self.ceiling = ceiling
        self.gap = gap
        self.most_kept = most_kept
        self.dropped = np.full(len(gap), np.inf)  # least lost by one that was given up for want of room
        top = int(sacks.most.max(initial=0))
        counts = np.arange(top + 1)
        home, most = sacks.home, sacks.most
        stays = np.minimum(counts[None, None, :], home[:, :, None])
        comes = counts[None, None, :] - stays
        gains = at_home[:, :, None] * stays + profit[:, :, None] * comes
        best = np.maximum(0.0, at_home) * home + np.maximum(0.0, profit) * (most - home)
        self.loss = np.maximum(0.0, best[:, :, None] - gains)
        self.loss[counts[None, None, :] > most[:, :, None]] = _FORBIDDEN
        two = np.partition(self.loss, 1, axis=2) if top else self.loss
        # at a loss of more than the gap nothing is decided any more
        self.second = two[:, :, 1] if top else np.zeros_like(best)
        self.first = self.loss.argmin(axis=2)

    def run(self, prices: Ints, bonus: Ints) -> Valued:
        sacks = self.sacks
        nodes = len(sacks.rooms)
        open_ = (self.second <= self.gap[:, None]) & (sacks.most > 0)
        fixed = np.where(open_, 0, self.first)
        rooms = sacks.rooms - fixed @ sacks.requests
        steps = open_.sum(axis=1)
        order = np.argsort(np.where(open_, -self.second, np.inf), axis=1, kind="stable")
        weights = sacks.requests[order]  # node, step, resource
        tops = np.take_along_axis(sacks.most, order, axis=1)
        depth = int(steps.max(initial=0))
        reach = np.arange(order.shape[1])[None, :] < steps[:, None]
        tops = np.where(reach, tops, 0)
        masses = weights * tops[:, :, None]
        rest = masses[:, ::-1].cumsum(axis=1)[:, ::-1]  # what is still to come could take

        node = np.flatnonzero((self.gap >= 0) & (rooms >= 0).all(axis=1))
        # arrays by resource: sums and minima over a short last axis are slow
        spread = range(rooms.shape[1])
        room = [rooms[node, r] for r in spread]
        weight_of = [np.ascontiguousarray(weights[:, :, r]) for r in spread]
        rest_of = [np.pad(rest[:, 1:, r], ((0, 0), (0, 1))) for r in spread]
        toll_of = [np.ascontiguousarray(self.toll[:, r]) for r in spread]
        lost = np.zeros(len(node))
        taken = np.zeros((len(node), depth), dtype=np.int16)
        looked_at = 0
        for step in range(depth):
            classes, top = order[node, step], tops[node, step]
            losses, gap = self.loss[node, classes], self.gap[node]
            need = [weight[node, step] for weight in weight_of]
            after = [ahead[node, step] for ahead in rest_of]
            tolls = [toll[node] for toll in toll_of]
            parts = []
            for count in range(int(top.max(initial=0)) + 1):
                now = lost + losses[:, count] if count else lost + np.where(top > 0, losses[:, 0], 0.0)
                fits = count <= top
                ahead = now.copy()
                lefts = []
                for has, asks, later, toll in zip(room, need, after, tolls, strict=True):
                    left = has - count * asks if count else has
                    fits &= left >= 0
                    ahead += np.maximum(0.0, left - later) * toll
                    lefts.append(left)
                keep = np.flatnonzero(fits & (ahead <= gap))
                parts.append((keep, now[keep], ahead[keep], [left[keep] for left in lefts]))
            who = np.concatenate([part[0] for part in parts])
            lost = np.concatenate([part[1] for part in parts])
            room = [np.concatenate([part[3][r] for part in parts]) for r in spread]
            looked_at += len(node) + len(who)
            counts = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
            node = node[who]
            if len(node) > self.most_kept:
                kept = self._kept(node, np.concatenate([part[2] for part in parts]))
                node, lost, who, counts = node[kept], lost[kept], who[kept], counts[kept]
                room = [has[kept] for has in room]
            taken = taken[who]
            taken[:, step] = counts
        rows = fixed[node].astype(np.int16)
        decided = order[node, :depth]
        np.put_along_axis(rows, decided, taken + np.take_along_axis(rows, decided, axis=1), axis=1)
        stays = np.minimum(rows, sacks.home[node])
        worth = rows.astype(np.int64) @ prices + stays.astype(np.int64) @ bonus
        most = np.full(nodes, -np.inf)
        np.maximum.at(most, node, worth.astype(np.float64))
        spare = _SAFE * (np.abs(self.ceiling) + 1.0) + 1.0
        # what was not built is worth less than asked for
        most = np.maximum(most, np.maximum(self.ceiling - self.gap, self.ceiling - self.dropped) + spare)
        return Valued(np.ceil(most).astype(np.int64), node, rows, worth, ~np.isfinite(self.dropped), looked_at)

    def _kept(self, node: Ints, ahead: Floats) -> Ints:
        """The `most_kept` of each node that lost least."""
        # each has lost less than the gap, so this sorts by node first
        order = np.argsort(node + ahead / (2.0 * self.gap[node] + _SAFE), kind="stable")
        ordered = node[order]
        starts = np.searchsorted(ordered, np.arange(len(self.gap)))[ordered]
        within = np.arange(len(ordered)) - starts < self.most_kept
        given_up = order[~within]
        np.minimum.at(self.dropped, node[given_up], ahead[given_up])
        return order[within]
