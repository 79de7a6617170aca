"""Ranks of a gang side by side: against trying every way to deal out the places."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from itertools import pairwise, permutations, product
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.facts import node, packed, places, pod, snapshot
from stowage_scheduler import rank_order
from stowage_scheduler.cluster import Gang, Node, Pod, Snapshot
from stowage_scheduler.options import Budget
from stowage_scheduler.rank_order import Path, Seat, arranged, distance, neighbour_distance

PATHS = st.tuples(st.sampled_from("xy"), st.sampled_from("ab"), st.sampled_from("123")).map(
    lambda path: (path[0], path[0] + path[1], "".join(path))
)
SEATS = st.one_of(st.builds(Seat, kind=st.integers(0, 1)), st.builds(Seat, path=PATHS))


@st.composite
def deals(draw: st.DrawFn) -> tuple[list[Seat], dict[int, Counter[Path]]]:
    """Up to six seats, some of them taken already, and a place or more for each that is not."""
    seats = draw(st.lists(SEATS, min_size=1, max_size=6))
    wanted = Counter(seat.kind for seat in seats if seat.path is None)
    more = draw(st.integers(0, 1))
    return seats, {
        kind: Counter(draw(st.lists(PATHS, min_size=count + more, max_size=count + more)))
        for kind, count in wanted.items()
    }


def ways(seats: list[Seat], free: dict[int, Counter[Path]]) -> set[tuple[Path, ...]]:
    """Every way to give each seat a place of its class."""
    orders = [[(kind, order) for order in permutations(sorted(paths.elements()))] for kind, paths in free.items()]
    result: set[tuple[Path, ...]] = set()
    for chosen in product(*orders):
        left = {kind: iter(order) for kind, order in chosen}
        result.add(tuple(seat.path if seat.path is not None else next(left[seat.kind]) for seat in seats))
    return result


def fits(seats: list[Seat], free: dict[int, Counter[Path]], found: list[Path]) -> bool:
    """Whether each seat has its own place, or one of its class that nobody else has."""
    if len(found) != len(seats) or any(s.path not in (None, p) for s, p in zip(seats, found, strict=True)):
        return False
    return all(
        Counter(p for s, p in zip(seats, found, strict=True) if s.path is None and s.kind == kind) <= paths
        for kind, paths in free.items()
    )


@settings(max_examples=150, deadline=None)
@given(deals())
def test_no_other_way_to_deal_out_the_places_has_nearer_neighbours(
    deal: tuple[list[Seat], dict[int, Counter[Path]]],
) -> None:
    seats, free = deal
    found = arranged(seats, free)
    assert fits(seats, free, found)
    assert neighbour_distance(found) == min(map(neighbour_distance, ways(seats, free)))


@settings(max_examples=100, deadline=None)
@given(deals())
def test_swaps_keep_to_the_places_and_never_end_worse_than_they_began(
    deal: tuple[list[Seat], dict[int, Counter[Path]]],
) -> None:
    seats, free = deal
    rest = {kind: iter(sorted(paths.elements())) for kind, paths in free.items()}
    begin = [seat.path if seat.path is not None else next(rest[seat.kind]) for seat in seats]
    with patch.object(rank_order, "_MOST_STATES", 0):
        found = arranged(seats, free)
    assert fits(seats, free, found)
    assert neighbour_distance(found) <= neighbour_distance(begin)


@given(PATHS, PATHS, PATHS)
def test_distances_are_those_in_a_tree(one: Path, other: Path, third: Path) -> None:
    assert (distance(one, other) == 0) == (one == other)
    assert distance(one, other) == distance(other, one)
    assert distance(one, third) <= max(distance(one, other), distance(other, third))


@st.composite
def clusters(draw: st.DrawFn) -> Snapshot:
    """A few nodes in racks and zones, and a gang of pods of one or two sizes that fits somehow."""
    nodes: list[Node] = []
    for number in range(draw(st.integers(2, 5))):
        zone, rack = draw(st.sampled_from("xy")), draw(st.sampled_from("ab"))
        labels = {"topology.kubernetes.io/zone": zone, "topology.kubernetes.io/rack": zone + rack}
        nodes.append(node(f"n{number}", draw(st.integers(2, 4)) * 100, labels=labels))
    count = draw(st.integers(2, 6))
    ranks = draw(st.permutations(range(count)))
    pods: list[Pod] = []
    for number, rank in enumerate(ranks):
        notes: dict[str, Any] = {"annotations": {"stowage.dev/rank-order": str(rank)}}
        if draw(st.booleans()):
            notes = {"labels": {"stowage.dev/rank-order": str(rank)}}
        gang = Gang("ring", count, elastic=True)
        pods.append(pod(f"ring-{number}", draw(st.sampled_from([100, 100, 200])), gang=gang, **notes))
    return snapshot(*nodes, *pods)


@settings(max_examples=60, deadline=None)
@given(clusters())
def test_a_plan_puts_neighbours_as_near_as_its_places_allow(cluster: Snapshot) -> None:
    packing = packed(cluster, budget=Budget(deterministic_units=0.5))
    assert packing.faults == ()
    at = places(packing)
    by_name = {one.name: one for one in cluster.nodes}
    levels = ("topology.kubernetes.io/zone", "topology.kubernetes.io/rack")

    def path(name: str) -> Path:
        return (*(by_name[name].labels[level] for level in levels), name)

    ranked = sorted(
        (one for one in cluster.pods if one.name in at),
        key=lambda one: int({**one.labels, **one.annotations}["stowage.dev/rank-order"]),
    )
    found = [path(at[one.name]) for one in ranked]
    least = len(found) * 10
    sizes = [one.requests["cpu"] for one in ranked]
    for order in set(permutations(range(len(ranked)))):
        if all(sizes[place] == sizes[number] for number, place in enumerate(order)):
            least = min(least, sum(distance(found[a], found[b]) for a, b in pairwise(order)))
    assert sum(distance(a, b) for a, b in pairwise(found)) <= least or not found


@settings(max_examples=300, deadline=None)
@given(PATHS, st.lists(PATHS, min_size=1, max_size=8).map(sorted))
def test_the_nearest_place_is_the_first_of_the_nearest_ones(place: Path, others: list[Path]) -> None:
    nearest = min(others, key=lambda other: (distance(place, other), other))

    assert others[rank_order._nearest_to(place, others)] == nearest


def test_a_gang_of_many_pods_is_dealt_out_without_looking_at_all_pairs_and_states() -> None:
    pods, nodes = 1_500, 250
    begin = ("x", "x000")
    free = {0: Counter({(f"{number % 5}", f"n{number:03}"): pods // nodes for number in range(nodes)})}
    seats = [Seat(begin), *[Seat(kind=0)] * pods]

    tracemalloc.start()
    found = arranged(seats, free)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert fits(seats, free, found)
    assert neighbour_distance(found) == 2 * 5 + (nodes - 5)  # each zone and each node is entered once
    assert most < 20 << 20, "bytes: all pairs of pods take a hundred MiB"
