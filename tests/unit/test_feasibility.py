"""Which nodes could take one pod while all else stays as it is."""

from __future__ import annotations

from typing import Any

import pytest

from stowage_scheduler.cluster import (
    Effect,
    Gang,
    HostPort,
    LabelSelector,
    Pod,
    PodAffinityTerm,
    Snapshot,
    SpreadConstraint,
    Taint,
    Toleration,
)
from stowage_scheduler.feasibility import feasible_nodes
from stowage_scheduler.kube.malformed import FieldError, rejection
from stowage_scheduler.options import PackOptions
from unit.builders import node, pod, snapshot

ZONE, WEB = "zone", LabelSelector((("app", "web"),))
PORT = HostPort("TCP", "0.0.0.0", 80)
TAINT = Taint("dedicated", Effect.NO_SCHEDULE, "gpu")
NODES = (
    node("a", labels={ZONE: "z1"}),
    node("b", labels={ZONE: "z1"}, taints=(TAINT,)),
    node("c", labels={ZONE: "z2"}),
    node("d", unschedulable=True),
    node("e", ready=False, labels={ZONE: "z3"}),
)
DB = LabelSelector((("app", "db"),))
RESIDENTS = (
    pod("db", "a", cpu=6, app="db", host_ports=(PORT,)),
    pod("old", "c", cpu=9, app="db", phase="Succeeded"),
)


def seeker(**fields: Any) -> Pod:
    return pod("seeker", **{"cpu": 1, **fields})


@pytest.mark.parametrize(
    ("fields", "nodes"),
    [
        ({}, "ac"),
        ({"cpu": 4}, "ac"),
        ({"cpu": 5}, "c"),
        ({"cpu": 11}, ""),
        ({"tolerations": (Toleration("dedicated", "Exists"),)}, "abc"),
        ({"tolerations": (Toleration("", "Exists"),)}, "abcd"),
        ({"node_selector": {ZONE: "z1"}}, "a"),
        ({"host_ports": (PORT,)}, "c"),
        ({"affinity_terms": (PodAffinityTerm(ZONE, DB, ("team",)),)}, "a"),
        ({"anti_affinity_terms": (PodAffinityTerm(ZONE, DB, ("team",)),)}, "c"),
        ({"anti_affinity_terms": (PodAffinityTerm(ZONE, WEB, ("team",)),)}, "ac"),
        ({"spread": (SpreadConstraint(ZONE, 1, DB),), "labels": {"app": "db"}}, "c"),
    ],
    ids=[
        "asks for little",
        "fits exactly",
        "fits beside nobody who runs",
        "fits nowhere",
        "tolerates one taint",
        "tolerates cordons too, but a node that is not Ready stays out",
        "selects nodes",
        "port is taken",
        "wants company",
        "stays away from others",
        "stays away from pods like itself, of which there is none yet",
        "spreads",
    ],
)
def test_nodes_that_could_take_a_pod(fields: dict[str, Any], nodes: str) -> None:
    waiting = seeker(**fields)
    world = snapshot(*NODES, *RESIDENTS, waiting)
    assert feasible_nodes(world, waiting) == frozenset(nodes)
    assert feasible_nodes(snapshot(*NODES, *RESIDENTS), waiting) == frozenset(nodes)  # need not be known


def test_pod_that_runs_is_thought_away() -> None:
    """So that it meets neither its own room nor its own port; its node is no news."""
    term = PodAffinityTerm(ZONE, WEB, ("team",))
    runs = pod("runs", "a", cpu=6, host_ports=(PORT,), anti_affinity_terms=(term,))
    assert feasible_nodes(snapshot(*NODES, runs), runs) == {"c"}
    beside = node("a2", labels={ZONE: "z1"})
    assert feasible_nodes(snapshot(*NODES, beside, runs), runs) == {"a2", "c"}


def test_pods_that_leave_hold_their_room() -> None:
    leaving = pod("leaving", "c", cpu=8, terminating=True)
    waiting = seeker(cpu=3)
    assert feasible_nodes(snapshot(*NODES, *RESIDENTS, leaving, waiting), waiting) == {"a"}


def test_pods_that_wait_hold_none_unless_they_are_nominated() -> None:
    waiting = seeker(cpu=3)
    other = pod("other", cpu=9)
    nominated = pod("nominated", cpu=9, nominated_node="c")
    assert feasible_nodes(snapshot(*NODES, *RESIDENTS, other, waiting), waiting) == {"a", "c"}
    assert feasible_nodes(snapshot(*NODES, *RESIDENTS, nominated, waiting), waiting) == {"a"}
    assert feasible_nodes(snapshot(*NODES, *RESIDENTS, nominated), nominated) == {"c"}


def test_node_with_a_pod_that_could_not_be_read_takes_nothing() -> None:
    waiting = seeker()
    world = snapshot(*NODES, waiting)
    unread = rejection("Pod", "team/broken", FieldError("spec", "?", "it must be readable"), "c")
    closed = Snapshot(world.now, world.nodes, world.pods, rejected=(unread,))
    assert feasible_nodes(closed, waiting) == {"a"}


@pytest.mark.parametrize(
    "options",
    [PackOptions(nodes=frozenset({"c", "gone"})), PackOptions(node_selector={ZONE: "z2"})],
    ids=["by name", "by label"],
)
def test_options_say_which_nodes_are_looked_at(options: PackOptions) -> None:
    waiting = seeker()
    assert feasible_nodes(snapshot(*NODES, waiting), waiting, options) == {"c"}


def test_what_speaks_of_plans_says_nothing_of_nodes() -> None:
    waiting = seeker(gang=Gang("gang", 2), scheduler_name="another", gates=("gate",))
    options = PackOptions(scheduler_names=("stowage",), max_moves=0, evict_lower_priority=False)
    assert feasible_nodes(snapshot(*NODES, waiting), waiting, options) == {"a", "c"}
