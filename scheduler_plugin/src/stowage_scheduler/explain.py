"""Why a pod stays pending, and the cheapest thing found that would help.

For one pod: which rule excludes how many nodes, which resource is short on the rest, and the smallest
shortage. Works on a finished plan, so that it speaks of the cluster as it will be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from msgspec import Struct

from stowage_scheduler.cluster import CPU, EPHEMERAL_STORAGE, MEMORY, PODS, Node, Pod, Snapshot
from stowage_scheduler.entanglement import ClosedDomains
from stowage_scheduler.immovable import Immovable
from stowage_scheduler.kube.matching import port_conflict, untolerated_taint
from stowage_scheduler.movability import describe
from stowage_scheduler.packing import Reason
from stowage_scheduler.rules import RULES
from stowage_scheduler.rules.resources import insufficient

_MEBIBYTE = 1 << 20
_BYTES = (MEMORY, EPHEMERAL_STORAGE)


class Explanation(Struct, frozen=True):
    """The answer to "why": the main reason, what would help, and how many nodes each reason excludes."""

    reason: Reason
    help: str
    excluded: Mapping[str, int]


class Explainer:
    """Explains pods against one cluster state: `residents` maps node names to the pods that stand there."""

    def __init__(self, snapshot: Snapshot, nodes: Iterable[Node], residents: Mapping[str, Iterable[Pod]]) -> None:
        """`nodes` are those that may be used at all."""
        self.nodes = sorted(nodes, key=lambda node: node.name)
        self.residents = {node.name: tuple(residents.get(node.name, ())) for node in self.nodes}
        self.closed = ClosedDomains(snapshot, {node.name: node for node in self.nodes})
        self.unread = {rejected.node for rejected in snapshot.rejected}
        self.used: dict[str, Counter[str]] = {}
        for name, pods in self.residents.items():
            self.used[name] = Counter()
            for pod in pods:
                self.used[name].update(pod.requests)

    def explain(self, pod: Pod, left_out: Immovable | None = None, *, limited: bool = False) -> Explanation:
        """Why `pod` has no place. `left_out`: it was not planned for; `limited`: the cap on moves was reached."""
        if left_out is not None:
            return Explanation(Reason.NOT_MODELLED, _left_out(pod, left_out), {})
        excluded: Counter[str] = Counter()
        shortages: list[tuple[int, str, dict[str, int]]] = []
        closed = self.closed.closed_nodes(pod)
        for node in self.nodes:
            reason = self._refusal(pod, node, closed)
            if reason is not None:
                excluded[reason] += 1
                continue
            short = self._short(pod, node)
            if short:
                excluded[insufficient(next(iter(short)))] += 1
                shortages.append((_weight(pod, short), node.name, short))
            elif port_conflict(pod.host_ports, (p for o in self.residents[node.name] for p in o.host_ports)):
                excluded[Reason.HOST_PORT_TAKEN] += 1
        if not self.nodes:
            return Explanation(Reason.NO_MATCHING_NODE, "the policy covers no node: widen its nodeSelector", {})
        if shortages:
            shortages.sort(key=lambda entry: entry[:2])
            return self._shortage(pod, shortages[0], dict(excluded), limited=limited)
        if not excluded:
            return Explanation(Reason.LOWER_PRIORITY, "it fits: plan again with more time", {})
        reason = Reason(max(sorted(excluded), key=lambda name: excluded[name]))
        return Explanation(reason, self._help(pod, reason), dict(excluded))

    def _refusal(self, pod: Pod, node: Node, closed: frozenset[str]) -> Reason | None:
        for rule in RULES:
            reason = rule.refuses(pod, node)
            if reason is not None:
                return reason
        if node.name in self.unread:
            return Reason.UNREADABLE_POD
        return Reason.NOT_MODELLED if node.name in closed else None

    def _short(self, pod: Pod, node: Node) -> dict[str, int]:
        """What is missing on a node, by resource."""
        used = self.used[node.name]
        missing = {r: amount + used[r] - node.allocatable.get(r, 0) for r, amount in pod.requests.items() if amount}
        return {r: amount for r, amount in sorted(missing.items()) if amount > 0}

    def _shortage(
        self, pod: Pod, least: tuple[int, str, dict[str, int]], excluded: dict[str, int], *, limited: bool
    ) -> Explanation:
        _, node, short = least
        resource = max(short, key=lambda r: (short[r] * 1000 // pod.requests[r], r))
        help_text = f"{_amounts(short)} more on node {node}, or one more node with {_amounts(pod.requests)} free"
        if limited:
            return Explanation(Reason.MOVE_LIMIT, f"raise maxMovesPerPlan, or {help_text}", excluded)
        return Explanation(insufficient(resource), help_text, excluded)

    def _help(self, pod: Pod, reason: Reason) -> str:
        match reason:
            case Reason.NO_MATCHING_NODE:
                wanted = ", ".join(f"{k}={v}" for k, v in sorted(pod.node_selector.items()))
                return f"a node that matches {wanted or 'its required node affinity'}"
            case Reason.TAINTS_NOT_TOLERATED:
                taints = [t for node in self.nodes if (t := untolerated_taint(pod, node)) is not None]
                taint = min(taints, key=lambda t: (-taints.count(t), t.key, t.value))
                return f"a toleration for taint {taint.key}{'=' + taint.value if taint.value else ''}:{taint.effect}"
            case Reason.NO_READY_NODE:
                return "nodes that are Ready"
            case Reason.HOST_PORT_TAKEN:
                ports = ", ".join(str(port.port) for port in pod.host_ports)
                return f"another host port than {ports}, or one more node"
            case Reason.UNREADABLE_POD:
                return "pods that can be read: see the rejected objects"
            case Reason.NOT_MODELLED:
                return "a node outside of the domains that other pods' anti-affinity closes"
            case _:
                return f"one node with {_amounts(pod.requests)}: no node is large enough"


def _left_out(pod: Pod, why: Immovable) -> str:
    if pod.unmodelled:
        rules = describe(pod.unmodelled)
        return f"it uses {rules}, which the packer does not model yet; kube-scheduler still may place it"
    return f"{why}; kube-scheduler still may place it"


def _weight(pod: Pod, short: Mapping[str, int]) -> int:
    """How much is missing, in thousandths of what the pod asks for."""
    return sum(amount * 1000 // pod.requests[r] for r, amount in short.items())


def _amounts(resources: Mapping[str, int]) -> str:
    """Amounts for people: `500m cpu, 3072Mi memory, 8 nvidia.com/gpu`; the one place of a pod is not told."""
    told = {name: amount for name, amount in resources.items() if amount and (name != PODS or len(resources) == 1)}
    return ", ".join(_amount(name, told[name]) for name in sorted(told))


def _amount(name: str, amount: int) -> str:
    if name == CPU:
        return f"{amount}m {name}" if amount % 1000 else f"{amount // 1000} {name}"
    if name in _BYTES:
        return f"{-(-amount // _MEBIBYTE)}Mi {name}"
    return f"{amount} {name}"
