"""Free volumes as a resource of their nodes, so that several pods that wait for one are planned for at once.

A claim of a class without a provisioner gets a volume that somebody made. Most such volumes are disks of a node. Where
all claims that may get one of some volumes may get any of them, and each of those volumes is on one node, it does not
matter who gets which: what counts is how many there are on a node.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from stowage_scheduler.cluster import FREE_VOLUMES, Node, NodeSelectorTerm, VolumeNeeds
from stowage_scheduler.kube.claim_lookup import Found
from stowage_scheduler.kube.matching import matches_terms
from stowage_scheduler.kube.volume_facts import Volume

_WIDE = ("/zone", "/region")  # labels of places that have nodes, be it one
_MOST_POOLS = 64  # sets of volumes that are held against each other


class Places:
    """Nodes by labels of which each node has its own value.

    Args:
        nodes: all that there are.
    """

    def __init__(self, nodes: tuple[Node, ...]) -> None:
        self._nodes = nodes
        self._by_name = {node.name: node for node in nodes}
        self._by_label: dict[str, Mapping[str, str]] = {}

    def are_of(self, nodes: tuple[Node, ...]) -> bool:
        """Whether these are the same nodes with the same labels."""
        if self._nodes is not nodes:
            if len(nodes) != len(self._nodes):
                return False
            if not all(a.labels is b.labels and a.name == b.name for a, b in zip(nodes, self._nodes, strict=True)):
                return False
            self._nodes = nodes
        return True

    def hold(self, node: str | None, needs: VolumeNeeds) -> bool:
        """Whether a volume names this node and no other: then it is as good as a local one, and its pod stays."""
        return node is not None and any(self.named(terms) == node for terms in needs.terms)

    def named(self, terms: Iterable[NodeSelectorTerm] | None) -> str | None:
        """The one node that node affinity names; empty when that is not there, None when it may name several."""
        each = tuple(terms or ())
        names = {self._named_by(term) for term in each}
        if len(names) != 1:
            return None
        name = names.pop()
        return name if not name or matches_terms(each, self._by_name[name]) else ""

    def _named_by(self, term: NodeSelectorTerm) -> str | None:
        for one in term.expressions:
            by_value = self._nodes_by(one.key) if one.operator == "In" and not one.key.endswith(_WIDE) else {}
            nodes = {by_value[value] for value in one.values if value in by_value}
            if by_value and len(nodes) <= 1:
                return nodes.pop() if nodes else ""
        return None

    def _nodes_by(self, key: str) -> Mapping[str, str]:
        """By value of a label the node that has it; empty when nodes share values: it does not name nodes then."""
        if key not in self._by_label:
            found = [(node.labels[key], node.name) for node in self._nodes if key in node.labels]
            by_value = dict(found)
            self._by_label[key] = by_value if len(by_value) == len(found) else {}
        return self._by_label[key]


class Pools:
    """Sets of free volumes that count as a resource.

    Args:
        wishes: what was found for the claims of pods that wait.
        volumes: by name.
        places: where volumes are.
    """

    def __init__(self, wishes: Iterable[Found], volumes: Mapping[str, Volume], places: Places) -> None:
        classes = {found.free: found.pool for found in wishes if found.free}
        count = Counter(classes.values())
        self._resources: dict[frozenset[str], str] = {}
        self.offers: dict[str, dict[str, int]] = defaultdict(dict)
        for free, pool in classes.items() if len(classes) <= _MOST_POOLS else ():
            nodes = [places.named(volumes[name].terms) for name in free]
            if not pool or None in nodes or any(free != other and free & other for other in classes):
                continue
            resource = FREE_VOLUMES + pool + (f"/{min(free)}" if count[pool] > 1 else "")
            self._resources[free] = resource
            for node, amount in Counter(nodes).items():
                if node:
                    self.offers[node][resource] = amount

    def resource(self, found: Found) -> str | None:
        """The resource that a claim asks one of; None when its volumes are no resource."""
        return self._resources.get(found.free)
