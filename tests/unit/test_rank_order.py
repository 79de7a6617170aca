"""Which pod of a gang gets which place: neighbours in rank on one node, else in one rack."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

from harness.facts import node, packed, places, pod, snapshot
from stowage_scheduler.cluster import Gang, Node, OwnerRef, Pod, Snapshot
from stowage_scheduler.gangs import RANK_ORDER, rank_of
from stowage_scheduler.rank_order import Seat, arranged, distance, neighbour_distance
from stowage_scheduler.slots import slot_class

RACK, ZONE = "topology.kubernetes.io/rack", "topology.kubernetes.io/zone"


def member(name: str, rank: object = None, cpu: int = 500, on: str | None = None, **more: Any) -> Pod:
    notes = {} if rank is None else {"annotations": {RANK_ORDER: str(rank)}}
    return pod(name, cpu, on=on, **{"gang": Gang("ring", 1), **notes, **more})


def racks(**nodes: str) -> list[Node]:
    """Nodes for two pods each, by name, with their racks."""
    return [node(name, labels={RACK: rack}) for name, rack in nodes.items()]


@dataclass(frozen=True)
class Case:
    """A cluster, and the order of nodes (or the ranks that come) as the ranks go up."""

    cluster: Snapshot
    neighbours: int
    placed: dict[str, str] = field(default_factory=dict)


SHUFFLED = (3, 0, 2, 1)

TABLE = {
    "two nodes of two": Case(snapshot(*racks(a="x", b="x"), *(member(f"p-{n}", n) for n in SHUFFLED)), 1),
    "four nodes in two racks that are told apart by the annotation of the gang": Case(
        snapshot(
            *(node(name, labels={"block": "b", "rack": rack}) for name, rack in zip("abcd", "xyxy", strict=True)),
            *(member(f"p-{n}", n, 900, gang=Gang("ring", 1, (), ("block", "rack"))) for n in SHUFFLED),
        ),
        1 + 2 + 1,
    ),
    "four nodes in two racks": Case(
        snapshot(*racks(a="x", b="y", c="x", d="y"), *(member(f"p-{n}", n, 900) for n in SHUFFLED)), 1 + 2 + 1
    ),
    "ranks need not begin at zero, nor follow each other closely": Case(
        snapshot(*racks(a="x", b="x"), *(member(f"p-{n}", 7 * n - 9) for n in SHUFFLED)), 1
    ),
    "by label": Case(
        snapshot(*racks(a="x", b="x"), *(member(f"p-{n}", labels={RANK_ORDER: str(n)}) for n in SHUFFLED)), 1
    ),
    "pods that run stay, and the others gather around them": Case(
        snapshot(
            *racks(a="x", b="x"),
            member("p-1", 1, on="b"),
            *(member(f"p-{n}", n) for n in (3, 0, 2)),
        ),
        1,
        {"p-0": "b", "p-2": "a", "p-3": "a"},
    ),
    "pods of two sizes": Case(
        snapshot(
            node("a", 900, labels={RACK: "x"}), node("b", 900, labels={RACK: "x"}),
            *(member(f"p-{n}", n, 300) for n in (3, 0)), *(member(f"p-{n}", n, 600) for n in (2, 1)),
        ),
        1,
    ),
    "the lowest ranks come where not all can": Case(
        snapshot(*racks(a="x"), *(member(f"p-{n}", n, gang=Gang("ring", 2, elastic=True)) for n in (3, 0, 2, 1))),
        0,
        {"p-0": "a", "p-1": "a"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLE.values(), ids=TABLE.keys())
def test_neighbours(case: Case) -> None:
    packing = packed(case.cluster)
    assert packing.faults == ()
    at = places(packing)
    known = {one.name: one.labels for one in case.cluster.nodes}
    levels = ("block", "rack") if "rack" in known["a"] else (RACK,)
    paths = {name: (*(known[name].get(level, "") for level in levels), name) for name in known}
    ranked = sorted((one for one in case.cluster.pods if one.name in at), key=lambda one: rank_of(one) or 0)
    assert sum(distance(paths[at[a.name]], paths[at[b.name]]) for a, b in pairwise(ranked)) == case.neighbours
    assert case.placed.items() <= at.items()
    if case.placed:
        assert {name for name in at if name not in case.placed} <= {one.name for one in ranked if one.node}


def test_pods_without_a_rank_take_what_is_left() -> None:
    """And a rank that nobody can read is none."""
    ranked = [member(f"p-{n}", n) for n in (1, 0)]
    others = [member("p-8"), member("p-9", "second")]
    at = places(packed(snapshot(*racks(a="x", b="x"), *ranked, *others)))
    assert at["p-0"] == at["p-1"]
    assert at["p-8"] == at["p-9"]


RANKS = {
    "a number": ("3", 3),
    "below zero": ("-3", -3),
    "none": ("", None),
    "words": ("first", None),
    "a sign alone": ("-", None),
    "a fraction": ("1.5", None),
    "too large": (str(2**31), None),
    "digits of another script": ("٣", None),
    "spaces": (" 3", None),
}


@pytest.mark.parametrize(("text", "rank"), RANKS.values(), ids=RANKS.keys())
def test_what_a_rank_is(text: str, rank: int | None) -> None:
    assert rank_of(member("p-1", text)) == rank


def test_an_annotation_comes_before_a_label() -> None:
    assert rank_of(member("p-1", 3, labels={RANK_ORDER: "5"})) == 3


def test_a_place_of_a_ranked_pod_is_for_it_alone() -> None:
    """Slots of one class are interchangeable, so a pod of a gang with a rank has a class of its own."""
    owner = OwnerRef("Job", "train", "uid-train")
    one, other = (member(f"train-{n}", n, owner=owner) for n in range(2))
    assert slot_class(one) != slot_class(other)
    assert slot_class(member("train-0", owner=owner)) == slot_class(member("train-1", owner=owner))
    alone = [member(f"train-{n}", n, owner=owner, gang=None) for n in range(2)]
    assert slot_class(alone[0]) == slot_class(alone[1])


def test_many_ranks_beside_pods_that_run_are_dealt_out_by_swaps() -> None:
    """Too many states to look at all: 8 nodes of 8 pods, one of them in the middle of the order stands already."""
    nodes = [(f"rack{number // 4}", f"n{number}") for number in range(8)]
    free = {0: Counter({path: 8 - (path == nodes[5]) for path in nodes})}
    seats = [Seat(nodes[5]) if number == 31 else Seat() for number in range(64)]
    found = arranged(seats, free)
    assert found[31] == nodes[5]
    begin = iter(sorted(free[0].elements()))
    sorted_places = [seat.path or next(begin) for seat in seats]
    assert neighbour_distance(found) < neighbour_distance(sorted_places)
    assert Counter(found) == free[0] + Counter([nodes[5]])
