"""Nodes that hold a role's image and weights before a replica comes: which ones, and what to make and delete.

As many nodes as `warm.nodes` says, beyond those in use: ready, admitted by the template's rules about nodes, large
enough for a replica, without one. Those that are chosen stay; new ones have room for a replica now, if any has.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from stowage.api.model_service import ModelService
from stowage.api.model_service_role import Role, Variant
from stowage.api.names import PREFETCH_LABEL, ROLE_LABEL
from stowage.api.resource import part_to_document
from stowage.decide.serving.prefetch_pod import NODE_ANNOTATION, prefetch_pod
from stowage.decide.serving.service_facts import PodRef
from stowage.decide.serving.spend import COST, uses
from stowage_scheduler.cluster import Node, Pod
from stowage_scheduler.kube.decode import decode_object
from stowage_scheduler.kube.facts import fact_of
from stowage_scheduler.kube.malformed import MalformedObject
from stowage_scheduler.kube.matching import matches_node_affinity, tolerates_node

Document = dict[str, Any]

UNPLACED_SECONDS: Final = 120.0
"""A prefetch pod that is not on its node after so long says that the node does not take it."""
AVOIDED_SECONDS: Final = 600.0
"""For so long such a node, and one whose prefetch pod failed, is left alone; the pod stays as the mark."""
_SLEEPLESS: Final = frozenset({"CrashLoopBackOff", "CreateContainerError", "RunContainerError"})
"""The image is there, and has no `sleep`."""


@dataclass(frozen=True, slots=True)
class PrefetchStep:
    """What to do about a service's prefetch pods.

    Attributes:
        create: pods, whole.
        delete: pods that are not wanted any more.
        cached_nodes: by role, nodes that hold what a replica needs, and no replica.
    """

    create: tuple[Document, ...] = ()
    delete: tuple[PodRef, ...] = ()
    cached_nodes: Mapping[str, int] = field(default_factory=dict)


def is_prefetch_pod(service: ModelService, pod: Pod) -> bool:
    """Whether the service made the pod for a node, and not as a replica."""
    return PREFETCH_LABEL in pod.labels and pod.owner is not None and pod.owner.uid == service.metadata.uid


def prefetch_step(
    service: ModelService, own: Sequence[Pod], nodes: Mapping[str, Node], pods: Iterable[Pod], now: float
) -> PrefetchStep:
    """What to make and delete, so that each role has its warm nodes.

    Args:
        service: whose.
        own: all pods with its name in their label, replicas and prefetch pods.
        nodes: of the cluster, by name.
        pods: of the cluster; looked at only when a node has to be chosen.
        now: seconds since 1970.
    """
    there = {one.name: one for one in own if is_prefetch_pod(service, one)}
    wanted: dict[str, Document] = {}
    cached: dict[str, int] = {}
    marks: set[str] = set()
    free: Mapping[str, Mapping[str, int]] | None = None
    for role in service.spec.roles:
        if not role.warm.nodes:
            continue
        of_role = [one for one in there.values() if one.labels[PREFETCH_LABEL] == role.name and not one.terminating]
        bad = [one for one in of_role if _is_bad(one, now) and now - one.created_at < AVOIDED_SECONDS]
        marks |= {one.name for one in bad}
        in_use = {one.node for one in own if one.labels.get(ROLE_LABEL) == role.name and not one.finished}
        shut = {*in_use, *(_node_of(one) for one in bad)}
        fitting = _Fitting(service, role, nodes, shut)
        standing = {one.name: one for one in of_role if not _is_bad(one, now)}
        kept = _kept(fitting, standing, role.warm.nodes)
        if len(kept) < role.warm.nodes:
            free = _free(nodes, pods) if free is None else free
            kept += fitting.more(role.warm.nodes - len(kept), {_node_of_document(one) for one in kept}, free)
        wanted |= {one["metadata"]["name"]: one for one in kept}
        cached[role.name] = sum(
            _holds(standing[name], has_init="initContainers" in document["spec"])
            for name, document in wanted.items()
            if name in standing
        )
    return PrefetchStep(
        create=tuple(document for name, document in wanted.items() if name not in there),
        delete=tuple(
            PodRef(one.namespace, one.name, one.uid)
            for name, one in sorted(there.items())
            if not one.terminating and name not in marks and (name not in wanted or _is_bad(one, now))
        ),
        cached_nodes=cached,
    )


class _Fitting:
    """Which variant of a role a node is for; the cheapest one that fits there."""

    def __init__(self, service: ModelService, role: Role, nodes: Mapping[str, Node], shut: set[str | None]) -> None:
        self._service = service
        self._role = role
        self._nodes = nodes
        self._shut = shut
        self._samples = [(one, sample) for one in _cheapest_first(role) if (sample := _sample(one)) is not None]

    def pod(self, name: str) -> Document | None:
        """The pod that the node shall have; None: no replica would come there."""
        node = self._nodes.get(name)
        if node is None or name in self._shut or not node.ready:
            return None
        found = next((one for one, sample in self._samples if _fits(sample, node)), None)
        return prefetch_pod(self._service, self._role, found, name) if found is not None else None

    def more(self, count: int, taken: set[str], free: Mapping[str, Mapping[str, int]]) -> list[Document]:
        """Up to so many nodes more: first those where a replica has room now, by name."""
        ranked = []
        for name, node in sorted(self._nodes.items()):
            if name in taken or name in self._shut or not node.ready:
                continue
            found = next(((one, sample) for one, sample in self._samples if _fits(sample, node)), None)
            if found is not None:
                has_room = all(free[name].get(resource, 0) >= need for resource, need in found[1].requests.items())
                ranked.append((not has_room, name, found[0]))
        ranked.sort(key=lambda one: one[:2])
        return [prefetch_pod(self._service, self._role, variant, name) for _, name, variant in ranked[:count]]


def _kept(fitting: _Fitting, standing: Mapping[str, Pod], most: int) -> list[Document]:
    """The pods that are there and are still right, those that have done their work first."""
    order = sorted(standing.values(), key=lambda one: (not one.ready, one.name))
    found: dict[str, Document] = {}
    for one in order:
        document = fitting.pod(_node_of(one))
        if document is not None:  # another template: the node stays, its pod is another one
            found.setdefault(_node_of(one), document)
    return list(found.values())[:most]


def _is_bad(pod: Pod, now: float) -> bool:
    return pod.finished or (pod.node is None and now - pod.created_at >= UNPLACED_SECONDS)


def _holds(pod: Pod, *, has_init: bool) -> bool:
    """Whether all that the pod is for is on its node."""
    if pod.ready:
        return True
    health = pod.health
    if health is None or (has_init and health.initialized_at is None):
        return False
    return any(reason in _SLEEPLESS for _, reason in health.waiting)


def _node_of(pod: Pod) -> str:
    return pod.node or pod.annotations.get(NODE_ANNOTATION, "")


def _node_of_document(document: Document) -> str:
    return str(document["metadata"]["annotations"][NODE_ANNOTATION])


def _cheapest_first(role: Role) -> list[Variant]:
    prices = {one.name: uses(one).get(COST) for one in role.variants}
    if any(price is None for price in prices.values()):
        return list(role.variants)
    return sorted(role.variants, key=lambda one: prices[one.name] or 0.0)


def _sample(variant: Variant) -> Pod | None:
    """A replica's pod, as far as nodes matter; None: the API server refuses its replicas too, and says so there."""
    spec = part_to_document(variant.template.spec)
    spec.pop("priorityClassName", None)  # what it says is in an object of its own, and nothing of it is about nodes
    document = {"metadata": {"name": "sample", "namespace": "sample", "uid": "sample"}, "spec": spec}
    try:
        fact = fact_of(decode_object("Pod", json.dumps(document).encode()))
    except MalformedObject:
        return None
    return fact if isinstance(fact, Pod) else None


def _fits(sample: Pod, node: Node) -> bool:
    return (
        matches_node_affinity(sample, node)
        and tolerates_node(sample, node)
        and all(node.allocatable.get(name, 0) >= need for name, need in sample.requests.items())
    )


def _free(nodes: Mapping[str, Node], pods: Iterable[Pod]) -> Mapping[str, Mapping[str, int]]:
    """By node, what nobody has asked for."""
    left = {name: dict(node.allocatable) for name, node in nodes.items()}
    for one in pods:
        if one.node in left and not one.finished:
            of_node = left[one.node]
            for name, amount in one.requests.items():
                of_node[name] = of_node.get(name, 0) - amount
    return left
