"""The cluster as Stowage reads it for one pod, and as it would read it if it shared kube-scheduler's view of one thing.

Each such view is a known difference (docs/design/agreement.md): it explains a case where both agree once it is taken.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from stowage_scheduler.cluster import LabelSelector, Pod, PodAffinityTerm, Snapshot
from stowage_scheduler.kube import objects
from stowage_scheduler.kube.facts import KubernetesObject
from stowage_scheduler.kube.matching import matches_selector
from stowage_scheduler.kube.snapshot import build_snapshot
from stowage_scheduler.kube.volume_objects import PersistentVolume, PersistentVolumeClaim

NOW = 1_800_000_000.0

NOT_READY = "nodes that are not Ready"
NAMESPACE_SELECTOR = "namespaceSelector that matches a namespace without labels"
ONE_NODE = "volume that one node at a time may attach, in use"
ATTACHED = "volume that is attached to the node already, counted again"
READINGS = (NAMESPACE_SELECTOR, ONE_NODE, ATTACHED)

_EVERYTHING = LabelSelector()
_ONE_NODE, _MANY_NODES = ("ReadWriteOnce",), ("ReadWriteMany",)


@dataclass(frozen=True)
class World:
    """What is decided from.

    Attributes:
        snapshot: the cluster with no other pod that waits.
        pod: the one that waits.
        attached: nodes where a volume is there already that the pod has too, or that several pods there have.
    """

    snapshot: Snapshot
    pod: Pod
    attached: frozenset[str] = frozenset()


def world(raws: Sequence[KubernetesObject], name: str, readings: Collection[str] = ()) -> World:
    """The world of the pod of that name, with some of `READINGS` taken."""
    kept = [raw for raw in raws if not isinstance(raw, objects.Pod) or raw.spec.node_name or raw.metadata.name == name]
    if ONE_NODE in readings:
        kept = [usable_on_many_nodes(raw) for raw in kept]
    snapshot = build_snapshot(NOW, kept)
    assert not snapshot.rejected, f"objects that the API server took were left out: {snapshot.rejected[:3]}"
    pod = next(pod for pod in snapshot.pods if pod.node is None)
    if NAMESPACE_SELECTOR in readings:
        read = as_kube_scheduler_reads(pod)
        snapshot = replace(snapshot, pods=tuple(read if other is pod else other for other in snapshot.pods))
        pod = read
    return World(snapshot, pod, attached_already(kept) if ATTACHED in readings else frozenset())


def as_kube_scheduler_reads(pod: Pod) -> Pod:
    """The pod as kube-scheduler 1.36.3 understands it, where that is not what the documentation says.

    Of the terms of a pod that waits it asks the namespace selector a second time, without labels
    (`interpodaffinity.mergeAffinityTermNamespacesIfNotEmpty` changes a copy): a selector that matches a namespace
    without labels takes pods of all namespaces.
    """
    return replace(
        pod,
        affinity_terms=tuple(map(_misread, pod.affinity_terms)),
        anti_affinity_terms=tuple(map(_misread, pod.anti_affinity_terms)),
    )


def _misread(term: PodAffinityTerm) -> PodAffinityTerm:
    if term.namespace_selector is None or not matches_selector(term.namespace_selector, {}):
        return term
    return replace(term, namespace_selector=_EVERYTHING)


def usable_on_many_nodes(raw: KubernetesObject) -> KubernetesObject:
    """A claim or volume as if many nodes could attach it: kube-scheduler does not ask whether they can."""
    if isinstance(raw, PersistentVolume | PersistentVolumeClaim) and raw.spec and raw.spec.access_modes == _ONE_NODE:
        return replace(raw, spec=replace(raw.spec, access_modes=_MANY_NODES))
    return raw


def attached_already(raws: Iterable[KubernetesObject]) -> frozenset[str]:
    """Nodes on which two pods have one volume, the pod that waits taken as one of each node."""
    raws = tuple(raws)
    handles = {
        raw.metadata.name: raw.spec.csi.volume_handle
        for raw in raws
        if isinstance(raw, PersistentVolume) and raw.spec and raw.spec.csi
    }
    volumes = {
        (raw.metadata.namespace, raw.metadata.name): handles.get(raw.spec.volume_name, raw.metadata.name)
        for raw in raws
        if isinstance(raw, PersistentVolumeClaim) and raw.spec
    }
    held: dict[str | None, Counter[object]] = defaultdict(Counter)
    for raw in raws:
        if isinstance(raw, objects.Pod):
            held[raw.spec.node_name].update({volumes.get(claim, claim) for claim in _claims(raw)})
    wanted = held.pop(None, Counter())
    return frozenset(node or "" for node, there in held.items() if max((there + wanted).values(), default=0) > 1)


def _claims(pod: objects.Pod) -> Iterator[tuple[str | None, str]]:
    for volume in pod.spec.volumes or ():
        if volume.persistent_volume_claim is not None:
            yield pod.metadata.namespace, volume.persistent_volume_claim.claim_name
