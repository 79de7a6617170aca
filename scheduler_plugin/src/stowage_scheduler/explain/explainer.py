"""Why a pod stays pending, and the cheapest thing found that would help.

For one pod: which rule excludes how many nodes, which resource is short on the rest, and the smallest
shortage. Works on a finished plan, so that it speaks of the cluster as it will be.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

from msgspec import Struct

from stowage_scheduler.cluster import (
    HostPort,
    Node,
    Pod,
    Snapshot,
)
from stowage_scheduler.counted import counted
from stowage_scheduler.explain.shortage import Numbers, Room
from stowage_scheduler.explain.words import amounts, toleration
from stowage_scheduler.kube import between_pods
from stowage_scheduler.kube.gpu_facts import island_need
from stowage_scheduler.kube.matching import port_conflict, untolerated_taint
from stowage_scheduler.kube.standing import Standing
from stowage_scheduler.kube.volume_matching import describe_needs
from stowage_scheduler.packing import Reason
from stowage_scheduler.rules import RESOURCES, RULES
from stowage_scheduler.rules.gpu_islands import admits_on_islands
from stowage_scheduler.rules.gpu_shares import admits_on_devices, describe_free
from stowage_scheduler.rules.resources import insufficient

_MOST_KINDS = 3  # of pods of a gang that are told
_SHORTAGES = (
    Reason.INSUFFICIENT_CPU,
    Reason.INSUFFICIENT_MEMORY,
    Reason.INSUFFICIENT_GPU,
    Reason.INSUFFICIENT_PODS,
    Reason.INSUFFICIENT_RESOURCE,
    Reason.VOLUME_LIMIT,
)


class Explanation(Struct, frozen=True):
    """The answer to "why": the main reason, what would help, and how many nodes each reason excludes.

    `because` begins `help` and stays true whatever else would help; `short` is what the best node lacks.
    """

    reason: Reason
    help: str
    excluded: Mapping[str, int]
    because: str = ""
    short: str = ""


class Explainer:
    """Explains pods against one cluster state: `residents` maps node names to the pods that stand there."""

    def __init__(
        self,
        snapshot: Snapshot,
        nodes: Iterable[Node],
        residents: Mapping[str, Iterable[Pod]],
        standing: Standing | None = None,
    ) -> None:
        """`nodes` are those that may be used at all; `standing` is who stands where, if that is known."""
        self.nodes = sorted(nodes, key=lambda node: node.name)
        self.residents = {node.name: tuple(residents.get(node.name, ())) for node in self.nodes}
        if standing is None:
            every = {node.name: node for node in snapshot.nodes}
            standing = Standing(every, residents, snapshot.namespace_labels)
        self.standing = standing
        self.unread = {rejected.node for rejected in snapshot.rejected}
        self.used: dict[str, Counter[str]] = {}
        self.ports: dict[str, list[HostPort]] = {}
        for name, pods in self.residents.items():
            self.used[name] = Counter()
            for pod in pods:
                self.used[name].update(pod.requests)
            self.ports[name] = [port for pod in pods for port in pod.host_ports]
        self.size = Room(self.nodes, {name: Counter() for name in self.used})
        self.room = Room(self.nodes, self.used)
        self._admitted: dict[object, tuple[Numbers, Counter[str]]] = {}
        self._without_lower: dict[int, Room] = {}
        self.settled: dict[str, str] = {}  # by UID of a pod of the gang that was looked at last, its node

    def explain(self, pod: Pod, *, limited: bool = False) -> Explanation:
        """Why `pod` has no place; `limited`: the cap on moves was reached."""
        if not self.nodes:
            return Explanation(Reason.NO_MATCHING_NODE, "the policy covers no node: widen its nodeSelector", {})
        candidates, excluded = self._candidates(pod)
        lacking = self.room.lacking(pod, candidates)
        excluded.update({insufficient(resource): count for resource, count in lacking.first.items()})
        taken = sum(bool(port_conflict(pod.host_ports, self.ports[self.nodes[n].name])) for n in lacking.nothing)
        if taken:
            excluded[Reason.HOST_PORT_TAKEN] += taken
        fragmented = [n for n in lacking.nothing if not self._has_device(pod, n)]
        if fragmented and not taken:
            excluded[Reason.GPU_FRAGMENTED] += len(fragmented)
            if len(fragmented) == len(lacking.nothing):
                node = self.nodes[fragmented[0]]
                free = describe_free(node, self.residents[node.name])
                short = f"shares that leave one GPU of node {node.name} freer ({free})"
                if gpus := island_need(pod):
                    short = f"{gpus} GPUs of node {node.name} that are free, and surely of one island"
                return Explanation(Reason.GPU_FRAGMENTED, f"{short}, or one more GPU", dict(excluded), short=short)
        if taken < len(lacking.nothing):
            return Explanation(Reason.LOWER_PRIORITY, "it fits: plan again with more time", dict(excluded))
        if lacking.least is not None:
            node = self.nodes[lacking.least]
            missing = self._short(pod, node)
            more = f"{amounts(missing)} more on node {node.name}"
            help_text = f"{more}, or one more node with {amounts(pod.requests)} free"
            reason, advice = self._why_short(pod, candidates, missing, limited=limited)
            because = advice if reason is Reason.LOWER_PRIORITY else ""
            return Explanation(reason, advice + help_text, dict(excluded), because, more)
        reason = Reason(max(sorted(excluded), key=lambda name: excluded[name]))
        if excluded[Reason.HOST_PORT_TAKEN]:  # all that is missing somewhere
            reason = Reason.HOST_PORT_TAKEN
        return Explanation(reason, self._help(pod, reason), dict(excluded))

    def explain_gang(self, name: str, waiting: Sequence[Pod], begins: str, *, limited: bool = False) -> Explanation:
        """Why the pods of a gang that wait have no place together: of the first that finds none beside the others.

        `begins` says how many of them have to come together.
        """
        homeless, alone = self.homeless(waiting, limited=limited)
        if alone is None:
            return Explanation(Reason.LOWER_PRIORITY, f"gang {name} fits: plan again with more time", {})
        fitting = len(waiting) - len(homeless)
        gang = (
            f"gang {name} {begins}, and {fitting} of its {counted(len(waiting), 'waiting pod')} would fit: it needs "
            f"{more_nodes(homeless)}"
        )
        help_text = gang if alone.reason in _SHORTAGES else f"{gang}; {alone.help}"
        return Explanation(alone.reason, help_text, alone.excluded)

    def homeless(self, waiting: Sequence[Pod], *, limited: bool = False) -> tuple[list[Pod], Explanation | None]:
        """The pods of a gang that find no place beside the others, and why the first of them does not."""
        used, ports = self.used, self.ports
        self.settled = {}
        self.used = {node: Counter(amounts) for node, amounts in used.items()}
        self.ports = {node: list(taken) for node, taken in ports.items()}
        alone: Explanation | None = None
        found: list[Pod] = []
        for alike in self._alike(waiting):
            left = self._settle(alike)
            self.room = Room(self.nodes, self.used)
            if left and alone is None:
                alone = self.explain(left[0], limited=limited)
            found += left
        self.used, self.ports = used, ports
        self.room = Room(self.nodes, used)
        return found, alone

    def most(self, waiting: Sequence[Pod]) -> list[tuple[int, Mapping[str, int]]]:
        """Per kind of some pods how many they are, and by node how many of that kind find room if nobody else comes."""
        found: list[tuple[int, Mapping[str, int]]] = []
        for alike in self._alike(waiting):
            numbers = self._candidates(alike[0])[0]
            holds = self.room.holds(alike[0], numbers, len(alike))
            found.append((len(alike), {self.nodes[n].name: count for n, count in zip(numbers, holds, strict=True)}))
        return found

    def _alike(self, pods: Iterable[Pod]) -> list[list[Pod]]:
        """Pods grouped by what decides where they fit, those that ask for most first."""
        groups: dict[object, list[Pod]] = defaultdict(list)
        for pod in pods:
            constraints = (tuple(sorted(pod.node_selector.items())), pod.node_affinity, pod.tolerations, pod.host_ports)
            requests = (tuple(sorted(pod.requests.items())), pod.volume_needs, pod.needed_features)
            others = (tuple(pod.labels.items()), pod.affinity_terms, pod.anti_affinity_terms, pod.spread)
            groups[requests, constraints, others].append(pod)
        return sorted(groups.values(), key=lambda group: [-amount for _, amount in sorted(group[0].requests.items())])

    def _settle(self, alike: Sequence[Pod]) -> Sequence[Pod]:
        """Let pods that are alike take room, node by node; who is left over."""
        pod = alike[0]
        for node in (self.nodes[number] for number in self._candidates(pod)[0]):
            free = {r: node.allocatable.get(r, 0) - self.used[node.name][r] for r in pod.requests}
            count = min((free[r] // amount for r, amount in pod.requests.items() if amount), default=len(alike))
            if pod.host_ports:
                count = min(count, 0 if port_conflict(pod.host_ports, self.ports[node.name]) else 1)
            count = max(0, min(count, len(alike)))
            if count:
                self.ports[node.name] += pod.host_ports
            for resource, amount in pod.requests.items():
                self.used[node.name][resource] += amount * count
            self.settled.update((one.uid, node.name) for one in alike[:count])
            alike = alike[count:]
        return alike

    def _candidates(self, pod: Pod) -> tuple[Numbers, Counter[str]]:
        """Nodes (by number) that could take the pod if they were empty, and how many each reason excludes."""
        selector = tuple(sorted(pod.node_selector.items()))
        needs = pod.volume_needs, pod.needed_features, pod.gpu_share, island_need(pod)
        constraints = (selector, pod.node_affinity, pod.tolerations, pod.topology_keys, needs)
        if constraints not in self._admitted:
            self._admitted[constraints] = self._admit(pod)
        found, refused = self._admitted[constraints]
        too_small = self.size.lacking(pod, found)
        excluded = Counter(refused)
        excluded.update({insufficient(resource): count for resource, count in too_small.first.items()})
        if not self.unread and not self._meets_others(pod):
            return too_small.nothing, excluded
        closed_by = {number: self._closed_by(number, pod) for number in too_small.nothing}
        excluded.update(reason for reason in closed_by.values() if reason is not None)
        return [number for number, reason in closed_by.items() if reason is None], excluded

    def _admit(self, pod: Pod) -> tuple[Numbers, Counter[str]]:
        """Nodes that no rule but their size closes to the pod, and how many each of those rules excludes."""
        found: list[int] = []
        excluded: Counter[str] = Counter()
        for number, node in enumerate(self.nodes):
            reasons = (rule.refuses(pod, node) for rule in RULES if rule is not RESOURCES)
            reason = next((reason for reason in reasons if reason is not None), None)
            if reason is None:
                found.append(number)
            else:
                excluded[reason] += 1
        return found, excluded

    def _closed_by(self, number: int, pod: Pod) -> Reason | None:
        """What other pods keep a pod from a node by."""
        node = self.nodes[number]
        return Reason.UNREADABLE_POD if node.name in self.unread else between_pods.refuses(pod, node, self.standing)

    def _meets_others(self, pod: Pod) -> bool:
        """Whether any rule between pods has a say for a pod; most have none, and clusters have many nodes."""
        terms = pod.affinity_terms or pod.anti_affinity_terms or pod.spread
        return bool(terms or self.standing.closing(pod))

    def _refusal(self, pod: Pod, node: Node) -> Reason | None:
        for rule in RULES:
            reason = rule.refuses(pod, node)
            if reason is not None:
                return reason
        if node.name in self.unread:
            return Reason.UNREADABLE_POD
        return between_pods.refuses(pod, node, self.standing)

    def _has_device(self, pod: Pod, number: int) -> bool:
        node = self.nodes[number]
        residents = self.residents[node.name]
        return admits_on_devices(pod, node, residents) and admits_on_islands(pod, node, residents)

    def _short(self, pod: Pod, node: Node) -> dict[str, int]:
        """What is missing on a node, by resource."""
        used = self.used[node.name]
        missing = {r: amount + used[r] - node.allocatable.get(r, 0) for r, amount in pod.requests.items() if amount}
        return {r: amount for r, amount in sorted(missing.items()) if amount > 0}

    def _why_short(
        self, pod: Pod, candidates: Numbers, short: Mapping[str, int], *, limited: bool
    ) -> tuple[Reason, str]:
        """What the room went to, and advice that comes before the amounts."""
        winner = self._outranked_by(pod, candidates)
        if winner is not None:
            return Reason.LOWER_PRIORITY, f"the room goes to pods of higher priority, like {winner.key}: "
        if limited and self._moves_might_help(pod, candidates):
            return Reason.MOVE_LIMIT, "raise maxMovesPerPlan, or "
        resource = max(short, key=lambda r: (short[r] * 1000 // pod.requests[r], r))
        return insufficient(resource), ""

    @cached_property
    def _arrivals(self) -> Mapping[str, Sequence[Pod]]:
        """By node the pods that the plan brings there."""
        found = {name: [pod for pod in pods if pod.node != name] for name, pods in self.residents.items()}
        return {name: pods for name, pods in found.items() if pods}

    def _outranked_by(self, pod: Pod, candidates: Numbers) -> Pod | None:
        """A pod of higher priority that comes to a node where this one would fit without such pods."""
        if not self._arrivals:
            return None
        for node in (self.nodes[number] for number in candidates):
            come = [one for one in self._arrivals.get(node.name, ()) if one.priority > pod.priority]
            if not come:
                continue
            used = Counter(self.used[node.name])
            for one in come:
                used.subtract(one.requests)
            if all(amount + used[r] <= node.allocatable.get(r, 0) for r, amount in pod.requests.items() if amount):
                return min(come, key=lambda one: one.key)
        return None

    def _moves_might_help(self, pod: Pod, candidates: Numbers) -> bool:
        """Whether all free room together would do, or a node without its pods of lower priority."""
        if all(self.room.total(resource) >= amount for resource, amount in pod.requests.items()):
            return True
        if pod.priority not in self._without_lower:
            used = {name: Counter(amounts) for name, amounts in self.used.items()}
            for name, pods in self.residents.items():
                for one in pods:
                    if one.priority < pod.priority:
                        used[name].subtract(one.requests)
            self._without_lower[pod.priority] = Room(self.nodes, used)
        return bool(self._without_lower[pod.priority].lacking(pod, candidates).nothing)

    def _help(self, pod: Pod, reason: Reason) -> str:
        match reason:
            case Reason.NO_MATCHING_NODE:
                wanted = ", ".join(f"{k}={v}" for k, v in sorted(pod.node_selector.items()))
                return f"a node that matches {wanted or 'its required node affinity'}"
            case Reason.NODE_FEATURES:
                return f"a node whose kubelet declares {', '.join(pod.needed_features)}"
            case Reason.TAINTS_NOT_TOLERATED:
                return toleration([t for node in self.nodes if (t := untolerated_taint(pod, node)) is not None])
            case Reason.NO_READY_NODE:
                return "nodes that are Ready"
            case Reason.HOST_PORT_TAKEN:
                ports = ", ".join(str(port.port) for port in pod.host_ports)
                return f"another host port than {ports}, or one more node"
            case Reason.GPU_FRAGMENTED:
                return "a node with larger GPUs"
            case Reason.UNREADABLE_POD:
                return "pods that can be read: see the rejected objects"
            case Reason.VOLUME_NODE_AFFINITY:
                return f"a node that its volumes can be attached to: {describe_needs(pod.volume_needs)}"
            case _ if reason in _SHORTAGES:
                return f"one node with {amounts(pod.requests)}: {self._largest(pod)}"
            case _:
                return _help_between_pods(pod, reason)

    def _largest(self, pod: Pod) -> str:
        """What keeps the pod from nodes that are large enough; those it may use are too small."""
        large = [node for node in self.nodes if RESOURCES.refuses(pod, node) is None]
        if not large:
            return "no node is large enough"
        reasons = Counter(reason for node in large if (reason := self._refusal(pod, node)) is not None)
        reason = max(sorted(reasons), key=lambda name: reasons[name])
        taints = [t for node in large if (t := untolerated_taint(pod, node)) is not None]
        remedy = toleration(taints) if reason is Reason.TAINTS_NOT_TOLERATED else self._help(pod, reason)
        return f"node {large[0].name} is large enough, but closed to it ({reason}); or {remedy}"


def _help_between_pods(pod: Pod, reason: Reason) -> str:
    match reason:
        case Reason.GANG_TOPOLOGY:
            return f"nodes with the labels {', '.join(pod.gang.required if pod.gang else ())}"
        case Reason.POD_AFFINITY:
            keys = ", ".join(sorted({term.topology_key for term in pod.affinity_terms}))
            return f"room beside the pods that it has affinity to (by {keys})"
        case Reason.POD_ANTI_AFFINITY:
            return "a node outside of the domains that its anti-affinity, or that of pods there, closes"
        case Reason.TOPOLOGY_SPREAD:
            keys = ", ".join(sorted({constraint.topology_key for constraint in pod.spread}))
            return f"room in the domains with the fewest of its pods (by {keys}), or a larger maxSkew"
        case _:
            return f"a node that admits it ({reason})"


def more_nodes(homeless: Sequence[Pod]) -> str:
    """The nodes that pods of a gang without a place would need."""
    needs = " or ".join(sorted({amounts(pod.requests) for pod in homeless})[:_MOST_KINDS])
    return f"{counted(len(homeless), 'more node')} with {needs} free"
