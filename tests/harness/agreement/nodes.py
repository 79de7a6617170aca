"""Nodes whose labels, taints and sizes lie at the edges of the rules."""

from __future__ import annotations

from harness.agreement.draws import Draws
from harness.agreement.vocabulary import CORES, DISK, GPU, HOST, HUGE_PAGES, NIC, RACK, ZONE, Document

_CPU = ("1", "2", "3900m", "4", "4", "8", "8", "7910m")
_MEMORY = ("1Gi", "2Gi", "4Gi", "4000000000", "3999999999", "8Gi", "16Gi")
_PODS = ("2", "3", "4", "5", "8", *("110",) * 15, "0")
_STORAGE = ("", "10Gi", "10G", "100Gi", "100Gi")
_EXTENDED = ("", "0", "1", "4", "8", "8")
_HUGE = ("", "0", "64Mi", "256Mi", "256Mi")
_CORES = ("4", "8", "8", "16", "08", "0", "many", "")

TAINTS: tuple[Document, ...] = (
    {"key": "dedicated", "value": "gpu", "effect": "NoSchedule"},
    {"key": "dedicated", "value": "infra", "effect": "NoSchedule"},
    {"key": "dedicated", "value": "gpu", "effect": "NoExecute"},
    {"key": "spot", "effect": "NoSchedule"},
    {"key": "spot", "value": "5", "effect": "NoSchedule"},
    {"key": "old", "value": "true", "effect": "PreferNoSchedule"},
    {"key": "drain", "effect": "NoExecute"},
)
RESTARTS_ALL = "RestartAllContainersOnContainerExits"
_CORDON: Document = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
_NOT_READY: Document = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
_EVICTING: Document = {"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}


def node_name(number: int) -> str:
    """The name of a node; the same in all states."""
    return f"n-{number:02}"


def node(draws: Draws, number: int) -> Document:
    """One node. Most have a zone, a rack and a host name; a few lack one of them."""
    name = node_name(number)
    taints = draws.some(TAINTS, least=1, most=2) if draws.chance(35) else []
    unschedulable = draws.chance(10)
    if unschedulable and draws.chance(50):
        taints.append(_CORDON)
    ready = "True"
    if draws.chance(7):
        ready = draws.one(("False", "Unknown"))
        taints += draws.one(([_NOT_READY, _EVICTING], [_NOT_READY], []))
    return {
        "metadata": {"name": name, "labels": _labels(draws, name)},
        "spec": {"taints": _distinct(taints), **({"unschedulable": True} if unschedulable else {})},
        "status": {
            "declaredFeatures": [RESTARTS_ALL] if draws.chance(60) else [],
            "allocatable": _allocatable(draws),
            "conditions": [{"type": "Ready", "status": ready, "reason": "Generated"}],
        },
    }


def _labels(draws: Draws, name: str) -> dict[str, str]:
    found = {"kubernetes.io/os": "linux"}
    if draws.chance(92):
        found[HOST] = name
    if draws.chance(85):
        found[ZONE] = draws.one(("z1", "z1", "z2", "z2", "z3"))
    if draws.chance(80):
        found[RACK] = draws.one(("r1", "r2", "r3", "r4"))
    if draws.chance(70):
        found[DISK] = draws.one(("ssd", "hdd", ""))
    if draws.chance(75):
        found[CORES] = draws.one(_CORES)
    return found


def _allocatable(draws: Draws) -> dict[str, str]:
    offered = {
        "cpu": draws.one(_CPU),
        "memory": draws.one(_MEMORY),
        "pods": draws.one(_PODS),
        "ephemeral-storage": draws.one(_STORAGE),
        GPU: draws.one(_EXTENDED),
        NIC: draws.one(_EXTENDED),
        HUGE_PAGES: draws.one(_HUGE),
    }
    return {resource: amount for resource, amount in offered.items() if amount}


def _distinct(taints: list[Document]) -> list[Document]:
    """The API server takes each pair of key and effect once."""
    return list({(taint["key"], taint["effect"]): taint for taint in taints}.values())
