"""Where pods land by soft rules between pods, wished spread and images, when several nodes would do."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from harness.facts import OPTIONS, gang, node, packed, places, pod, snapshot
from stowage_scheduler.cluster import (
    LabelSelector,
    Node,
    NodeSelectorTerm,
    PodAffinityTerm,
    PreferredNodes,
    Requirement,
    Snapshot,
    SpreadConstraint,
    WeightedPodTerm,
)
from stowage_scheduler.images import image_list
from stowage_scheduler.options import Tail

DB = LabelSelector((("app", "db"),))
WEB = LabelSelector((("app", "web"),))
MB = 1024 * 1024


def zoned(name: str, zone: str, cpu: int = 1000, **more: Any) -> Node:
    return node(name, cpu, labels={"zone": zone, "host": name}, **more)


def likes(selector: LabelSelector, weight: int = 50, key: str = "zone", **more: Any) -> dict[str, Any]:
    term = PodAffinityTerm(key, selector, **{"namespaces": ("default",), **more})
    return {"preferred_pods": (WeightedPodTerm(weight, term),)}


def spreads(key: str = "zone", selector: LabelSelector = WEB) -> dict[str, Any]:
    return {"preferred_spread": (SpreadConstraint(key, 1, selector),), "labels": {"app": "web"}}


def is_a(app: str) -> dict[str, Any]:
    return {"labels": {"app": app}}


ZONES = [zoned("a", "east"), zoned("b", "west")]
DB_IN_EAST = pod("db-0", 500, on="a", **is_a("db"))
DB_IN_WEST = pod("db-0", 100, on="b", **is_a("db"))
BIG, COMMON = 1, 2  # images
IMAGE = image_list([(BIG, 800 * MB)])


@pytest.mark.parametrize(
    ("cluster", "lands"),
    [
        pytest.param(snapshot(*ZONES, DB_IN_EAST, pod("new-0", **likes(DB))), "a", id="beside whom it likes"),
        pytest.param(snapshot(*ZONES, DB_IN_WEST, pod("new-0", **likes(DB))), "b", id="the same the other way round"),
        pytest.param(snapshot(*ZONES, DB_IN_WEST, pod("new-0", **likes(DB, -1))), "a", id="away from whom it avoids"),
        pytest.param(
            snapshot(*ZONES, replace(DB_IN_WEST, **likes(WEB)), pod("new-0", **is_a("web"))),
            "b",
            id="beside who likes it",
        ),
        pytest.param(
            snapshot(*ZONES, replace(DB_IN_WEST, **likes(WEB, -1)), pod("new-0", **is_a("web"))),
            "a",
            id="away from who avoids it",
        ),
        pytest.param(
            snapshot(
                *ZONES,
                pod("x-0", 500, on="a"),
                replace(DB_IN_WEST, affinity_terms=(PodAffinityTerm("zone", WEB, ("default",)),)),
                pod("new-0", **is_a("web")),
            ),
            "b",
            id="beside who needs it, a little",
        ),
        pytest.param(
            snapshot(*ZONES, replace(DB_IN_WEST, namespace="far"), pod("x-0", 500, on="a"), pod("new-0", **likes(DB))),
            "a",
            id="nobody of another namespace",
        ),
        pytest.param(
            snapshot(
                *ZONES,
                replace(DB_IN_WEST, namespace="far"),
                pod("new-0", **likes(DB, namespaces=(), namespace_selector=LabelSelector((("team", "x"),)))),
                namespace_labels={"far": {"team": "x"}},
            ),
            "b",
            id="unless its namespace is selected",
        ),
        pytest.param(
            snapshot(*ZONES, replace(DB_IN_WEST, terminating=True), pod("new-0", **likes(DB))),
            "b",
            id="who is going counts as company",
        ),
        pytest.param(
            snapshot(*ZONES, pod("old-0", 500, on="a", **is_a("web")), pod("new-0", **spreads())),
            "b",
            id="spread: where fewer are",
        ),
        pytest.param(
            snapshot(*ZONES, pod("old-0", on="b", terminating=True, **is_a("web")), pod("new-0", **spreads())),
            "b",
            id="spread: who is going does not count",
        ),
        pytest.param(
            snapshot(node("a"), zoned("b", "west"), pod("x-0", 500, on="a"), pod("new-0", **spreads())),
            "b",
            id="spread: a node without the label is the last to take",
        ),
        pytest.param(
            snapshot(*ZONES, pod("old-0", 950, on="a", **is_a("web")), pod("new-0", **spreads("zone", DB))),
            "b",
            id="spread over others counts others",
        ),
        pytest.param(
            snapshot(node("a"), node("b", images=IMAGE), pod("x-0", 500, on="a"), pod("new-0", images=(BIG,))),
            "b",
            id="image: a node that has it",
        ),
        pytest.param(
            snapshot(node("a"), node("b", images=image_list([(BIG, 20 * MB)])), pod("x-0", 500, on="a"), pod("new-0")),
            "a",
            id="image: too small to matter",
        ),
        pytest.param(
            snapshot(
                *(node(name, images=image_list([(COMMON, 300 * MB)])) for name in "acde"),
                node("b", images=IMAGE),
                pod("x-0", 500, on="b"),
                pod("new-0", images=(COMMON, BIG)),
            ),
            "a",
            id="image: what few nodes have counts less",
        ),
        pytest.param(
            snapshot(zoned("a", "east"), zoned("b", "west", 50), DB_IN_WEST, pod("new-0", **likes(DB))),
            "a",
            id="soft is not hard",
        ),
    ],
)
def test_where_a_pod_lands(cluster: Snapshot, lands: str) -> None:
    packing = packed(cluster, replace(OPTIONS, tail=Tail.CONSOLIDATE))
    assert packing.faults == ()
    assert places(packing)["new-0"] == lands


@pytest.mark.parametrize("tail", list(Tail))
def test_two_that_came_to_the_wrong_nodes_change_places(tail: Tail) -> None:
    """Both nodes are full, so nobody can be shifted alone."""
    cluster = snapshot(
        zoned("a", "east", 500),
        zoned("b", "west", 500),
        pod("db-0", 100, on="a", **is_a("db")),
        pod("cache-0", 100, on="b", **is_a("cache")),
        pod("x-0", 400, **likes(DB)),
        pod("y-0", 400, **likes(LabelSelector((("app", "cache"),)))),
    )
    found = places(packed(cluster, replace(OPTIONS, tail=tail)))
    assert (found["x-0"], found["y-0"]) == ("a", "b")


def test_a_plain_spread_is_even() -> None:
    pods = [pod(f"web-{number}", **spreads("host")) for number in range(6)]
    cluster = snapshot(*(zoned(name, "east") for name in "abc"), *pods)
    found = places(packed(cluster, replace(OPTIONS, tail=Tail.CONSOLIDATE)))
    assert sorted(found.values()) == ["a", "a", "b", "b", "c", "c"]


def test_nobody_moves_for_a_soft_rule() -> None:
    running = pod("web-0", 100, on="b", **likes(DB))
    packing = packed(snapshot(*ZONES, DB_IN_EAST, running, pod("new-0")))
    assert packing.moves == ()


def test_a_gang_stays_where_its_topology_was_chosen() -> None:
    members = gang("g", 2, 500, **likes(DB))
    cluster = snapshot(zoned("a", "east", 500), zoned("b", "west"), pod("db-0", 100, on="a", **is_a("db")), *members)
    assert {places(packed(cluster))[member.name] for member in members} == {"b"}


@pytest.mark.parametrize(
    ("crowd", "weight"),
    [
        pytest.param(1, 50, id="one that it likes is worth less than the nodes that it likes"),
        pytest.param(9, 25, id="nine are not worth nine times as much: two fair shares of them stand there"),
    ],
)
def test_weights_of_different_rules_are_on_one_scale(crowd: int, weight: int) -> None:
    fast = PreferredNodes(60, NodeSelectorTerm((Requirement("disk", "In", ("ssd",)),)))
    cluster = snapshot(
        zoned("a", "east"),
        node("b", labels={"zone": "west", "disk": "ssd"}),
        *(pod(f"db-{number}", 10, on="a", **is_a("db")) for number in range(crowd)),
        pod("new-0", preferred_nodes=(fast,), **likes(DB, weight)),
    )
    assert places(packed(cluster))["new-0"] == "b"
