"""Short ways to ask what a pod learns from volumes: nodes of two zones, and local volumes that nobody makes."""

from __future__ import annotations

import json

from harness.volume_documents import (
    DRIVER,
    Document,
    as_list,
    claim,
    csi_node,
    node,
    on_host,
    storage_class,
    volume,
)
from stowage_scheduler.cluster import ATTACHMENTS, Pod, Snapshot
from stowage_scheduler.kube.dump import read_dump
from stowage_scheduler.kube.volume_matching import volumes_admit

NODES = (node("a", zone="a"), node("b", zone="b"), node("plain"))
EVERYWHERE = {"a", "b", "plain"}
RESOURCE = ATTACHMENTS + DRIVER
IMMEDIATE = storage_class("immediate", waits=False)
LIMIT = [csi_node("a", 3), csi_node("b")]
MANY = ("ReadWriteMany",)
BY_HAND = storage_class("by-hand", provisioner="kubernetes.io/no-provisioner")


def snapshot(*items: Document) -> Snapshot:
    return read_dump(json.dumps(as_list(*NODES, *items)).encode()).snapshot


def resolved(*items: Document, name: str = "p") -> Pod:
    found = snapshot(*items)
    assert not found.rejected
    return next(one for one in found.pods if one.name == name)


def admitting(*items: Document, name: str = "p") -> set[str]:
    """The nodes on which the pod's volumes can be used."""
    found = snapshot(*items)
    one = next(one for one in found.pods if one.name == name)
    assert not one.volume_obstacle
    assert not one.unmodelled
    return {node.name for node in found.nodes if volumes_admit(one.volume_needs, node)}


def free(name: str, host: str, **fields: object) -> Document:
    """A local volume that nobody has."""
    parts: Document = {"local": {"path": "/x"}, "driver": None, "phase": "Available", "storage_class": "by-hand"}
    return volume(name, **{"affinity": on_host(host), **parts, **fields})


def wish(name: str = "c", **fields: object) -> Document:
    """A claim for a volume that nobody makes."""
    parts: Document = {"storage_class": "by-hand"}
    return claim(name, **{**parts, **fields})
