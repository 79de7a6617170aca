"""Which nodes may receive a pod, by the rules that look at one pod and one node; asked once per kind of both.

Pods of one kind ask for the same. Nodes of one shape differ in nothing but their names, ages and labels that tell
single nodes apart; where a pod's rules do not speak of such labels, one node answers for all of its shape.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from operator import attrgetter

from stowage_scheduler.cluster import Node, NodeSelectorTerm, Pod
from stowage_scheduler.kube.gpu_facts import DEVICE_LABELS, island_need
from stowage_scheduler.kube.volume_facts import ZONE_LABELS
from stowage_scheduler.rules import RESOURCES, RULES

READ_UNASKED = DEVICE_LABELS.union(ZONE_LABELS)
"""Labels of nodes that rules read though no pod names them: about its GPUs, and zones by their newer names."""

_ADMITTING = tuple(rule for rule in RULES if rule is not RESOURCES)
_FEW_KINDS = 2  # of pods, for which it does not pay to look for shapes
_NO_MATTER = frozenset({"name", "uid", "created_at", "images"})  # to hard rules, but for those that name a node
_MAPPINGS = frozenset({"labels", "allocatable"})
_others = attrgetter(*(name for name in Node.__struct_fields__ if name not in _NO_MATTER | _MAPPINGS))

_Size = tuple[tuple[int, ...], tuple[str, ...]]


class Eligible:
    """Eligible nodes of the pods of one problem.

    Args:
        nodes: in the order of the problem.
        overfull: by resource, nodes with more requested than they have: nobody who asks for it may come.
        closed: nodes that take nothing new.
    """

    def __init__(self, nodes: Sequence[Node], overfull: Mapping[str, frozenset[int]], closed: frozenset[int]) -> None:
        self._nodes = nodes
        self._overfull = overfull
        self._closed = closed
        alike: dict[object, list[int]] = defaultdict(list)
        for number, node in enumerate(nodes):
            alike[tuple(sorted(node.allocatable.items()))].append(number)
        self._alike = list(alike.values())  # nodes of the same size
        self._allowed: dict[object, frozenset[int]] = {}
        self._admitting: dict[object, frozenset[int]] = {}
        self._sizes: dict[object, _Size] = {}

    def of(self, pod: Pod) -> frozenset[int]:
        """Nodes that may receive the pod, as far as other pods do not matter."""
        selector = tuple(sorted(pod.node_selector.items()))
        needs = pod.volume_needs, pod.needed_features, pod.gpu_share, island_need(pod)
        constraints = (selector, pod.node_affinity, pod.tolerations, pod.topology_keys, needs)
        amounts = tuple(sorted(pod.requests.items()))
        if amounts not in self._sizes:
            self._sizes[amounts] = self._size(pod)
        kind = (constraints, self._sizes[amounts])
        if kind not in self._allowed:
            if constraints not in self._admitting:
                self._admitting[constraints] = self._admitted(pod)
            self._allowed[kind] = (self._admitting[constraints] & self._large_enough(*kind[1])) - self._closed
        return self._allowed[kind]

    def _size(self, pod: Pod) -> _Size:
        """What the pod's requests say about nodes: which sizes of nodes will do, and which resources it needs."""
        large = (RESOURCES.refuses(pod, self._nodes[numbers[0]]) is None for numbers in self._alike)
        needs = (name for name in self._overfull if pod.requests.get(name))
        return tuple(number for number, enough in enumerate(large) if enough), tuple(sorted(needs))

    def _large_enough(self, sizes: tuple[int, ...], needs: tuple[str, ...]) -> frozenset[int]:
        """Nodes of these sizes that are not overfull in what a pod needs."""
        large: frozenset[int] = frozenset().union(*(self._alike[size] for size in sizes))
        return large.difference(*(self._overfull[name] for name in needs))

    def _admitted(self, pod: Pod) -> frozenset[int]:
        """Nodes that no rule but their size closes to the pod."""
        if len(self._admitting) < _FEW_KINDS or _looks_at_names(pod, self._telling):
            return frozenset(number for number, node in enumerate(self._nodes) if _admits(pod, node))
        admitting = (numbers for numbers in self._shapes if _admits(pod, self._nodes[numbers[0]]))
        return frozenset().union(*admitting)

    @cached_property
    def _telling(self) -> frozenset[str]:
        """Labels of which no two nodes have the same value, and that no rule reads unless a pod names them."""
        values: dict[str, set[str]] = defaultdict(set)
        times: dict[str, int] = defaultdict(int)
        for node in self._nodes:
            for key, value in node.labels.items():
                values[key].add(value)
                times[key] += 1
        return frozenset(key for key, count in times.items() if count == len(values[key])) - READ_UNASKED

    @cached_property
    def _shapes(self) -> list[list[int]]:
        """Nodes that no rule can tell apart unless it speaks of labels that tell single nodes."""
        shapes: dict[object, list[int]] = defaultdict(list)
        for number, node in enumerate(self._nodes):
            labels = tuple(sorted((key, "" if key in self._telling else value) for key, value in node.labels.items()))
            shapes[_others(node), labels, tuple(sorted(node.allocatable.items()))].append(number)
        return list(shapes.values())


def _admits(pod: Pod, node: Node) -> bool:
    return not any(rule.refuses(pod, node) for rule in _ADMITTING)


def _looks_at_names(pod: Pod, telling: frozenset[str]) -> bool:
    """Whether rules of a pod speak of the names of nodes, or of labels that tell single nodes apart."""
    terms = [*(pod.node_affinity or ()), *(term for terms in pod.volume_needs.terms for term in terms)]
    keys = {*pod.node_selector, *(key for key, _ in pod.volume_needs.zones), *_keys(terms)}
    return not keys.isdisjoint(telling) or any(term.fields for term in terms)


def _keys(terms: Iterable[NodeSelectorTerm]) -> set[str]:
    return {expression.key for term in terms for expression in term.expressions}
