"""A snapshot from objects or facts: whatever does not hold together is left out and listed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar, cast

import msgspec

from stowage_scheduler.cluster import (
    DisruptionBudget,
    Node,
    Pod,
    PriorityClass,
    Rejected,
    ResourceQuota,
    Snapshot,
    Workload,
)
from stowage_scheduler.kube import objects
from stowage_scheduler.kube.claim_lookup import Storage
from stowage_scheduler.kube.facts import KubernetesObject, Namespace, fact_of
from stowage_scheduler.kube.malformed import FieldError, MalformedObject, rejection
from stowage_scheduler.kube.pod_group_facts import GroupFact
from stowage_scheduler.kube.pod_group_resolution import PodGroupResolution
from stowage_scheduler.kube.priorities import Priorities
from stowage_scheduler.kube.volume_facts import Claim, CSIDriver, CSINode, StorageClass, Volume
from stowage_scheduler.kube.volume_resolution import VolumeResolution

_NO_CLASSES = Priorities()
_NO_STORAGE = Storage()

_T = TypeVar("_T", bound=msgspec.Struct)


class _Gathered:
    """Facts by kind, and what could not become one."""

    def __init__(self, rejected: list[Rejected]) -> None:
        self.rejected = rejected
        self._facts: defaultdict[type[msgspec.Struct], list[msgspec.Struct]] = defaultdict(list)

    def add(self, raw: KubernetesObject, priorities: Priorities) -> None:
        """Convert one object and file it."""
        try:
            fact = fact_of(raw, priorities)
        except MalformedObject as error:
            self.rejected.append(error.rejected)
            return
        self._facts[type(fact)].append(fact)

    def of(self, kind: type[_T]) -> list[_T]:
        """The facts of one kind."""
        return cast("list[_T]", self._facts[kind])


def build_snapshot(now: float, raws: Iterable[KubernetesObject], rejected: Iterable[Rejected] = ()) -> Snapshot:
    """The snapshot of objects of any kind, in any order.

    Args:
        now: seconds since the epoch.
        raws: the objects.
        rejected: what was left out before.
    """
    gathered = _Gathered(list(rejected))
    pods: list[objects.Pod] = []
    for raw in raws:
        if isinstance(raw, objects.Pod):
            pods.append(raw)
        else:
            gathered.add(raw, _NO_CLASSES)
    classes = _unique(gathered.of(PriorityClass), lambda c: ("PriorityClass", c.name), gathered.rejected)
    namespaces = _unique(gathered.of(Namespace), lambda n: ("Namespace", n.name), gathered.rejected)
    priorities = Priorities(classes)
    for pod in pods:
        gathered.add(pod, priorities)
    return assemble(
        now,
        nodes=gathered.of(Node),
        pods=gathered.of(Pod),
        workloads=gathered.of(Workload),
        budgets=gathered.of(DisruptionBudget),
        priority_classes=classes,
        namespace_labels={namespace.name: namespace.labels for namespace in namespaces},
        storage=Storage(
            claims=tuple(gathered.of(Claim)),
            volumes=tuple(gathered.of(Volume)),
            classes=tuple(gathered.of(StorageClass)),
            nodes=tuple(gathered.of(CSINode)),
            drivers=tuple(gathered.of(CSIDriver)),
        ),
        quotas=gathered.of(ResourceQuota),
        pod_groups=gathered.of(GroupFact),
        rejected=gathered.rejected,
    )


def assemble(
    now: float,
    *,
    nodes: Iterable[Node],
    pods: Iterable[Pod],
    workloads: Iterable[Workload] = (),
    budgets: Iterable[DisruptionBudget] = (),
    priority_classes: Iterable[PriorityClass] = (),
    namespace_labels: Mapping[str, Mapping[str, str]] | None = None,
    storage: Storage = _NO_STORAGE,
    quotas: Iterable[ResourceQuota] = (),
    pod_groups: Iterable[GroupFact] = (),
    rejected: Iterable[Rejected] = (),
) -> Snapshot:
    """The snapshot of facts that are sound each by itself, after looking at them together.

    Of objects with the same name or the same UID one is kept. Pods on a node that is not there are left
    out; finished ones silently, for they hold nothing. Claims and PodGroups are looked up. ReplicaSets learn whether
    they are the newest of their Deployment. The result does not depend on the order of the arguments.
    """
    left_out = list(rejected)
    kept_nodes = _unique(nodes, lambda node: ("Node", node.name), left_out)
    names = {node.name for node in kept_nodes}
    kept_pods: list[Pod] = []
    for pod in _unique(pods, lambda pod: ("Pod", pod.key), left_out, uid=lambda pod: pod.uid):
        if pod.node is None or pod.node in names:
            kept_pods.append(pod)
        elif not pod.finished:
            left_out.append(stray(pod))
    kept_storage = Storage(
        claims=tuple(_unique(storage.claims, lambda c: ("PersistentVolumeClaim", c.key), left_out)),
        volumes=tuple(_unique(storage.volumes, lambda v: ("PersistentVolume", v.name), left_out)),
        classes=tuple(_unique(storage.classes, lambda c: ("StorageClass", c.name), left_out)),
        nodes=tuple(_unique(storage.nodes, lambda n: ("CSINode", n.name), left_out)),
        drivers=tuple(_unique(storage.drivers, lambda d: ("CSIDriver", d.name), left_out)),
    )
    kept_groups = _unique(pod_groups, lambda g: ("PodGroup", f"{g.namespace}/{g.gang}"), left_out)
    ganged = PodGroupResolution().resolve(kept_groups, tuple(kept_pods))
    resolved, offering = VolumeResolution().resolve(kept_storage, ganged, tuple(kept_nodes))
    kept_workloads = _unique(workloads, lambda w: (w.kind, f"{w.namespace}/{w.name}"), left_out, uid=lambda w: w.uid)
    return Snapshot(
        now=now,
        nodes=offering,
        pods=resolved,
        workloads=tuple(with_newest(kept_workloads)),
        budgets=tuple(_unique(budgets, lambda b: ("PodDisruptionBudget", f"{b.namespace}/{b.name}"), left_out)),
        priority_classes=tuple(_unique(priority_classes, lambda c: ("PriorityClass", c.name), left_out)),
        namespace_labels=dict(sorted((namespace_labels or {}).items())),
        quotas=tuple(_unique(quotas, lambda q: ("ResourceQuota", f"{q.namespace}/{q.name}"), left_out)),
        rejected=tuple(sorted(left_out)),
    )


def _unique(
    facts: Iterable[_T],
    key: Callable[[_T], tuple[str, str]],
    left_out: list[Rejected],
    *,
    uid: Callable[[_T], str] | None = None,
) -> list[_T]:
    """The facts sorted by key, one for each key and each UID; the others go to `left_out`."""
    groups: defaultdict[tuple[str, str], list[_T]] = defaultdict(list)
    for fact in facts:
        groups[key(fact)].append(fact)
    kept: list[_T] = []
    uids: set[str] = set()
    for (kind, name), group in sorted(groups.items()):
        first = group[0] if len(group) == 1 else min(group, key=_text)
        if len(group) > 1:
            error = FieldError("metadata.name", name, f"it must be unique, but {len(group)} objects have it")
            left_out += [rejection(kind, name, error, _node_of(fact)) for fact in group if fact is not first]
        if uid is not None:
            if uid(first) in uids:
                error = FieldError("metadata.uid", uid(first), "it must be unique")
                left_out.append(rejection(kind, name, error, _node_of(first)))
                continue
            uids.add(uid(first))
        kept.append(first)
    return kept


def _node_of(fact: object) -> str:
    return fact.node or "" if isinstance(fact, Pod) else ""


def _text(fact: msgspec.Struct) -> bytes:
    """A fact as bytes, the same for equal facts: the order between objects that claim one name."""
    return msgspec.json.encode(fact, order="deterministic")


def stray(pod: Pod) -> Rejected:
    """The line about a pod whose node is not there."""
    error = FieldError("spec.nodeName", pod.node, "there must be a node of this name")
    return rejection("Pod", pod.key, error)


def with_newest(workloads: Sequence[Workload]) -> Iterable[Workload]:
    """ReplicaSets marked old where their Deployment is at a later revision."""
    revisions = {w.uid: w.revision for w in workloads if w.kind == "Deployment"}
    for workload in workloads:
        of_deployment = revisions.get(workload.owner.uid) if workload.kind == "ReplicaSet" and workload.owner else None
        if of_deployment is not None and workload.revision is not None and workload.revision < of_deployment:
            yield msgspec.structs.replace(workload, newest=False)
        else:
            yield workload
