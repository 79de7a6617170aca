"""Teams that share the nodes: who is within the share, and who gets a place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from harness.facts import OPTIONS, gang, node, packed, places, pod, snapshot
from stowage_scheduler.cluster import LabelSelector, Pod, Requirement, Snapshot
from stowage_scheduler.fairness import Pool, Unit, by_priority, tier, within_share
from stowage_scheduler.teams import Membership, Team

GPU = "nvidia.com/gpu"


def team(name: str, weight: int = 1) -> Team:
    return Team(name, LabelSelector((("team", name),)), weight)


def of(name: str) -> dict[str, Any]:
    return {"labels": {"team": name}}


def fair(*teams: Team) -> Any:
    return replace(OPTIONS, teams=teams)


def placed(cluster: Snapshot, *teams: Team) -> Mapping[str, int]:
    """Waiting pods that get a place, by team."""
    packing = packed(cluster, fair(*teams))
    assert packing.faults == ()
    waiting = {one.name: one.labels.get("team", "") for one in cluster.pods if one.node is None}
    return Counter(waiting[name] for name in places(packing) if name in waiting)


A, B = team("a"), team("b")


@pytest.mark.parametrize(
    ("pods", "teams", "places"),
    [
        pytest.param(
            [*(pod(f"a-{n}", **of("a")) for n in range(10)), *(pod(f"b-{n}", **of("b")) for n in range(10))],
            [A, B],
            {"a": 5, "b": 5},
            id="halves",
        ),
        pytest.param(
            [*(pod(f"a-{n}", **of("a")) for n in range(10)), *(pod(f"b-{n}", **of("b")) for n in range(10))],
            [team("a", 4), B],
            {"a": 8, "b": 2},
            id="by weight",
        ),
        pytest.param(
            [*(pod(f"a-{n}", **of("a")) for n in range(10)), *(pod(f"b-{n}", **of("b")) for n in range(2))],
            [A, B],
            {"a": 8, "b": 2},
            id="what one does not want is the other's",
        ),
        pytest.param(
            [
                *(pod(f"x-{n}", on="n", **of("a")) for n in range(4)),
                *(pod(f"a-{n}", **of("a")) for n in range(10)),
                *(pod(f"b-{n}", **of("b")) for n in range(10)),
            ],
            [A, B],
            {"a": 1, "b": 5},
            id="what runs counts",
        ),
        pytest.param(
            [*(pod(f"a-{n}", 100, **of("a")) for n in range(10)), *(pod(f"b-{n}", 500, **of("b")) for n in range(2))],
            [A, B],
            {"a": 5, "b": 1},
            id="large pods are not starved by small ones",
        ),
        pytest.param(
            [*(pod(f"a-{n}", **of("a")) for n in range(10)), *(pod(f"b-{n}") for n in range(10))],
            [A],
            {"a": 5, "": 5},
            id="all that belong to no team are one team",
        ),
        pytest.param(
            [
                *(pod(f"a-{n}", priority=1, **of("a")) for n in range(10)),
                *(pod(f"b-{n}", priority=0, **of("b")) for n in range(10)),
            ],
            [A, B],
            {"a": 10},
            id="priority comes first",
        ),
        pytest.param(
            [*(pod(f"a-{n}", 100, **of("a")) for n in range(10)), *(pod(f"b-{n}", 900, **of("b")) for n in range(1))],
            [],
            {"a": 10},
            id="without teams the number of pods counts",
        ),
    ],
)
def test_who_gets_a_place(pods: list[Pod], teams: list[Team], places: dict[str, int]) -> None:
    assert placed(snapshot(node("n"), *pods), *teams) == places


def test_the_share_that_dominates_counts() -> None:
    """The example of the paper: 9 CPUs and 18 GB; tasks of 1 CPU and 4 GB, and of 3 CPUs and 1 GB: three and two."""
    a = [pod(f"a-{n}", 1000, extra={"memory": 4}, **of("a")) for n in range(9)]
    b = [pod(f"b-{n}", 3000, extra={"memory": 1}, **of("b")) for n in range(9)]
    assert placed(snapshot(node("n", 9000, extra={"memory": 18}), *a, *b), A, B) == {"a": 3, "b": 2}


@pytest.mark.parametrize(
    ("nodes", "weight", "places"),
    [
        pytest.param(2, 1, {"a": 8, "b": 1}, id="half the GPUs each"),
        pytest.param(2, 3, {"a": 8, "b": 1}, id="a pod can not be divided"),
        pytest.param(3, 2, {"a": 16, "b": 1}, id="two to one"),
    ],
)
def test_the_example_of_the_record(nodes: int, weight: int, places: dict[str, int]) -> None:
    each = [node(f"n{number}", extra={GPU: 8}) for number in range(nodes)]
    a = [pod(f"a-{n}", 1, extra={GPU: 1}, **of("a")) for n in range(8 * nodes)]
    b = [pod(f"b-{n}", 1, extra={GPU: 8}, **of("b")) for n in range(nodes)]
    assert placed(snapshot(*each, *a, *b), team("a", weight), B) == places
    assert placed(snapshot(*each, *a, *b)) == {"a": 8 * nodes}


def test_others_move_for_a_share() -> None:
    """One large pod of `b` is within its share, and has room once the small one of `a` that runs has moved."""
    small = [pod(f"a-{n}", 100, **of("a")) for n in range(10)]
    cluster = snapshot(
        node("m"),
        node("n"),
        pod("x-0", 100, on="m", **of("a")),
        pod("y-0", 500, on="n", annotations={"stowage.dev/do-not-disrupt": "true"}),
        pod("b-0", 1000, **of("b")),
        *small,
    )
    packing = packed(cluster, fair(A, B))
    assert places(packing)["b-0"] == "m"
    assert [one.pod.name for one in packing.moves] == ["x-0"]
    assert packing.certified
    assert packing.placed == {0: 7}
    assert packed(cluster).placed == {0: 12}  # as many pods as possible would leave the large one out


def test_a_gang_is_within_the_share_as_a_whole() -> None:
    gangs = [gang(f"g{n}", 4, **of("b")) for n in range(2)]
    small = [pod(f"a-{n}", **of("a")) for n in range(10)]
    assert placed(snapshot(node("n"), *small, *gangs[0], *gangs[1]), A, B) == {"a": 6, "b": 4}


def test_what_fits_nowhere_takes_nobodys_share() -> None:
    huge = [pod(f"b-{n}", 1500, **of("b")) for n in range(3)]
    small = [pod(f"{name}-{n}", **of(name)) for n in range(30) for name in "ac"]
    assert placed(snapshot(node("m"), node("n"), *small, *huge), A, B, team("c")) == {"a": 10, "c": 10}


def test_what_a_higher_priority_takes_is_gone() -> None:
    urgent = [pod(f"u-{n}", priority=1, **of("a")) for n in range(6)]
    waiting = [pod(f"{name}-{n}", **of(name)) for n in range(10) for name in "ab"]
    assert placed(snapshot(node("n"), *urgent, *waiting), A, B) == {"a": 6, "b": 4}


def test_nobody_who_runs_is_evicted_for_a_share() -> None:
    running = [pod(f"a-{n}", on="n", **of("a")) for n in range(10)]
    packing = packed(snapshot(node("n"), *running, pod("b-0", **of("b"))), fair(A, B))
    assert packing.evictions == ()


def test_lower_priorities_make_room_for_a_share() -> None:
    running = [pod(f"x-{n}", on="n", priority=-5) for n in range(10)]
    waiting = [*(pod(f"a-{n}", **of("a")) for n in range(8)), *(pod(f"b-{n}", **of("b")) for n in range(8))]
    packing = packed(snapshot(node("n"), *running, *waiting), fair(A, B))
    assert len(packing.evictions) == 10
    assert Counter(name[0] for name in places(packing)) == {"a": 5, "b": 5}
    assert packing.placed == packing.bound == {0: 10, -5: 10}


def test_teams_by_labels_and_namespaces() -> None:
    in_ns = Team("n", LabelSelector(expressions=(Requirement("kubernetes.io/metadata.name", "In", ("x",)),)))
    membership = Membership((team("a"), in_ns))
    pods = [pod("p-0", namespace="x", **of("a")), pod("p-1", namespace="x"), pod("p-2", **of("b"))]
    assert [membership.of(one) for one in pods] == [0, 1, 2]


def test_tiers_and_priorities() -> None:
    tiers = {tier(p, within=w): 10 * p + w for p in (3, 0, -3) for w in (False, True)}
    assert by_priority(tiers) == {3: 30, 0: 0, -3: -30}
    assert sorted(tiers) == [-6, -5, 0, 1, 6, 7]


def test_nothing_to_share_is_fine() -> None:
    pool = Pool(capacity={}, room={}, standing=[], movable=[])
    assert within_share([A], pool, []) == frozenset()
    assert within_share([A], pool, [Unit((pod("a-0", **of("a")),)), Unit((pod("b-0"),))]) == frozenset()
