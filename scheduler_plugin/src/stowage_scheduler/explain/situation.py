"""Who stands where once a plan is carried out, and which rules keep them there."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from stowage_scheduler.cluster import CPU, MEMORY, Node, Pod
from stowage_scheduler.explain.clauses import MOVE_LIMIT, NOMINATED, TERMINATING, Clause, ClauseKind
from stowage_scheduler.explain.trial import Trial
from stowage_scheduler.gangs import gang_key
from stowage_scheduler.immovable import Immovable
from stowage_scheduler.movability import Movability
from stowage_scheduler.rules import RULES, Outcome

Amounts = npt.NDArray[np.int64]

_MOST_LOOKED_AT = 32  # nodes that may have room for a pod
_MOST = 1 << 53  # an amount beyond the largest quantity is as good as that


class Guard(Struct, frozen=True, gc=False):
    """What keeps a pod on its node, whoever comes.

    `always`: it goes nowhere while one of these holds. `evicted`: while one of these holds it does not lose its place
    without another. `holds_room`: it is not there, or not for long, so nobody can move or evict it.
    `has_room`: some other node has room for it, so that nothing but `always` keeps it from moving.
    """

    always: frozenset[Clause] = frozenset()
    evicted: frozenset[Clause] = frozenset()
    holds_room: bool = False
    has_room: bool = False


_FREE = Guard()
_LEAVES = Guard(always=frozenset({TERMINATING}), holds_room=True)
_NOMINATED = Guard(always=frozenset({NOMINATED}), holds_room=True)


class Keep(Struct, frozen=True, gc=False):
    """Pods that whoever comes meets alike: by guard and priority."""

    guard: Guard
    priority: int


class Situation:
    """A cluster state to explain pods against.

    Args:
        outcome: of the plan.
        nodes: those that may be used at all.
        limited: the plan's cap on moves was reached.
        peers: UIDs of pods that stand where they would only if all of their gang came.
    """

    def __init__(
        self, outcome: Outcome, nodes: Sequence[Node], *, limited: bool = False, peers: frozenset[str] = frozenset()
    ) -> None:
        self.outcome = outcome
        self.nodes = sorted(nodes, key=lambda node: node.name)
        self.limited = limited
        self._peers = peers
        self._amounts: dict[tuple[Keep, str], Amounts] = {}
        self._free: dict[str, Amounts] = {}
        self._rooms: dict[object, npt.NDArray[np.int64]] = {}

    @cached_property
    def movability(self) -> Movability:
        """Who may move."""
        return Movability(self.outcome.snapshot, self.outcome.options)

    @cached_property
    def _apart(self) -> bool:
        """Whether any pod that stands has required anti-affinity."""
        return any(pod.anti_affinity_terms for pods in self.outcome.residents.values() for pod in pods)

    def trial(self) -> Trial:
        """The same state, to be changed."""
        return Trial(self.outcome, apart=self._apart)

    @cached_property
    def index(self) -> Mapping[str, int]:
        """Nodes by name."""
        return {node.name: number for number, node in enumerate(self.nodes)}

    @cached_property
    def kept(self) -> Mapping[Keep, Sequence[tuple[int, Pod]]]:
        """All pods that stand, with the number of their node."""
        found: dict[Keep, list[tuple[int, Pod]]] = defaultdict(list)
        for number, node in enumerate(self.nodes):
            for pod, guard in self._guarded(self.outcome.residents.get(node.name, ()), node):
                found[Keep(guard, pod.priority)].append((number, pod))
        return found

    def amounts(self, keep: Keep, resource: str) -> Amounts:
        """How much of a resource the pods kept alike ask for, by node."""
        if (keep, resource) not in self._amounts:
            asked = np.zeros(len(self.nodes), dtype=np.int64)
            for number, pod in self.kept[keep]:
                amount = pod.requests.get(resource, 0)
                if amount:
                    asked[number] += min(_MOST, amount)
            self._amounts[keep, resource] = asked
        return self._amounts[keep, resource]

    def free(self, resource: str) -> Amounts:
        """How much of a resource is left, by node; negative where too much is asked for."""
        if resource in self._free:
            return self._free[resource]
        offered = [max(-_MOST, min(_MOST, node.allocatable.get(resource, 0))) for node in self.nodes]
        residents = self.outcome.residents
        used = [sum(pod.requests.get(resource, 0) for pod in residents.get(node.name, ())) for node in self.nodes]
        left = np.array(offered, dtype=np.int64) - np.array([min(_MOST, amount) for amount in used], dtype=np.int64)
        self._free[resource] = left
        return left

    def guard(self, pod: Pod, node: Node) -> Guard:
        """What keeps a pod on its node."""
        if pod.leaving:
            return _LEAVES
        if pod.uid not in self.outcome.after:
            return _NOMINATED
        if pod.uid in self._peers:
            name = pod.gang.name if pod.gang is not None else ""
            return Guard(always=frozenset({Clause(ClauseKind.GANG, name)}), holds_room=True)
        always: set[Clause] = {MOVE_LIMIT} if self.limited else set()
        if pod.node == node.name:
            always.update(self._obstacles(pod))
        elif gang_key(pod) is not None:
            always.add(never(Immovable.GANG))
        return Guard(frozenset(always), has_room=self._has_room(pod, node)) if always else _FREE

    def _has_room(self, pod: Pod, home: Node) -> bool:
        """Whether another node has room for a pod as things stand."""
        if pod.owner is not None and pod.owner.kind == "DaemonSet":
            return False
        numbers = (int(number) for number in self.rooms(pod, self.index[home.name])[:_MOST_LOOKED_AT])
        return any(not any(rule.refuses(pod, self.nodes[number]) for rule in RULES) for number in numbers)

    def rooms(self, pod: Pod, home: int) -> npt.NDArray[np.int64]:
        """Other nodes than `home` with room for a pod as things stand, by number, those with least of it first."""
        amounts = tuple(sorted(pod.requests.items()))
        if amounts not in self._rooms:
            fits = np.ones(len(self.nodes), dtype=bool)
            left = np.zeros(len(self.nodes))
            for resource, amount in amounts:
                if amount:
                    fits &= self.free(resource) >= amount
                    left += self.free(resource) / amount
            numbers = np.flatnonzero(fits)
            self._rooms[amounts] = numbers[np.argsort(left[numbers], kind="stable")]
        found = self._rooms[amounts]
        return np.asarray(found[found != home])

    def _obstacles(self, pod: Pod) -> Iterator[Clause]:
        for why in self.movability.obstacles(pod):
            if why is not Immovable.BUDGET_EXHAUSTED:
                yield never(why)
                continue
            for budget in self.movability.budgets(pod):
                if budget.disruptions_allowed < 1 or not budget.fresh:
                    yield Clause(ClauseKind.POD_DISRUPTION_BUDGET, f"{budget.namespace}/{budget.name}")

    def _guarded(self, pods: Sequence[Pod], node: Node) -> Iterator[tuple[Pod, Guard]]:
        """Of pods under one budget no more may lose their place than it allows: the largest ones, let us say."""
        if not self.outcome.snapshot.budgets:
            yield from ((pod, self.guard(pod, node)) for pod in pods)
            return
        spent: Counter[str] = Counter()
        for pod in sorted(pods, key=lambda one: (-one.requests.get(CPU, 0), -one.requests.get(MEMORY, 0), one.key)):
            guard = self.guard(pod, node)
            budgets = () if guard.holds_room else self.movability.budgets(pod)
            spent.update(budget.uid for budget in budgets)
            over = frozenset(
                Clause(ClauseKind.POD_DISRUPTION_BUDGET, f"{budget.namespace}/{budget.name}")
                for budget in budgets
                if spent[budget.uid] > budget.disruptions_allowed
            )
            yield pod, replace(guard, evicted=over) if over - guard.always else guard


def never(why: Immovable) -> Clause:
    """The rule that a pod stays where it is."""
    return Clause(ClauseKind.NEVER_MOVES, why.name)
