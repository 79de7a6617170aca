"""The packing problem in ints: nodes with room, classes of identical pods, limits.

A class holds pods that no rule can tell apart; the unknowns are counts of each class on each node. That
removes the symmetry between replicas, which is what makes optimality provable in seconds where a
Boolean per pod and node is not (measured: 32 nodes and 256 pods, reference "Priority Matters",
arXiv:2511.08373, section 4).

Shapes: `Problem.free[n][r]` is the room of node `n` in resource `r`; `PodClass.requests[r]` goes with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from heapq import nlargest

from msgspec import Struct

from stowage_scheduler.cluster import HostPort
from stowage_scheduler.devices.limits import DeviceLimits
from stowage_scheduler.relations import Relation, Role


class PodClass(Struct, frozen=True, dict=True):
    """Pods that are interchangeable for every rule.

    `running[n]` counts those that run on node `n` and may move; `eligible` are the nodes that may receive
    one. `move_cost` is in restart seconds. `budgets` index `Problem.budgets`, `gang` indexes `Problem.gangs`:
    then all pending pods of the class get a place together with those of the gang's other classes, or none.
    Pods of a gang that run are fixed, so such a class has none. With `alone` a node takes one of the class.
    """

    index: int
    name: str  # of the owner, for people
    requests: tuple[int, ...]
    priority: int
    pending: int
    running: Mapping[int, int]
    eligible: frozenset[int]
    ports: tuple[HostPort, ...] = ()
    budgets: tuple[int, ...] = ()
    move_cost: int = 1
    gang: int | None = None
    alone: bool = False
    preempts: bool = True  # with preemptionPolicy Never only free room is taken, and nobody moves for it
    dislikes: Mapping[int, int] = {}  # by node, the weight of its soft rules that the node does not meet
    pending_uids: tuple[str, ...] = ()
    displaced: Mapping[int, int] = {}  # by node that is drained, how many of the pending ones still run there
    running_uids: Mapping[int, tuple[str, ...]] = {}  # by node, the ones to move first come first

    @cached_property
    def running_total(self) -> int:
        """Pods of the class that run."""
        return sum(self.running.values())

    @cached_property
    def total(self) -> int:
        """Pods of the class, running and pending."""
        return self.running_total + self.pending

    def limit(self, node: int) -> int:
        """Most pods of the class that `node` may hold by the rules that look at one pod alone."""
        if node not in self.eligible:
            return self.running.get(node, 0)
        return 1 if self.ports or self.alone else self.total


class BudgetLimit(Struct, frozen=True):
    """A PodDisruptionBudget in the model: how many covered pods may be down at once."""

    name: str
    allowed: int


class WholeGang(Struct, frozen=True):
    """A gang in the model: the pending pods of its classes get their places together, or none of them does.

    With `need` so many of them are enough, whichever they are.
    """

    name: str  # namespace/name
    classes: tuple[int, ...]
    levels: tuple[tuple[frozenset[int], ...], ...] = ()  # domains in which to look for room, the best level first
    need: int | None = None


class Problem(Struct, frozen=True, dict=True):
    """One packing problem. `fixed` counts the pods that run and stay, by priority."""

    resources: tuple[str, ...]
    nodes: tuple[str, ...]
    free: tuple[tuple[int, ...], ...]
    classes: tuple[PodClass, ...]
    ports: tuple[frozenset[HostPort], ...] = ()  # taken by fixed pods, per node
    budgets: tuple[BudgetLimit, ...] = ()
    gangs: tuple[WholeGang, ...] = ()
    relations: tuple[Relation, ...] = ()
    capacity: tuple[tuple[int, ...], ...] = ()  # like `free`, of the empty node
    devices: DeviceLimits | None = None  # of GPUs, where pods share them
    islands: DeviceLimits | None = None  # of GPUs, where pods keep to one
    max_moves: int | None = None
    may_evict: bool = True
    fixed: Mapping[int, int] = {}

    @cached_property
    def device_limits(self) -> tuple[DeviceLimits, ...]:
        """What is known of devices and islands, if anything."""
        return tuple(limits for limits in (self.devices, self.islands) if limits is not None)

    @cached_property
    def priorities(self) -> tuple[int, ...]:
        """Distinct priorities, highest first."""
        return tuple(sorted({c.priority for c in self.classes} | set(self.fixed), reverse=True))

    @cached_property
    def roles_of(self) -> tuple[tuple[tuple[int, Role], ...], ...]:
        """By class, the relations that it has a role in."""
        found: list[list[tuple[int, Role]]] = [[] for _ in self.classes]
        for number, relation in enumerate(self.relations):
            for index, role in relation.roles.items():
                found[index].append((number, role))
        return tuple(map(tuple, found))

    @cached_property
    def running_on(self) -> tuple[tuple[int, ...], ...]:
        """By node, the classes with pods that run there."""
        found: list[list[int]] = [[] for _ in self.nodes]
        for pod_class in self.classes:
            for node in pod_class.running:
                found[node].append(pod_class.index)
        return tuple(map(tuple, found))

    @cached_property
    def covered_by(self) -> tuple[tuple[PodClass, ...], ...]:
        """By budget, the classes that it covers."""
        found: list[list[PodClass]] = [[] for _ in self.budgets]
        for pod_class in self.classes:
            for budget in pod_class.budgets:
                found[budget].append(pod_class)
        return tuple(map(tuple, found))

    def together_with(self, pod_class: PodClass) -> tuple[PodClass, ...]:
        """The classes that get places only together with this one, itself among them."""
        if pod_class.gang is None:
            return (pod_class,)
        return tuple(self.classes[index] for index in self.gangs[pod_class.gang].classes)

    def fit(self, pod_class: PodClass, node: int) -> int:
        """Most pods of a class that the room of a node holds when no other class stands there."""
        free = self.free[node]
        return min(
            (free[r] // amount for r, amount in enumerate(pod_class.requests) if amount), default=pod_class.total
        )

    def might_hold(self, gang: int, nodes: int) -> bool:
        """Whether so many nodes could hold each class of a gang, were they empty but for fixed pods."""
        held = 0
        for index in self.gangs[gang].classes:
            pod_class = self.classes[index]
            most = (min(pod_class.limit(node), self.fit(pod_class, node)) for node in pod_class.eligible)
            here = min(pod_class.total, sum(nlargest(nodes, most)))
            if here < pod_class.total and self.gangs[gang].need is None:
                return False
            held += here
        return held >= self.least_of(gang)

    def least_of(self, gang: int) -> int:
        """How many pods of a gang get a place, if any does."""
        need = self.gangs[gang].need
        return sum(self.classes[index].total for index in self.gangs[gang].classes) if need is None else need

    def fixed_from(self, priority: int) -> int:
        """Pods of a priority or higher that run and stay."""
        return sum(count for other, count in self.fixed.items() if other >= priority)
