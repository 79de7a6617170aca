"""Claims, volumes and what offers them: from objects of the API server to facts.

These facts never leave the assembly of a snapshot: what they say ends up in pods and nodes (`volume_resolution`).
Source: `pkg/scheduler/framework/plugins/{volumebinding,volumezone,nodevolumelimits}` of Kubernetes 1.36.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from stowage_scheduler.cluster import LabelSelector, NodeSelectorTerm, OwnerRef, Requirement
from stowage_scheduler.kube import objects
from stowage_scheduler.kube import volume_objects as raws
from stowage_scheduler.kube.metadata import (
    checked_labels,
    label_selector,
    name_of,
    namespace_of,
    owner_of,
    requirements,
    uid_of,
)
from stowage_scheduler.kube.quantity import QuantityError, parse_quantity
from stowage_scheduler.kube.sharing import shared

CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
BOUND_ANNOTATION = "pv.kubernetes.io/bind-completed"
SELECTED_NODE_ANNOTATION = "volume.kubernetes.io/selected-node"
ZONE_LABELS = (
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
)
WAIT_FOR_FIRST_CONSUMER = "WaitForFirstConsumer"
NO_PROVISIONER = "kubernetes.io/no-provisioner"

_ZONE_DELIMITER = "__"
_STORAGE = "storage"
_TRANSLATED_SOURCES = (
    "aws_elastic_block_store",
    "azure_disk",
    "azure_file",
    "cinder",
    "gce_persistent_disk",
    "portworx_volume",
    "vsphere_volume",
)


class Claim(Struct, frozen=True, gc=False):
    """A PersistentVolumeClaim; `bound` when both sides of the binding are written (`isPVCFullyBound`)."""

    namespace: str
    name: str
    uid: str
    volume: str = ""
    bound: bool = False
    lost: bool = False
    deleting: bool = False
    storage_class: str = ""
    selected_node: str = ""
    access_modes: tuple[str, ...] = ()
    size: int = 0  # nano-bytes
    mode: str = "Filesystem"
    attributes_class: str = ""
    selector: LabelSelector | None = None
    owner: OwnerRef | None = None

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


class Volume(Struct, frozen=True, gc=False):
    """A PersistentVolume. `terms` are ORed, None: no rule; `zones` as in `VolumeNeeds`."""

    name: str
    terms: tuple[NodeSelectorTerm, ...] | None = None
    zones: tuple[tuple[str, tuple[str, ...]], ...] = ()
    driver: str = ""  # of CSI
    handle: str = ""
    attachable: bool = False  # of a source that one attaches to nodes
    local: bool = False  # data on a node
    readable: bool = True  # False: kube-scheduler translates it for a CSI driver first, or it names nodes by a field
    available: bool = False
    deleting: bool = False
    storage_class: str = ""
    access_modes: tuple[str, ...] = ()
    capacity: int = 0  # nano-bytes
    mode: str = "Filesystem"
    attributes_class: str = ""
    claimed_by: tuple[str, str] | None = None  # namespace/name and UID, the UID empty when none is given
    labels: Mapping[str, str] = {}


class StorageClass(Struct, frozen=True, gc=False):
    """A StorageClass; `topologies` are ORed, none: every node."""

    name: str
    provisioner: str
    waits: bool = False  # for its first consumer
    topologies: tuple[NodeSelectorTerm, ...] = ()


class CSINode(Struct, frozen=True, gc=False):
    """How many volumes a node attaches, for drivers that have a limit there."""

    name: str
    limits: tuple[tuple[str, int], ...] = ()


class CSIDriver(Struct, frozen=True, gc=False):
    """What a CSI driver says about itself."""

    name: str
    attaches: bool = True
    tracks_capacity: bool = False


VolumeFact = Claim | Volume | StorageClass | CSINode | CSIDriver


def volume_fact(raw: raws.VolumeObject) -> VolumeFact:
    """The facts of an object of storage.

    Raises:
        FieldError: for a value that packing could not trust.
    """
    match raw:
        case raws.PersistentVolumeClaim():
            return _claim(raw)
        case raws.PersistentVolume():
            return _volume(raw)
        case raws.StorageClass():
            waits = raw.volume_binding_mode == WAIT_FOR_FIRST_CONSUMER
            return StorageClass(name_of(raw.metadata), raw.provisioner, waits, shared(tuple(_topologies(raw))))
        case raws.CSINode():
            return CSINode(name_of(raw.metadata), shared(tuple(sorted(_limits(raw)))))
        case _:
            spec = raw.spec or raws.CsiDriverSpec()
            return CSIDriver(name_of(raw.metadata), spec.attach_required is not False, bool(spec.storage_capacity))


def _claim(raw: raws.PersistentVolumeClaim) -> Claim:
    spec, notes = raw.spec or raws.ClaimSpec(), raw.metadata.annotations or {}
    namespace, name = namespace_of(raw.metadata), name_of(raw.metadata)
    return Claim(
        namespace=shared(namespace),
        name=name,
        uid=uid_of(raw.metadata, f"{namespace}/{name}"),
        volume=spec.volume_name or "",
        bound=bool(spec.volume_name) and BOUND_ANNOTATION in notes,
        lost=raw.status is not None and raw.status.phase == "Lost",
        deleting=raw.metadata.deletion_timestamp is not None,
        storage_class=shared(notes.get(CLASS_ANNOTATION, spec.storage_class_name or "")),
        selected_node=notes.get(SELECTED_NODE_ANNOTATION, ""),
        access_modes=shared(tuple(sorted(set(spec.access_modes or ())))),
        size=_bytes(spec.resources.requests if spec.resources else None),
        mode=shared(spec.volume_mode or "Filesystem"),
        attributes_class=spec.volume_attributes_class_name or "",
        selector=shared(label_selector(spec.selector)),
        owner=owner_of(raw.metadata, namespace),
    )


def _volume(raw: raws.PersistentVolume) -> Volume:
    spec, labels = raw.spec or raws.VolumeSpec(), checked_labels(raw.metadata.labels)
    claim = spec.claim_ref
    required = spec.node_affinity.required if spec.node_affinity else None
    terms = None if required is None else shared(tuple(_terms(required)))
    translated = any(getattr(spec, source) is not None for source in _TRANSLATED_SOURCES)
    return Volume(
        name=name_of(raw.metadata),
        terms=terms,
        zones=shared(tuple(_zones(labels))),
        driver=shared(spec.csi.driver) if spec.csi else "",
        handle=spec.csi.volume_handle if spec.csi else "",
        attachable=spec.csi is not None or spec.fc is not None or spec.iscsi is not None,
        local=spec.local is not None or spec.host_path is not None,
        readable=not translated and not any(term.fields for term in terms or ()),
        available=raw.status is not None and raw.status.phase == "Available",
        deleting=raw.metadata.deletion_timestamp is not None,
        storage_class=shared((raw.metadata.annotations or {}).get(CLASS_ANNOTATION, spec.storage_class_name or "")),
        access_modes=shared(tuple(sorted(set(spec.access_modes or ())))),
        capacity=_bytes(spec.capacity),
        mode=shared(spec.volume_mode or "Filesystem"),
        attributes_class=spec.volume_attributes_class_name or "",
        claimed_by=(f"{claim.namespace or ''}/{claim.name or ''}", claim.uid or "") if claim else None,
        labels=labels,
    )


def _terms(required: objects.NodeSelector) -> Iterator[NodeSelectorTerm]:
    for term in required.node_selector_terms or ():
        yield NodeSelectorTerm(requirements(term.match_expressions), requirements(term.match_fields))


def _zones(labels: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Labels of zone and region; a value may list several, and one that can not be read is passed over."""
    for key in ZONE_LABELS:
        values = [value.strip() for value in labels[key].split(_ZONE_DELIMITER)] if key in labels else []
        if values and all(values):
            yield key, tuple(sorted(set(values)))


def _topologies(raw: raws.StorageClass) -> Iterator[NodeSelectorTerm]:
    for term in raw.allowed_topologies or ():
        yield NodeSelectorTerm(
            tuple(Requirement(one.key, "In", one.values or ()) for one in term.match_label_expressions or ())
        )


def _limits(raw: raws.CSINode) -> Iterator[tuple[str, int]]:
    for driver in (raw.spec.drivers or ()) if raw.spec else ():
        count = driver.allocatable.count if driver.allocatable else None
        if count is not None:
            yield driver.name, max(0, count)


def _bytes(amounts: objects.ResourceList | None) -> int:
    """An amount of storage in nano-bytes; one that can not be read is 0: such a volume holds no claim."""
    try:
        return parse_quantity((amounts or {}).get(_STORAGE, 0))
    except QuantityError:
        return 0
