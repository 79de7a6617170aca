"""The few words that all generated objects share, so that they meet often."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]

SCHEDULER = "agreement"
ZONE = "topology.kubernetes.io/zone"
HOST = "kubernetes.io/hostname"
RACK = "example.com/rack"
NOWHERE = "example.com/on-no-node"
DISK = "disk"
CORES = "cores"
TOPOLOGY_KEYS = (ZONE, ZONE, ZONE, HOST, HOST, RACK, RACK, DISK, NOWHERE)

NAMESPACES: dict[str, dict[str, str]] = {
    "team-a": {"env": "prod", "tier": "gold"},
    "team-b": {"env": "test"},
    "infra": {"env": "prod", "kind": "system"},
    "plain": {},
}
POD_NAMESPACES = ("team-a", "team-a", "team-a", "team-b", "infra", "plain")

APPS = ("web", "web", "db", "cache")
VERSIONS = ("v1", "v1", "v2")

GPU = "example.com/gpu"
NIC = "example.com/nic"
HUGE_PAGES = "hugepages-2Mi"

RUNTIME_CLASSES: dict[str, dict[str, str]] = {
    "sandboxed": {"cpu": "250m", "memory": "128Mi"},
    "heavy": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi"},
    "free": {},
}


def runtime_class(name: str) -> Document:
    """A RuntimeClass; the API server copies its overhead into pods."""
    overhead = {"overhead": {"podFixed": RUNTIME_CLASSES[name]}} if RUNTIME_CLASSES[name] else {}
    return {"metadata": {"name": name}, "handler": name, **overhead}


def namespace(name: str) -> Document:
    """A Namespace."""
    return {"metadata": {"name": name, "labels": NAMESPACES[name]}}


def service_account(namespace: str) -> Document:
    """The account that pods have without saying so; no controller makes it here."""
    return {"metadata": {"name": "default", "namespace": namespace}}
