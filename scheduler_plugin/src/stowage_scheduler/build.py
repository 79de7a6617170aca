"""From a snapshot to the packing problem: what is fixed, what may move, what waits, and who may go where."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from math import gcd

from msgspec import Struct
from msgspec.structs import replace

from stowage_scheduler.cluster import Effect, GpuShare, HostPort, Node, Pod, Snapshot
from stowage_scheduler.devices.islands import island_limits
from stowage_scheduler.devices.limits import device_limits
from stowage_scheduler.eligible import Eligible
from stowage_scheduler.fair_tiers import in_tiers
from stowage_scheduler.fairness import tier
from stowage_scheduler.gangs import GangKey, GangState, gang_key
from stowage_scheduler.immovable import Immovable
from stowage_scheduler.kube.gpu_facts import keeps_to_island
from stowage_scheduler.kube.matching import disliked
from stowage_scheduler.movability import Movability
from stowage_scheduler.move_cost import move_cost_seconds, runs_since
from stowage_scheduler.options import PackOptions
from stowage_scheduler.problem import BudgetLimit, PodClass, Problem, WholeGang
from stowage_scheduler.relate import Related, Roles
from stowage_scheduler.relations import Apart, Relation, Role
from stowage_scheduler.slots import SlotClass, slot_class
from stowage_scheduler.templates import template


class Build(Struct, frozen=True):
    """A problem with what is needed to turn its counts back into pods, and to explain it."""

    problem: Problem
    pods: Mapping[str, Pod]  # by UID, every pod of the snapshot
    left_out: Mapping[str, Immovable]  # pending pods in scope that are not planned for, by UID
    gangs: Mapping[GangKey, GangState]
    node_facts: tuple[Node, ...]  # in the order of problem.nodes
    displaced: Mapping[str, int] = {}  # by UID, the node that is drained of each pod that gets a place elsewhere
    for_good: tuple[Pod, ...] = ()  # pods that leave drained nodes without a place


class _ClassKey(Struct, frozen=True):
    """Everything that rules look at: pods with the same key are interchangeable."""

    kind: SlotClass
    requests: tuple[tuple[str, int], ...]  # more than the slot says: volumes count, too
    priority: int
    eligible: frozenset[int]
    ports: tuple[HostPort, ...]
    budgets: tuple[int, ...]
    preempts: bool
    gang: int | None
    roles: Roles
    share: GpuShare | None
    keeps_to_island: bool


def build(snapshot: Snapshot, options: PackOptions) -> Build:
    """State the packing problem of a snapshot. The order of the snapshot's tuples changes nothing."""
    return _Builder(snapshot, options).build()


