"""Claims, volumes and what belongs to them, as Kubernetes writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Document = dict[str, Any]

ZONE = "topology.kubernetes.io/zone"
DRIVER = "disk.example.com"
WAITING = "waiting"
"""Name of a class whose volumes wait for their first consumer."""


def node(name: str, *, zone: str | None = None, cpu: str = "8", **labels: str) -> Document:
    told = {"kubernetes.io/hostname": name, **({ZONE: zone} if zone else {}), **labels}
    status = {"allocatable": {"cpu": cpu, "pods": "110"}, "conditions": [{"type": "Ready", "status": "True"}]}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": told}, "status": status}


def pod(
    name: str, *claims: str, on: str | None = None, ephemeral: str | None = None, cpu: str = "1", **metadata: Any
) -> Document:
    """A pod of a ReplicaSet that mounts claims, and perhaps an ephemeral volume."""
    volumes: list[Document] = [{"name": f"v-{c}", "persistentVolumeClaim": {"claimName": c}} for c in claims]
    if ephemeral is not None:
        volumes.append({"name": ephemeral, "ephemeral": {"volumeClaimTemplate": {}}})
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "app", "uid": "rs-app", "controller": True}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "team", "name": name, "uid": f"uid-{name}", "ownerReferences": [owner], **metadata},
        "spec": {
            "containers": [{"name": "main", "resources": {"requests": {"cpu": cpu}}}],
            "volumes": volumes,
            **({"nodeName": on} if on else {}),
        },
        "status": {"phase": "Running" if on else "Pending"},
    }


def claim(
    name: str,
    volume: str | None = None,
    *,
    bound: bool = True,
    storage_class: str | None = None,
    modes: tuple[str, ...] = ("ReadWriteOnce",),
    phase: str | None = None,
    size: str = "1Gi",
    annotations: Mapping[str, str] | None = None,
    owner: str | None = None,
    deleted: bool = False,
    **spec: Any,
) -> Document:
    """A claim; with a volume it is bound to it, unless `bound` says that this is not finished."""
    notes = {**(annotations or {}), **({"pv.kubernetes.io/bind-completed": "yes"} if volume and bound else {})}
    metadata: Document = {"namespace": "team", "name": name, "uid": f"uid-{name}", "annotations": notes}
    if deleted:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    if owner is not None:
        reference = {"apiVersion": "v1", "kind": "Pod", "name": owner, "uid": f"uid-{owner}", "controller": True}
        metadata["ownerReferences"] = [reference]
    wanted = {"accessModes": list(modes), "resources": {"requests": {"storage": size}}, **spec}
    if volume is not None:
        wanted["volumeName"] = volume
    if storage_class is not None:
        wanted["storageClassName"] = storage_class
    status = {"phase": phase or ("Bound" if volume and bound else "Pending")}
    document = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata}
    return {**document, "spec": wanted, "status": status}


def volume(
    name: str,
    *,
    zones: tuple[str, ...] = (),
    driver: str | None = DRIVER,
    labels: Mapping[str, str] | None = None,
    modes: tuple[str, ...] = ("ReadWriteOnce",),
    phase: str = "Bound",
    size: str = "1Gi",
    storage_class: str | None = None,
    affinity: Document | None = None,
    **spec: Any,
) -> Document:
    """A volume of a CSI driver (or of a source in `spec`), in one of the zones if any are given."""
    made: Document = {"capacity": {"storage": size}, "accessModes": list(modes), **spec}
    if driver is not None:
        made["csi"] = {"driver": driver, "volumeHandle": f"handle-{name}", "volumeAttributes": {"secret": "x"}}
    if zones:
        affinity = {"matchExpressions": [{"key": ZONE, "operator": "In", "values": list(zones)}]}
    if affinity is not None:
        made["nodeAffinity"] = {"required": {"nodeSelectorTerms": [affinity]}}
    if storage_class is not None:
        made["storageClassName"] = storage_class
    metadata = {"name": name, "labels": dict(labels or {})}
    document = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata}
    return {**document, "spec": made, "status": {"phase": phase}}


def on_host(name: str) -> Document:
    """Node affinity of a local volume."""
    return {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [name]}]}


def storage_class(
    name: str = WAITING, *, provisioner: str = DRIVER, waits: bool = True, zones: tuple[str, ...] = ()
) -> Document:
    document: Document = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}}
    if zones:
        document["allowedTopologies"] = [{"matchLabelExpressions": [{"key": ZONE, "values": list(zones)}]}]
    mode = "WaitForFirstConsumer" if waits else "Immediate"
    return {**document, "provisioner": provisioner, "volumeBindingMode": mode, "parameters": {"secret": "x"}}


def csi_node(name: str, limit: int | None = None, driver: str = DRIVER) -> Document:
    offered: Document = {"name": driver, "nodeID": name}
    if limit is not None:
        offered["allocatable"] = {"count": limit}
    document = {"apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": {"name": name}}
    return {**document, "spec": {"drivers": [offered]}}


def csi_driver(name: str = DRIVER, **spec: Any) -> Document:
    return {"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": name}, "spec": spec}


def quota(
    name: str = "quota", hard: Mapping[str, str] | None = None, used: Mapping[str, str] | None = None, **spec: Any
) -> Document:
    metadata = {"namespace": "team", "name": name}
    document = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": spec}
    return {**document, "status": {"hard": dict(hard or {}), "used": dict(used or {})}}


def as_list(*items: Document) -> Document:
    return {"apiVersion": "v1", "kind": "List", "items": list(items)}
