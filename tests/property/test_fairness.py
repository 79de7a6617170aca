"""Fair shares on random instances: nobody is short while another has more, and as much is placed as can be."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from harness.exact import best_by_trying
from harness.facts import OPTIONS, node, packed, places, pod, snapshot
from stowage_scheduler.cluster import LabelSelector, Pod, Snapshot
from stowage_scheduler.fairness import Pool, Unit, within_share
from stowage_scheduler.options import Budget
from stowage_scheduler.teams import Team

SHORT = Budget(deterministic_units=0.5, workers=2)
NAMES = "abc"


def team(name: str, weight: int) -> Team:
    return Team(name, LabelSelector((("team", name),)), weight)


def of(name: str) -> dict[str, Any]:
    return {"labels": {"team": name}}


WEIGHTS = st.tuples(*(st.integers(1, 4) for _ in NAMES))
COUNTS = st.tuples(*(st.integers(0, 6) for _ in NAMES))


@settings(max_examples=150)
@given(weights=WEIGHTS, demands=COUNTS, held=COUNTS, room=st.integers(0, 12))
def test_equal_pods_are_shared_as_evenly_as_any_division_could(
    weights: tuple[int, ...], demands: tuple[int, ...], held: tuple[int, ...], room: int
) -> None:
    """The least share by weight of those that want pods is as large as can be, and nobody envies anybody a pod."""
    teams = [team(name, weight) for name, weight in zip(NAMES, weights, strict=True)]
    standing = [
        pod(f"{n}-old{i}", 1, on="n", **of(n)) for n, count in zip(NAMES, held, strict=True) for i in range(count)
    ]
    waiting = [pod(f"{n}-new{i}", 1, **of(n)) for n, count in zip(NAMES, demands, strict=True) for i in range(count)]
    pool = Pool({"cpu": 100, "pods": 110}, {"cpu": room, "pods": 110}, standing, [])
    within = within_share(teams, pool, [Unit((one,)) for one in waiting])
    got = Counter(one.labels["team"] for one in waiting if one.uid in within)
    if sum(map(bool, demands)) < 2:
        assert sum(got.values()) == sum(demands)
        return

    assert sum(got.values()) == min(room, sum(demands))
    shares = {n: (h + got[n]) / w for n, h, w in zip(NAMES, held, weights, strict=True)}
    short = [n for n, demand in zip(NAMES, demands, strict=True) if got[n] < demand]
    for n in short:
        for other, h, w in zip(NAMES, held, weights, strict=True):
            if got[other]:
                assert (h + got[other] - 1) / w <= shares[n]
    ways = (way for way in product(*(range(demand + 1) for demand in demands)) if sum(way) == sum(got.values()))
    wanting = [i for i, demand in enumerate(demands) if demand]
    best = max(min((held[i] + way[i]) / weights[i] for i in wanting) for way in ways)
    assert min(shares[NAMES[i]] for i in wanting) == best


@st.composite
def clusters(draw: st.DrawFn) -> Snapshot:
    nodes = [node(f"n{number}", draw(st.sampled_from([300, 500, 800]))) for number in range(draw(st.integers(1, 3)))]
    left = {one.name: one.allocatable["cpu"] for one in nodes}
    pods: list[Pod] = []
    for number in range(draw(st.integers(1, 4))):
        cpu, name = draw(st.integers(1, 4)) * 100, draw(st.sampled_from(NAMES))
        for one in range(draw(st.integers(1, 2))):
            home = draw(st.sampled_from([None, None, *left]))
            runs = home is not None and left[home] >= cpu
            if home is not None and runs:
                left[home] -= cpu
            priority = draw(st.integers(0, 1))
            pods.append(pod(f"rs{number}-{one}", cpu, on=home if runs else None, priority=priority, **of(name)))
    return snapshot(*nodes, *pods)


@settings(max_examples=60, deadline=None)
@given(cluster=clusters(), weights=WEIGHTS)
def test_a_certified_plan_places_most_of_those_within_their_share(cluster: Snapshot, weights: tuple[int, ...]) -> None:
    """By trying all placements: of each priority as many as can be within the share, and then as many as can be."""
    teams = tuple(team(name, weight) for name, weight in zip(NAMES, weights, strict=True))
    options = replace(OPTIONS, teams=teams)
    packing = packed(cluster, options, SHORT)
    assert packing.faults == ()
    assert sum(packing.before.values()) <= sum(packing.placed.values())
    if not packing.certified:
        return
    within = _within(cluster, options)
    ranked = {one.uid: 2 * one.priority + (one.node is not None or one.uid in within) for one in cluster.pods}
    tiers = sorted({*ranked.values()}, reverse=True)
    twin = replace(cluster, pods=tuple(replace(one, priority=ranked[one.uid]) for one in cluster.pods))
    stands = {entry.pod.uid for entry in packing.assignments}
    reached = [sum(ranked[uid] >= one for uid in stands) for one in tiers]
    assert reached == best_by_trying(twin, tiers)


def _within(cluster: Snapshot, options: Any) -> frozenset[str]:
    """Who is within the share, from the definition: everything that may move stands in one pool."""
    capacity = {"cpu": sum(one.allocatable["cpu"] for one in cluster.nodes)}
    standing = [one for one in cluster.pods if one.node is not None]
    largest = max(one.allocatable["cpu"] for one in cluster.nodes)
    units = [
        Unit((replace(one, requests={"cpu": one.requests["cpu"]}),), one.requests["cpu"] <= largest)
        for one in cluster.pods
        if one.node is None
    ]
    slim = [replace(one, requests={"cpu": one.requests["cpu"]}) for one in standing]
    return within_share(options.teams, Pool(capacity, capacity, slim, slim), units)


@settings(max_examples=40, deadline=None)
@given(cluster=clusters())
def test_one_team_is_no_team(cluster: Snapshot) -> None:
    alone = replace(OPTIONS, teams=(Team("all", LabelSelector()),))
    one, none = packed(cluster, alone, SHORT), packed(cluster, OPTIONS, SHORT)
    if one.certified and none.certified:
        assert one.placed == none.placed
    assert len(places(one)) <= len(cluster.pods)