class _Builder:
    def __init__(self, snapshot: Snapshot, options: PackOptions) -> None:
        self.snapshot = snapshot
        self.options = options
        self.movability = Movability(snapshot, options)
        self.nodes = sorted(self.movability.nodes.values(), key=lambda node: node.name)
        self.index = {node.name: number for number, node in enumerate(self.nodes)}
        self.used: list[dict[str, int]] = [{} for _ in self.nodes]
        self.running: list[dict[str, int]] = [{} for _ in self.nodes]  # movable pods alone
        self.ports: list[set[HostPort]] = [set() for _ in self.nodes]
        self.fixed: Counter[int] = Counter()
        self.left_out: dict[str, Immovable] = {}
        self.movable: list[Pod] = []
        self.pending: list[Pod] = []
        self.displaced: list[Pod] = []  # they run on nodes that are drained, and wait for a place elsewhere
        self.for_good: list[Pod] = []
        self.staying: list[tuple[Pod, str]] = []  # no plan touches them; with the node that holds room for them
        self.gangs: dict[GangKey, int] = {}  # those whose waiting pods are planned for
        self.modest: set[GangKey] = set()  # of these, with a pod that preempts nobody
        self.softly_tainted = any(t.effect is Effect.PREFER_NO_SCHEDULE for node in self.nodes for t in node.taints)
        self._numbers: dict[object, int] = {}
        self.templates: dict[str, int] = {}  # by UID
        self._lasting: dict[int, bool] = {}  # by template, whether its pods may move once they are old enough
        self._keys: dict[tuple[int, bool], _ClassKey] = {}  # by template, for those that run and those that wait

    def build(self) -> Build:
        for pod in sorted(self.snapshot.pods, key=_by_name):
            self._sort_in(pod)
        self.related = self._relate()
        for pod in self.movable:
            _take(self.running[self.index[pod.node or ""]], pod)
        drained = {self.index[name] for name in self.movability.drained if name in self.index}
        self.eligible = Eligible(self.nodes, self._overfull(), self._unread() | drained)
        waiting_gangs = sorted({key for pod in self.pending if (key := self._gang(pod)) is not None})
        self.gangs = {key: number for number, key in enumerate(waiting_gangs)}
        self.modest = {key for pod in self.pending if pod.preemption_policy == "Never" and (key := self._gang(pod))}
        limits: dict[str, int] = {}
        lost = Counter(budget.uid for pod in self.for_good for budget in self.movability.budgets(pod))
        groups: dict[_ClassKey, list[Pod]] = defaultdict(list)
        planned = [*self.movable, *self.pending, *self.displaced]
        for pod in planned:
            kind = self.templates[pod.uid], pod.node is None
            if kind not in self._keys:
                self._keys[kind] = self._class_key(pod, limits)
            groups[self._keys[kind]].append(pod)
        if self.options.is_fair:
            groups = in_tiers(groups, self.options, self.nodes, self.used, self.staying)
        fixed = {tier(p, within=True): n for p, n in self.fixed.items()} if self.options.is_fair else dict(self.fixed)
        resources = sorted({name for key in groups for name, _ in key.requests})
        ordered = sorted(groups.items(), key=lambda item: item[1][0].key)
        classes = tuple(self._class(number, key, pods, resources) for number, (key, pods) in enumerate(ordered))
        relations = self._relations([key.roles for key, _ in ordered])
        classes = _with_alone(classes, relations)
        standing = [(pod, self.index[where]) for pod, where in self.staying if where in self.index]
        kinds = [(pods[0], c.running) for (_, pods), c in zip(ordered, classes, strict=True)]
        devices = (self.nodes, standing, kinds)
        problem = Problem(
            resources=tuple(resources),
            nodes=tuple(node.name for node in self.nodes),
            free=tuple(self._free(number, resources) for number in range(len(self.nodes))),
            classes=classes,
            ports=tuple(frozenset(ports) for ports in self.ports),
            budgets=tuple(
                BudgetLimit(f"{budget.namespace}/{budget.name}", budget.disruptions_allowed - lost[budget.uid])
                for budget in sorted(self.snapshot.budgets, key=lambda b: limits.get(b.uid, -1))
                if budget.uid in limits
            ),
            gangs=tuple(
                WholeGang(
                    "/".join(key),
                    tuple(c.index for c in classes if c.gang == number),
                    self._levels(key),
                    self.movability.gangs[key].need if self.movability.gangs[key].elastic else None,
                )
                for key, number in self.gangs.items()
            ),
            relations=relations,
            devices=device_limits(*devices),
            islands=island_limits(*devices),
            capacity=tuple(tuple(n.allocatable.get(name, 0) for name in resources) for n in self.nodes),
            max_moves=self.options.max_moves,
            may_evict=self.options.evict_lower_priority and not self.movability.drained,
            fixed=fixed,
        )
        return Build(
            scaled(problem),
            {pod.uid: pod for pod in self.snapshot.pods},
            self.left_out,
            self.movability.gangs,
            tuple(self.nodes),
            {pod.uid: self.index[pod.node or ""] for pod in self.displaced},
            tuple(self.for_good),
        )

    def _gang(self, pod: Pod) -> GangKey | None:
        """The gang that a pod has to be placed with; none where enough of it run for one more to come alone."""
        key = gang_key(pod)
        return None if key is None or self.movability.gangs[key].is_loose else key

    def _sort_in(self, pod: Pod) -> None:
        """Fixed pods take room, movable and pending ones become part of a class."""
        if pod.finished:
            return
        self.templates[pod.uid] = self._numbers.setdefault(template(pod), len(self._numbers))
        if self.movability.drained and self._sort_in_for_drain(pod):
            return
        if pod.node is None and not pod.terminating:
            why_not = self.movability.unplannable(pod)
            if why_not is None:
                self.pending.append(pod)
                return
            if why_not is not Immovable.OUT_OF_SCOPE:
                self.left_out[pod.uid] = why_not
        elif pod.node is not None and self._may_move(pod):
            self.movable.append(pod)
            return
        where = pod.node if pod.node is not None else pod.nominated_node
        if where is not None:
            self._leave(pod, where)

    def _may_move(self, pod: Pod) -> bool:
        """Whether a running pod may move; for pods of one template only their state and their age differ."""
        if pod.leaving or pod.node not in self.movability.nodes or self.options.drain is not None:
            return self.movability.immovable(pod) is None
        kind = self.templates[pod.uid]
        if kind not in self._lasting:
            self._lasting[kind] = self.movability.immovable_at_any_age(pod) is None
        return self._lasting[kind] and self.movability.too_young(pod) is None

    def _sort_in_for_drain(self, pod: Pod) -> bool:
        """Sort in a pod that a drain speaks of; those that wait elsewhere are not planned for then."""
        if pod.node is None:
            if pod.nominated_node is not None:
                self._leave(pod, pod.nominated_node)
            return True
        if pod.node not in self.movability.drained or self.movability.immovable(pod) is not None:
            return False
        (self.for_good if self.movability.leaves_for_good(pod) else self.displaced).append(pod)
        return True

    def _leave(self, pod: Pod, where: str) -> None:
        """The pod stays where it is, whatever the plan."""
        self.staying.append((pod, where))
        if where in self.index:
            if pod.node is not None and not pod.leaving and self.movability.in_scope(pod):
                self.fixed[pod.priority] += 1
            _take(self.used[self.index[where]], pod)
            self.ports[self.index[where]].update(pod.host_ports)

    def _relate(self) -> Related:
        """The rules between pods. Who stands where such a rule is broken stays there, so that no plan starts wrong."""
        waiting = [*self.pending, *self.displaced]
        related = Related(self.snapshot, self.nodes, self.staying, self.movable, waiting)
        if not related.spoiled:
            return related
        for pod in self.movable:
            if pod.uid in related.spoiled:
                self._leave(pod, pod.node or "")
        self.movable = [pod for pod in self.movable if pod.uid not in related.spoiled]
        return Related(self.snapshot, self.nodes, self.staying, self.movable, waiting)

    def _relations(self, roles_of_classes: Sequence[Roles]) -> tuple[Relation, ...]:
        roles: list[dict[int, Role]] = [{} for _ in range(self.related.count)]
        for index, of_class in enumerate(roles_of_classes):
            for number, role in of_class:
                roles[number][index] = role
        return self.related.relations(roles)

    def _levels(self, key: GangKey) -> tuple[tuple[frozenset[int], ...], ...]:
        """Domains in which to look for places for a gang: preferred ones first, small ones before large ones."""
        gang = self.movability.gangs[key]
        preferred = sorted((self._domains(label) for label in gang.preferred), key=len, reverse=True)
        required = max((self._domains(label) for label in gang.required), key=len, default=())
        anywhere = (frozenset(range(len(self.nodes))),) if preferred else ()
        return tuple(level for level in (*preferred, required or anywhere) if level)

    def _domains(self, label: str) -> tuple[frozenset[int], ...]:
        found: dict[str, set[int]] = defaultdict(set)
        for number, node in enumerate(self.nodes):
            if label in node.labels:
                found[node.labels[label]].add(number)
        return tuple(frozenset(found[value]) for value in sorted(found))

    def _unread(self) -> frozenset[int]:
        """Nodes with pods that nobody could read, so nobody knows what room is left: they take nothing new."""
        names = {rejected.node for rejected in self.snapshot.rejected}
        return frozenset(number for number, node in enumerate(self.nodes) if node.name in names)

    def _overfull(self) -> dict[str, frozenset[int]]:
        """By resource, nodes with more requested than allocatable: nobody who asks for it may go there."""
        found: dict[str, set[int]] = defaultdict(set)
        for number, node in enumerate(self.nodes):
            used, running = self.used[number], self.running[number]
            for name in {**used, **running}:
                if used.get(name, 0) + running.get(name, 0) > node.allocatable.get(name, 0):
                    found[name].add(number)
        return {name: frozenset(numbers) for name, numbers in found.items()}

    def _free(self, number: int, resources: list[str]) -> tuple[int, ...]:
        """Room for classes; on an overfull node what its movable pods already take."""
        allocatable, used, running = self.nodes[number].allocatable, self.used[number], self.running[number]
        return tuple(max(allocatable.get(name, 0) - used.get(name, 0), running.get(name, 0)) for name in resources)

    def _class_key(self, pod: Pod, limits: dict[str, int]) -> _ClassKey:
        budgets = sorted(self.movability.budgets(pod), key=lambda b: b.uid)
        for budget in budgets:
            limits.setdefault(budget.uid, len(limits))
        eligible, closed = self.eligible.of(pod), self.related.closed(pod)
        kind, preempts = slot_class(pod), pod.preemption_policy != "Never"
        gang = self._gang(pod) if pod.node is None else None
        if pod.node is None and pod.gang is not None:
            kind = SlotClass("", "", kind.requests)  # who owns a waiting pod makes no difference to its gang
        if gang is not None:
            preempts = gang not in self.modest  # all of it takes free room only if one does
        return _ClassKey(
            kind=kind,
            requests=tuple(sorted(pod.requests.items())),
            priority=pod.priority,
            eligible=eligible - closed if closed else eligible,  # most classes share theirs
            ports=tuple(sorted(pod.host_ports)),
            budgets=tuple(limits[budget.uid] for budget in budgets),
            preempts=preempts,
            gang=None if gang is None else self.gangs[gang],
            roles=self.related.roles(pod),
            # a share that runs keeps its device
            share=pod.gpu_share if pod.node or not pod.gpu_share else GpuShare(pod.gpu_share.amounts),
            keeps_to_island=keeps_to_island(pod),
        )

    def _dislikes(self, pod: Pod, eligible: frozenset[int]) -> Mapping[int, int]:
        """By node, what the soft rules of a pod say against it."""
        if not pod.preferred_nodes and not self.softly_tainted:
            return {}
        weights = {number: disliked(pod, self.nodes[number]) for number in eligible}
        return {number: weight for number, weight in weights.items() if weight}

    def _class(self, number: int, key: _ClassKey, pods: list[Pod], resources: list[str]) -> PodClass:
        running: dict[int, list[Pod]] = defaultdict(list)
        for pod in pods:
            if pod.node is not None and pod.node not in self.movability.drained:
                running[self.index[pod.node]].append(pod)
        gone = self.movability.drained  # whoever runs there waits for another place
        waiting = sorted((p for p in pods if p.node is None or p.node in gone), key=lambda p: (p.created_at, p.key))
        first = pods[0]
        return PodClass(
            index=number,
            name=f"{first.namespace}/{first.owner.name if first.owner else first.name}",
            requests=tuple(first.requests.get(name, 0) for name in resources),
            priority=key.priority,
            pending=len(waiting),
            running={node: len(held) for node, held in running.items()},
            eligible=key.eligible,
            dislikes=self._dislikes(first, key.eligible),
            ports=key.ports,
            budgets=key.budgets,
            gang=key.gang,
            preempts=key.preempts,
            move_cost=self._move_cost(pods),
            pending_uids=tuple(pod.uid for pod in waiting),
            displaced=dict(Counter(self.index[pod.node] for pod in waiting if pod.node is not None)),
            # the youngest has lost least when it starts again
            running_uids={
                node: tuple([p.uid for p in (held if len(held) == 1 else sorted(held, key=_youngest_first))])
                for node, held in running.items()
            },
        )

    def _move_cost(self, pods: Iterable[Pod]) -> int:
        """That of the dearest pod: of each template the one that runs longest, for cost only grows with age."""
        dearest: dict[int, Pod] = {}
        for pod in pods:
            kind = self.templates[pod.uid]
            if kind not in dearest or _runs_longer(pod, dearest[kind]):
                dearest[kind] = pod
        now = self.snapshot.now
        return max(move_cost_seconds(p, self.movability.budgets(p), now) for p in dearest.values())


