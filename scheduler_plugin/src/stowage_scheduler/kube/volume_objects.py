"""Kinds of storage as the API server writes them, with only the fields that Stowage reads."""

from __future__ import annotations

from stowage_scheduler.kube.objects import (
    LabelSelector,
    NodeSelector,
    ObjectMeta,
    Present,
    ResourceList,
    ResourceRequirements,
)
from stowage_scheduler.kube.parts import Part


class ClaimSpec(Part, frozen=True):
    """spec of a PersistentVolumeClaim."""

    access_modes: tuple[str, ...] | None = None
    selector: LabelSelector | None = None
    resources: ResourceRequirements | None = None
    volume_name: str | None = None
    storage_class_name: str | None = None
    volume_mode: str | None = None
    volume_attributes_class_name: str | None = None


class ClaimStatus(Part, frozen=True):
    """status of a PersistentVolumeClaim."""

    phase: str | None = None


class PersistentVolumeClaim(Part, frozen=True):
    """v1 PersistentVolumeClaim."""

    metadata: ObjectMeta
    spec: ClaimSpec | None = None
    status: ClaimStatus | None = None


class CsiSource(Part, frozen=True):
    """spec.csi of a PersistentVolume."""

    driver: str
    volume_handle: str


class ClaimReference(Part, frozen=True):
    """spec.claimRef of a PersistentVolume."""

    namespace: str | None = None
    name: str | None = None
    uid: str | None = None


class VolumeNodeAffinity(Part, frozen=True):
    """spec.nodeAffinity of a PersistentVolume."""

    required: NodeSelector | None = None


class VolumeSpec(Part, frozen=True):
    """spec of a PersistentVolume: the sources that are attached, stay on a node, or stand for a CSI driver."""

    capacity: ResourceList | None = None
    access_modes: tuple[str, ...] | None = None
    claim_ref: ClaimReference | None = None
    storage_class_name: str | None = None
    volume_mode: str | None = None
    volume_attributes_class_name: str | None = None
    node_affinity: VolumeNodeAffinity | None = None
    csi: CsiSource | None = None
    local: Present | None = None
    host_path: Present | None = None
    fc: Present | None = None
    iscsi: Present | None = None
    aws_elastic_block_store: Present | None = None
    azure_disk: Present | None = None
    azure_file: Present | None = None
    cinder: Present | None = None
    gce_persistent_disk: Present | None = None
    portworx_volume: Present | None = None
    vsphere_volume: Present | None = None


class VolumeStatus(Part, frozen=True):
    """status of a PersistentVolume."""

    phase: str | None = None


class PersistentVolume(Part, frozen=True):
    """v1 PersistentVolume."""

    metadata: ObjectMeta
    spec: VolumeSpec | None = None
    status: VolumeStatus | None = None


class TopologyExpression(Part, frozen=True):
    """allowedTopologies[].matchLabelExpressions[]."""

    key: str
    values: tuple[str, ...] | None = None


class TopologyTerm(Part, frozen=True):
    """allowedTopologies[] of a StorageClass."""

    match_label_expressions: tuple[TopologyExpression, ...] | None = None


class StorageClass(Part, frozen=True):
    """storage.k8s.io/v1 StorageClass; its parameters, which may name secrets, are not read."""

    metadata: ObjectMeta
    provisioner: str
    volume_binding_mode: str | None = None
    allowed_topologies: tuple[TopologyTerm, ...] | None = None


class NodeResources(Part, frozen=True):
    """allocatable of a driver."""

    count: int | None = None


class NodeDriver(Part, frozen=True):
    """spec.drivers[] of a CSINode."""

    name: str
    allocatable: NodeResources | None = None


class CsiNodeSpec(Part, frozen=True):
    """spec of a CSINode."""

    drivers: tuple[NodeDriver, ...] | None = None


class CSINode(Part, frozen=True):
    """storage.k8s.io/v1 CSINode, by the name of its node."""

    metadata: ObjectMeta
    spec: CsiNodeSpec | None = None


class CsiDriverSpec(Part, frozen=True):
    """spec of a CSIDriver."""

    attach_required: bool | None = None
    storage_capacity: bool | None = None


class CSIDriver(Part, frozen=True):
    """storage.k8s.io/v1 CSIDriver."""

    metadata: ObjectMeta
    spec: CsiDriverSpec | None = None


VolumeObject = PersistentVolumeClaim | PersistentVolume | StorageClass | CSINode | CSIDriver
