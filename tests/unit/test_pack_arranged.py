"""Where arrivals land when several nodes would do: soft rules first, then the policy's tail."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from harness.facts import OPTIONS, node, packed, places, pod, snapshot
from stowage_scheduler.cluster import (
    Effect,
    NodeSelectorTerm,
    PreferredNodes,
    Requirement,
    Snapshot,
    Taint,
    Toleration,
)
from stowage_scheduler.options import Tail

SOFT = Taint("busy", Effect.PREFER_NO_SCHEDULE)
FAST = NodeSelectorTerm((Requirement("disk", "In", ("ssd",)),))
STANDING = [node("a"), node("b"), node("c"), pod("old-0", 500, on="b"), pod("old-1", 100, on="c")]


def prefers(weight: int = 1) -> dict[str, Any]:
    return {"preferred_nodes": (PreferredNodes(weight, FAST),)}


@pytest.mark.parametrize(
    ("cluster", "tail", "lands"),
    [
        pytest.param(snapshot(*STANDING, pod("new-0", 200)), Tail.SPREAD, "a", id="spread: the emptiest"),
        pytest.param(snapshot(*STANDING, pod("new-0", 200)), Tail.CONSOLIDATE, "b", id="consolidate: the fullest"),
        pytest.param(
            snapshot(node("a", 900), node("b", 800), pod("new-0", 300), pod("big-0", 500)),
            Tail.LEAST_FRAGMENTATION,
            "b",
            id="least fragmentation: what is left is of use to others",
        ),
        pytest.param(
            snapshot(node("a"), node("b", labels={"disk": "ssd"}), pod("x-0", 700, on="a"), pod("new-0", **prefers())),
            Tail.CONSOLIDATE,
            "b",
            id="preferred node affinity comes before the tail",
        ),
        pytest.param(
            snapshot(node("a", taints=(SOFT,)), node("b"), pod("x-0", 700, on="a"), pod("new-0")),
            Tail.CONSOLIDATE,
            "b",
            id="so does a taint that is to be avoided",
        ),
        pytest.param(
            snapshot(
                node("a", taints=(SOFT,)),
                node("b"),
                pod("x-0", 700, on="a"),
                pod("new-0", tolerations=(Toleration("busy", "Exists"),)),
            ),
            Tail.CONSOLIDATE,
            "a",
            id="but not for who tolerates it",
        ),
        pytest.param(
            snapshot(node("a", taints=(SOFT,)), node("b", 50), pod("new-0")), Tail.SPREAD, "a", id="soft is not hard"
        ),
    ],
)
def test_where_a_pod_lands(cluster: Snapshot, tail: Tail, lands: str) -> None:
    packing = packed(cluster, replace(OPTIONS, tail=tail))
    assert packing.faults == ()
    assert places(packing)["new-0"] == lands