def _by_name(pod: Pod) -> tuple[str, str, str]:
    return pod.namespace, pod.name, pod.uid


def _youngest_first(pod: Pod) -> tuple[bool, float, str]:
    return pod.ready, -pod.created_at, pod.key


def _runs_longer(pod: Pod, other: Pod) -> bool:
    if pod.node is None or other.node is None:
        return pod.node is not None and other.node is None
    return runs_since(pod) < runs_since(other)


def _take(used: dict[str, int], pod: Pod) -> None:
    for name, amount in pod.requests.items():
        used[name] = used.get(name, 0) + amount


def _with_alone(classes: Iterable[PodClass], relations: Iterable[Relation]) -> tuple[PodClass, ...]:
    """The classes, with what their anti-affinity says about single nodes."""
    by_node = [relation for relation in relations if isinstance(relation, Apart) and relation.is_by_node]
    alone = {index for relation in by_node for index, role in relation.roles.items() if role is Role.BOTH}
    return tuple(replace(c, alone=True) if c.index in alone else c for c in classes)


def scaled(problem: Problem) -> Problem:
    """The same problem in the largest units that keep every amount a whole number (exact, never rounded)."""
    # room need not be a multiple: what is left over below one unit can not hold anything anyway
    units = [reduce(gcd, (c.requests[r] for c in problem.classes), 0) or 1 for r in range(len(problem.resources))]
    return replace(
        problem,
        free=tuple(tuple(a // units[r] for r, a in enumerate(row)) for row in problem.free),
        capacity=tuple(tuple(a // units[r] for r, a in enumerate(row)) for row in problem.capacity),
        classes=tuple(
            replace(c, requests=tuple(a // units[r] for r, a in enumerate(c.requests))) for c in problem.classes
        ),
    )
