"""Gangs that want to stand close together: in one rack, or in one if possible."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Struct

from harness.facts import node, packed, places, pod, snapshot
from stowage_scheduler.cluster import Gang, Node, Pod, Snapshot
from stowage_scheduler.gangs import GANG_GATE
from stowage_scheduler.packing import Reason

RACK, BLOCK = "rack", "block"


def racks(**cpu: tuple[int, ...]) -> list[Node]:
    """Nodes `a1`, `a2` … of rack `a`, with so much CPU each; racks a and b are in block x, all others in block y."""
    return [
        node(f"{rack}{number}", size, labels={RACK: rack, BLOCK: "x" if rack in "ab" else "y"})
        for rack, sizes in cpu.items()
        for number, size in enumerate(sizes, 1)
    ]


def ring(size: int, cpu: int = 600, on: tuple[str, ...] = (), **topology: tuple[str, ...]) -> list[Pod]:
    """A gang, some of whose pods run."""
    usual: dict[str, Any] = {"gang": Gang("ring", size, **topology)}
    running = [pod(f"ring-{number}", cpu, at, **usual) for number, at in enumerate(on)]
    waiting = [pod(f"ring-{number}", cpu, gates=(GANG_GATE,), **usual) for number in range(len(on), size)]
    return running + waiting


class Case(Struct, frozen=True):
    """A cluster, the racks in which the gang ends, and how many pods move for it."""

    cluster: Snapshot
    racks: set[str]
    reason: Reason | None = None
    moves: int = 0


ONE_RACK = {"required": (RACK,)}
IF_POSSIBLE = {"preferred": (RACK,)}

TABLE = {
    "the rack that has room for all of it": Case(
        snapshot(*racks(a=(1000,), b=(1000, 1000), c=(1000,)), *ring(2, **ONE_RACK)), {"b"}
    ),
    "no rack has room for all of it": Case(
        snapshot(*racks(a=(1000,), b=(1000,)), *ring(2, **ONE_RACK)), set(), Reason.GANG_TOPOLOGY
    ),
    "room is made in one rack": Case(
        snapshot(*racks(a=(1000, 1000), b=(600,)), pod("web-0", 500, on="a2"), *ring(2, **ONE_RACK)), {"a"}, moves=1
    ),
    "nodes without the label are no rack": Case(
        snapshot(node("n1"), node("n2"), *ring(2, **ONE_RACK)), set(), Reason.GANG_TOPOLOGY
    ),
    "it follows its pods that run": Case(
        snapshot(*racks(a=(1000, 1000), b=(1000, 1000, 1000)), *ring(2, on=("a1",), **ONE_RACK)), {"a"}
    ),
    "a gang that runs apart is not completed": Case(
        snapshot(*racks(a=(1000, 1000), b=(1000, 1000)), *ring(3, on=("a1", "b1"), **ONE_RACK)),
        {"a", "b"},
        Reason.GANG_TOPOLOGY,
    ),
    "the cluster is too small, wherever": Case(
        snapshot(*racks(a=(500,), b=(500,)), *ring(2, **ONE_RACK)), set(), Reason.INSUFFICIENT_CPU
    ),
    "one rack is preferred": Case(
        snapshot(*racks(a=(1000,), b=(1000, 1000), c=(1000,)), *ring(2, **IF_POSSIBLE)), {"b"}
    ),
    "but is no condition": Case(snapshot(*racks(a=(1000,), b=(1000,)), *ring(2, **IF_POSSIBLE)), {"a", "b"}),
    "one rack if possible, one block in any case": Case(
        snapshot(*racks(a=(1000,), b=(1000,), c=(1000,)), *ring(2, required=(BLOCK,), preferred=(RACK,))), {"a", "b"}
    ),
    "the fullest rack that has room, so that others stay whole": Case(
        snapshot(*racks(a=(1000,) * 4, b=(1000, 1000)), *ring(2, **ONE_RACK)), {"b"}
    ),
}


@pytest.mark.parametrize("case", TABLE.values(), ids=TABLE.keys())
def test_topology(case: Case) -> None:
    packing = packed(case.cluster)
    assert packing.faults == ()
    ends = {target[0] for name, target in places(packing).items() if name.startswith("ring")}
    assert ends == case.racks
    assert {entry.reason for entry in packing.unplaced} == ({case.reason} if case.reason else set())
    assert all(entry.help for entry in packing.unplaced)
    assert len(packing.moves) == case.moves


def test_the_help_names_the_best_rack_and_what_it_lacks() -> None:
    cluster = snapshot(*racks(a=(1000,), b=(1000, 1000), c=(1000, 1000)), *ring(3, **ONE_RACK))
    [words] = {entry.help for entry in packed(cluster).unplaced}
    assert "in the best, b, 2 of its 3 waiting pods would fit: it needs 1 more node with 600m cpu free there" in words


def test_a_wide_gang_gets_a_rack_emptied() -> None:
    nodes = racks(a=(1000,) * 6, b=(1000,) * 6, c=(1000,) * 6)
    small = [pod(f"web-{number}", 500, on=one.name) for number, one in enumerate(nodes) if number % 2]
    packing = packed(snapshot(*nodes, *small, *ring(6, 900, **ONE_RACK)))
    assert len({target[0] for name, target in places(packing).items() if name.startswith("ring")}) == 1
    assert len(packing.moves) == 3


def test_a_member_on_its_way_out_does_not_decide_where_the_others_go() -> None:
    gone = pod("ring-9", 100, "a1", gang=Gang("ring", 2, (RACK,)), disruption_target=True)
    packing = packed(snapshot(*racks(a=(100,), b=(1200,)), gone, *ring(2, **ONE_RACK)))
    assert {target for name, target in places(packing).items() if name in {"ring-0", "ring-1"}} == {"b1"}


@pytest.mark.parametrize(
    ("nodes", "on"),
    [
        pytest.param([node("n", 2000), *racks(a=(2000,))], ("n",), id="on a node of no rack"),
        pytest.param(racks(a=(2000,)), ("gone",), id="on a node that is not there any more"),
        pytest.param(racks(a=(2000,), c=(2000,)), ("a1", "c1"), id="in two racks"),
    ],
)
@pytest.mark.parametrize("elastic", [False, True])
def test_a_gang_that_runs_outside_of_one_rack_waits_and_keeps_nobody_else_waiting(
    nodes: list[Node], on: tuple[str, ...], elastic: bool
) -> None:
    gang = ring(4, 100, on, required=(RACK,), elastic=elastic)
    packing = packed(snapshot(*nodes, *gang, pod("web-1", 100)))
    assert packing.faults == ()
    assert places(packing).get("web-1") is not None
    assert {entry.reason for entry in packing.unplaced} == {Reason.GANG_TOPOLOGY}
    assert f"gang ring runs on {', '.join(on)}" in packing.unplaced[0].help


def test_a_gang_without_topology_may_have_a_pod_on_a_node_that_is_not_there_any_more() -> None:
    packing = packed(snapshot(node("a", 1000), *ring(3, 100, ("gone",))))
    assert [places(packing).get(f"ring-{number}") for number in (1, 2)] == ["a", "a"]
