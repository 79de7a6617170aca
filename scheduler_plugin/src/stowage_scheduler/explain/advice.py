"""The cheapest things that would help a pod, each tried out before it is told.

Candidates come from the table: rules given up, pods that would go if something allowed it, nodes like those that are
there. They are tried in the order of their cost, on the end of the plan, with the checks that plans are held to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from stowage_scheduler.cluster import Node, Pod
from stowage_scheduler.explain.clauses import MOVE_LIMIT, NO_ROOM_ELSEWHERE, PRIORITY, ClauseKind
from stowage_scheduler.explain.clearing import Clearing
from stowage_scheduler.explain.help import Help, HelpKind
from stowage_scheduler.explain.lacks import CLOSED
from stowage_scheduler.explain.node_types import NodeType, node_types
from stowage_scheduler.explain.permits import Permit, permit_words, permits
from stowage_scheduler.explain.relax import IMPOSSIBLE, Relaxed, relax, relax_cost
from stowage_scheduler.explain.table import Table
from stowage_scheduler.explain.trial import Trial
from stowage_scheduler.rules import RULES

_MORE_NODES = 10.0
_DEAR = 15.0  # more than this is told only when nothing else helps
_PER_POD = 0.5  # that is disturbed
_MOST_NODES = 6  # that are tried for one candidate
_MOST_SETS = 6  # of rules that are given up together
_MOST_TYPES = 6
_MOST_TRIALS = 24
_MOST_TARGETS = 8  # tried for a pod that moves


class _Candidate(Struct, frozen=True):
    """Help that is not tried out yet."""

    cost: float
    order: int
    attempt: Callable[[], Help | None]


def advice(table: Table, most: int = 3) -> tuple[Help, ...]:
    """Help for the pod of a table, the cheapest first; each kind once.

    Args:
        table: what the pod lacks.
        most: how many are asked for.
    """
    return Advisor(table).cheapest(most)


class Advisor:
    """Finds help for the pod of one table."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.pod = table.pod
        self.situation = table.situation
        self.nodes = table.situation.nodes
        self.clearing = Clearing(table)

    def cheapest(self, most: int) -> tuple[Help, ...]:
        """As `advice` says."""
        found: list[Help] = []
        candidates = sorted(self._candidates(), key=lambda one: (one.cost, one.order))
        for candidate in candidates[:_MOST_TRIALS]:
            if len(found) >= most or (found and candidate.cost > _DEAR):
                break
            one = candidate.attempt()
            if one is not None and one.text not in {other.text for other in found}:
                found.append(one)
        return tuple(sorted(found, key=lambda one: one.cost))

    def soon(self) -> Help | None:
        """A way to place the pod with what is allowed now: as things stand, by evictions, or by moves."""
        for moves in (False, True):
            found = self._permitted(Permit(frozenset(), moves, HelpKind.MORE_TIME, 0.0), at_once=not moves)
            if found is not None:
                return found
        return None

    def nearest(self) -> Sequence[int]:
        """Nodes by number, those that lack least first; none of those that rules close for good."""
        usable = np.flatnonzero(~(self.table.lacking >= CLOSED).any(axis=0))
        return [int(number) for number in usable[np.argsort(self._shares(usable), kind="stable")]]

    def _candidates(self) -> Iterator[_Candidate]:
        made = [*self._relaxations(), *self._permissions(), (_MORE_NODES, self._more_nodes)]
        for order, (cost, attempt) in enumerate(made):
            yield _Candidate(cost, order, attempt)

    # rules of the pod

    def _relaxations(self) -> Iterator[tuple[float, Callable[[], Help | None]]]:
        """Sets of rules that are all that is in the way somewhere; of each set the nodes where it costs least."""
        lacking = self.table.lacking
        unmet = lacking > 0
        costs = np.zeros(len(self.nodes))
        for row, clause in enumerate(self.table.rows):
            for node in np.flatnonzero(unmet[row]):
                costs[node] += relax_cost(clause, self.pod, int(lacking[row, node]), self.nodes[node])
        best: dict[bytes, list[int]] = {}
        for node in np.argsort(costs, kind="stable"):
            if not np.isfinite(costs[node]):
                break
            best.setdefault(unmet[:, node].tobytes(), []).append(int(node))
        for nodes in list(best.values())[:_MOST_SETS]:
            yield float(costs[nodes[0]]), self._relaxing(nodes)

    def _relaxing(self, nodes: list[int]) -> Callable[[], Help | None]:
        return lambda: next((one for node in nodes[:_MOST_NODES] if (one := self._relaxed(node)) is not None), None)

    def _relaxed(self, number: int) -> Help | None:
        node = self.nodes[number]
        relaxed, cost = Relaxed(self.pod, node), 0.0
        for row, clause in enumerate(self.table.rows):
            lacking = int(self.table.lacking[row, number])
            if lacking > 0:
                relaxed, cost = relax(relaxed, clause, lacking), cost + relax_cost(clause, self.pod, lacking, node)
        trial = self.situation.trial()
        if relaxed.node != node:
            trial.change_node(relaxed.node)
        if cost == IMPOSSIBLE or not relaxed.words or not trial.takes(relaxed.pod, node.name):
            return None
        kinds = {c.kind for row, c in enumerate(self.table.rows) if self.table.lacking[row, number] > 0}
        mended = () if relaxed.node == node else (relaxed.node,)
        if relaxed.pod == self.pod:
            kind, text = HelpKind.MEND_NODE, " and ".join(relaxed.words)
        else:
            kind = HelpKind.SMALLER_REQUEST if kinds == {ClauseKind.RESOURCE} else HelpKind.RELAX_RULE
            text = f"{' and '.join(relaxed.words)}: it fits on node {node.name}"
        return Help(kind, text, cost, relaxed.pod, node.name, nodes=mended)

    # those in the way

    def _permissions(self) -> Iterator[tuple[float, Callable[[], Help | None]]]:
        """Rules that keep pods in the way; without them some would go."""
        for permit in permits(self.table):
            yield permit.cost + _PER_POD, self._permitting(permit)

    def _permitting(self, permit: Permit) -> Callable[[], Help | None]:
        return lambda: self._permitted(permit)

    def _permitted(self, permit: Permit, *, at_once: bool = False) -> Help | None:
        """The node where fewest pods would have to go; `at_once`: nobody has to, perhaps."""
        enforced = self.table.clauses - permit.without
        if permit.moves:
            enforced -= {NO_ROOM_ELSEWHERE}
        limit = self.situation.outcome.options.max_moves
        allowed = math.inf if limit is None or MOVE_LIMIT in permit.without else limit
        choices = []
        open_nodes = np.flatnonzero(self.table.open(enforced))
        share = self._shares(open_nodes)
        for number in open_nodes[np.argsort(share, kind="stable")][:_MOST_NODES]:
            gone = self.clearing.clear(int(number), enforced)
            if gone is None or len(gone) > allowed:
                continue
            if (gone or at_once) and self.clearing.needs(permit.without, gone, enforced):
                choices.append((len(gone), max((pod.priority for _, pod in gone), default=0), int(number), gone))
        for _, _, number, gone in sorted(choices, key=lambda one: one[:3]):
            found = self._tried(permit, number, gone)
            if found is not None:
                return found
        return None

    def _shares(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """What nodes lack, all rules together, in shares of what the pod asks for."""
        total = np.zeros(len(numbers))
        for row, clause in enumerate(self.table.rows):
            asked = max(1, self.pod.requests.get(clause.subject, 1)) if clause.kind is ClauseKind.RESOURCE else 1
            total += np.maximum(self.table.lacking[row, numbers], 0) / asked
        return total

    def _tried(self, permit: Permit, number: int, gone: list[tuple[int, Pod]]) -> Help | None:
        node = self.nodes[number]
        pod = self.pod
        if PRIORITY in permit.without:
            pod = replace(pod, priority=1 + max(other.priority for _, other in gone))
        if permit.moves and not all(self.situation.rooms(other, home).size for home, other in gone):
            return None
        trial = self.situation.trial()
        trial.remove((self.nodes[home].name, other) for home, other in gone)
        moved: dict[str, str] = {}
        for home, other in gone if permit.moves else ():
            target = self._target(trial, other, home)
            if target is None:
                return None
            trial.put(other, target.name)
            moved[other.uid] = target.name
        if not trial.takes(pod, node.name):
            return None
        if moved:
            trial.put(pod, node.name)
            if not all(trial.keeps(other, moved[other.uid]) for _, other in gone) or not trial.deserts_nobody():
                return None
        left = () if moved else tuple(other.uid for _, other in gone)
        others = [other for _, other in gone]
        text = permit_words(permit, node.name, others, [*moved.values()]) if gone else f"it fits on node {node.name}"
        cost = permit.cost + _PER_POD * len(gone)
        return Help(permit.kind, text, cost, pod, node.name, gone=left, moved=moved)

    def _target(self, trial: Trial, pod: Pod, home: int) -> Node | None:
        """Another node for a pod that moves: where least is left over."""
        nodes = (self.nodes[int(number)] for number in self.situation.rooms(pod, home)[:_MOST_TARGETS])
        return next((node for node in nodes if trial.takes(pod, node.name)), None)

    # new nodes

    def _more_nodes(self) -> Help | None:
        """One more node of the smallest type that takes the pod, with the labels of its node selector if need be."""
        types = list(node_types(self.nodes, self.situation.outcome.residents))
        for labels in ({}, self.pod.node_selector):
            fitting = (kind for kind in types if self._would_do(kind, labels))
            for kind in islice(fitting, _MOST_TYPES):
                new = replace(kind.new, labels={**kind.new.labels, **labels})
                trial = self.situation.trial()
                trial.add_node(new, (replace(pod, uid=f"{pod.uid}-on-{new.name}") for pod in kind.daemons))
                if trial.takes(self.pod, new.name):
                    marked = (
                        f", with label {', '.join(f'{k}={v}' for k, v in sorted(labels.items()))}" if labels else ""
                    )
                    text = f"one more node {kind.words(self.pod)}{marked}"
                    return Help(HelpKind.MORE_NODES, text, _MORE_NODES, self.pod, new.name, nodes=(new,))
        return None

    def _would_do(self, kind: NodeType, labels: Mapping[str, str]) -> bool:
        new = replace(kind.new, labels={**kind.new.labels, **labels})
        return not any(rule.refuses(self.pod, new) for rule in RULES)
