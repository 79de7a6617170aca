"""Pods that need a feature go only where the kubelet declares it."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.json import encode

from stowage_scheduler.cluster import Node, Pod
from stowage_scheduler.feasibility import feasible_nodes
from stowage_scheduler.kube.decode import decode_object
from stowage_scheduler.kube.facts import fact_of
from stowage_scheduler.options import Budget, PackOptions
from stowage_scheduler.pack import pack
from stowage_scheduler.packing import Reason
from unit.builders import node, pod, snapshot

FEATURE = "RestartAllContainersOnContainerExits"
NEEDS = {"needed_features": (FEATURE,)}


def needed(**spec: Any) -> tuple[str, ...]:
    document = {"metadata": {"name": "p", "namespace": "team"}, "spec": spec}
    fact = fact_of(decode_object("Pod", encode(document)))
    assert isinstance(fact, Pod)
    return fact.needed_features


def container(action: str | None) -> dict[str, Any]:
    rules = [] if action is None else [{"action": action, "exitCodes": {"operator": "In", "values": [42]}}]
    return {"name": "main", "restartPolicyRules": rules}


@pytest.mark.parametrize(
    ("spec", "features"),
    [
        ({"containers": [container("RestartAllContainers")]}, (FEATURE,)),
        ({"containers": [container(None)], "initContainers": [container("RestartAllContainers")]}, (FEATURE,)),
        ({"containers": [container("Restart")]}, ()),
        ({"containers": [container(None)]}, ()),
        ({"containers": [{"name": "main"}]}, ()),
    ],
    ids=["a container", "an init container", "one container restarts alone", "no rule", "nothing said"],
)
def test_rule_of_restarts_needs_a_feature(spec: dict[str, Any], features: tuple[str, ...]) -> None:
    assert needed(**spec) == features


def test_node_declares_features() -> None:
    status = {"declaredFeatures": ["Other", FEATURE]}
    fact = fact_of(decode_object("Node", encode({"metadata": {"name": "n"}, "status": status})))
    assert isinstance(fact, Node)
    assert set(fact.features) == {"Other", FEATURE}


def test_pod_goes_where_the_feature_is() -> None:
    """Beside a pod that asks for the same and needs no feature: what is remembered of one is not told of the other."""
    nodes = node("new", features=(FEATURE, "Other")), node("old", features=("Other",)), node("older")
    plain, picky = pod("plain", cpu=10), pod("picky", cpu=10, **NEEDS)
    world = snapshot(*nodes, plain, picky)
    assert feasible_nodes(world, picky) == {"new"}
    assert feasible_nodes(world, plain) == {"new", "old", "older"}
    packing = pack(world, PackOptions(), Budget(deterministic_units=0.2), seed=1, clock=lambda: 0.0)
    places = {entry.pod.name: entry.node for entry in packing.assignments}
    assert places["picky"] == "new"
    assert places["plain"] != "new"


def test_pod_without_such_a_node_is_told_so() -> None:
    world = snapshot(node("old"), pod("picky", cpu=10, **NEEDS))
    packing = pack(world, PackOptions(), Budget(deterministic_units=0.2), seed=1, clock=lambda: 0.0)
    (entry,) = packing.unplaced
    assert entry.reason is Reason.NODE_FEATURES
    assert FEATURE in entry.help
