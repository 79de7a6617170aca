"""Bounds from rules against every possible placement of small problems: none lies below the best one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from harness.facts import OPTIONS, node, packed, pod, snapshot
from harness.small_problems import placements, ways
from property.test_between_pods import APPS, clusters
from property.test_bounds import limit
from stowage_scheduler.build import build
from stowage_scheduler.cluster import Gang, HostPort, Node, Pod, PodAffinityTerm, Snapshot, SpreadConstraint
from stowage_scheduler.gangs import GANG_GATE
from stowage_scheduler.greedy import greedy
from stowage_scheduler.kube.matching import port_conflict
from stowage_scheduler.options import Budget
from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import BudgetLimit, Problem
from stowage_scheduler.solve import reach, rule_cuts
from stowage_scheduler.solve.bound import Bounds, aggregated_bounds
from stowage_scheduler.solve.cliques import cliques, exclusions
from stowage_scheduler.solve.rule_cuts import rule_bounds

MOST_WAYS = 20_000
PORTS = [
    (),
    (),
    (HostPort("TCP", "0.0.0.0", 80),),
    (HostPort("TCP", "10.0.0.1", 80),),
    (HostPort("TCP", "10.0.0.2", 80),),
]
RED, BLUE = APPS["red"], APPS["blue"]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Small clusters with all rules between pods, with host ports and budgets."""
    problem = build(draw(clusters(nodes=4, sets=3, replicas=3)), OPTIONS).problem
    ports = {c.index: () if c.running else draw(st.sampled_from(PORTS)) for c in problem.classes}
    taken = [frozenset(draw(st.sampled_from(PORTS))) for _ in problem.nodes]
    budget = draw(st.integers(0, 2))
    return replace(
        problem,
        classes=tuple(
            replace(c, ports=ports[c.index], budgets=draw(st.sampled_from([(), (0,)]))) for c in problem.classes
        ),
        ports=tuple(taken),
        budgets=(BudgetLimit("b", budget),),
        may_evict=draw(st.booleans()),
    )


def ports_clash(placement: Placement) -> bool:
    """Whether two pods, or one and those that stay, want one port of a node."""
    problem = placement.problem
    for number, held in enumerate(placement.on_node):
        with_ports = [problem.classes[index] for index in held if problem.classes[index].ports]
        if any(held[c.index] > 1 or port_conflict(c.ports, problem.ports[number]) for c in with_ports):
            return True
        if any(port_conflict(one.ports, other.ports) for one, other in combinations(with_ports, 2)):
            return True
    return False


def best_tiers(problem: Problem) -> tuple[int, ...]:
    """The best tiers of all placements that the rules allow."""
    found = (p for p in placements(problem) if not (problem.ports and ports_clash(p)))
    return max(tuple(placement.placed_by_priority().values()) for placement in found)


def is_enumerable(problem: Problem) -> bool:
    return int(np.prod([len(ways(problem, c)) for c in problem.classes])) <= MOST_WAYS


def bounds_of(start: Placement) -> tuple[Bounds, Bounds]:
    aggregated = aggregated_bounds(start, limit(), 10.0)
    return aggregated, rule_bounds(start, aggregated, limit(), 10.0)


def lies_below(bounds: Bounds, best: tuple[int, ...]) -> bool:
    """Whether a bound is wrong: in the first tier that differs from the best, it is lower."""
    pairs = zip(bounds.by_priority.values(), best, strict=True)
    return next((bound < count for bound, count in pairs if bound != count), False)


@settings(max_examples=200, deadline=None)
@given(problems(), st.booleans())
def test_no_bound_lies_below_the_best_placement(problem: Problem, begin_greedily: bool) -> None:
    assume(is_enumerable(problem))
    start = greedy(problem) if begin_greedily else Placement(problem)
    aggregated, ruled = bounds_of(start)
    best = best_tiers(problem)
    assert not lies_below(aggregated, best)
    assert not lies_below(ruled, best)
    assert aggregated.tightened(ruled) == ruled


@settings(max_examples=200, deadline=None)
@given(problems())
def test_no_placement_has_more_on_a_node_than_is_said_to_be_possible(problem: Problem) -> None:
    assume(is_enumerable(problem))
    most = reach.reach(problem)
    for placement in placements(problem):
        if not ports_clash(placement):
            for index, counts in enumerate(placement.counts):
                assert all(count <= most[index, number] for number, count in counts.items())


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=15))
def test_cliques_have_each_pair_and_no_other(pairs: list[tuple[int, int]]) -> None:
    excluded = [0] * 7
    for one, other in pairs:
        excluded[one] |= 1 << other
        excluded[other] |= 1 << one
    found = cliques(excluded)
    together = {pair for clique in found for pair in combinations(clique, 2)}
    assert together == {tuple(sorted(pair)) for pair in pairs if pair[0] != pair[1]}
    assert {one for one, other in pairs if one == other} <= {index for clique in found for index in clique}


def hosts(count: int, zones: str = "abc", cpu: int = 1000) -> list[Node]:
    names = [f"n{number}" for number in range(count)]
    return [node(n, cpu, labels={"host": n, "zone": zones[i % len(zones)]}) for i, n in enumerate(names)]


def pods(app: str, count: int, cpu: int = 100, **more: Any) -> list[Pod]:
    return [pod(f"{app}-{number}", cpu, labels={"app": app}, **more) for number in range(count)]


def apart(key: str, *selectors: Any) -> dict[str, Any]:
    return {"anti_affinity_terms": tuple(PodAffinityTerm(key, selector, ("default",)) for selector in selectors)}


def near(key: str, selector: Any) -> dict[str, Any]:
    return {"affinity_terms": (PodAffinityTerm(key, selector, ("default",)),)}


def spread(key: str, skew: int = 1, least: int = 1) -> dict[str, Any]:
    return {"spread": (SpreadConstraint(key, skew, RED, least),)}


PORT = {"host_ports": (HostPort("TCP", "0.0.0.0", 80),)}
WITHIN = {"gang": Gang("g", 4, ("zone",)), "gates": (GANG_GATE,)}
TABLE: dict[str, tuple[Snapshot, int]] = {
    "ten that avoid each other on eight hosts": (snapshot(*hosts(8), *pods("red", 10, **apart("host", RED))), 8),
    "and in three zones": (snapshot(*hosts(8), *pods("red", 10, **apart("zone", RED))), 3),
    "classes that want one port": (snapshot(*hosts(4), *pods("red", 3, **PORT), *pods("blue", 3, **PORT)), 4),
    "classes that avoid each other share no zone, however many of one there are": (
        snapshot(*hosts(2, "a"), *pods("red", 3, **apart("zone", BLUE)), *pods("blue", 3)),
        3,
    ),
    "nor a host": (
        snapshot(*hosts(3, cpu=200), *pods("red", 3, **apart("host", BLUE)), *pods("blue", 3)),
        5,
    ),
    "a zone without room keeps the others low": (
        snapshot(*hosts(4, "ab"), node("small", 50, labels={"zone": "c"}), *pods("red", 5, **spread("zone"))),
        2,
    ),
    "fewer domains than are asked for count as empty": (
        snapshot(*hosts(4, "ab"), *pods("red", 5, **spread("zone", least=3))),
        2,
    ),
    "hosts are levelled as zones are": (
        snapshot(*hosts(6), node("small", 50, labels={"host": "small"}), *pods("red", 9, **spread("host"))),
        6,
    ),
    "a gang that no zone holds": (snapshot(*hosts(3), *pods("red", 4, 300, **WITHIN)), 0),
    "who waits for company that finds no place": (
        snapshot(*hosts(2), *pods("red", 2, **near("zone", BLUE)), *pods("blue", 1, 2000)),
        0,
    ),
    "all follow the first into one zone": (snapshot(*hosts(2), *pods("red", 6, 300, **near("zone", RED))), 3),
}  # fmt: skip


@pytest.mark.parametrize(("cluster", "most"), TABLE.values(), ids=TABLE.keys())
def test_rules_are_part_of_the_bound(cluster: Snapshot, most: int) -> None:
    problem = build(cluster, OPTIONS).problem
    _, ruled = bounds_of(Placement(problem))
    assert ruled.by_priority == {0: most}
    assert packed(cluster, budget=Budget(deterministic_units=1.0)).certified


@pytest.mark.parametrize(
    "limits", [{"may_evict": False}, {"budgets": (BudgetLimit("b", 0),)}], ids=["policy", "budget"]
)
def test_who_may_not_lose_their_place_are_in_the_way(limits: dict[str, Any]) -> None:
    small = pod("blue-0", 600, on="n0", labels={"app": "blue"})
    problem = build(snapshot(*hosts(1), small, *pods("red", 1, 600, priority=1, **PORT)), OPTIONS).problem
    covered = tuple(replace(c, budgets=(0,)) if c.running else c for c in problem.classes)
    kept = replace(problem, classes=covered, **limits)
    assert bounds_of(Placement(problem))[1].by_priority[1] == 1
    assert bounds_of(Placement(kept))[1].by_priority[1] == 0 == best_tiers(kept)[0]


def one_domain_less(honest: Callable[..., Any]) -> Callable[..., Any]:
    def exclude(model: Any, clique: Any, excluded: Any, group: Any) -> None:
        honest(
            model,
            clique,
            excluded,
            replace(group, domains=group.domains - 1, nodes=group.nodes[:-1], labels=group.labels[:-1]),
        )

    return exclude


def a_level_too_low(honest: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *given: honest(*given) - 1


MISTAKES = {
    "a host is forgotten": (
        rule_cuts._Model, "_exclude", one_domain_less,
        snapshot(*hosts(3), *pods("red", 4, **PORT), *pods("blue", 1, **PORT)),
    ),
    "the skew is counted from one below": (
        reach, "least_at_most", a_level_too_low, snapshot(*hosts(2), *pods("red", 3, **spread("zone", least=3))),
    ),
    "a gang's zone is closed": (
        reach, "_roomy", lambda _: lambda *_: set(), snapshot(*hosts(2, cpu=400), *pods("red", 4, **WITHIN)),
    ),
    "company is overlooked": (
        reach, "_accompanied", lambda _: lambda *_: frozenset(),
        snapshot(*hosts(2), *pods("red", 1, **near("zone", BLUE)), *pods("blue", 1)),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("owner", "name", "mistake", "cluster"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_planted_wrong_cut_is_caught(
    owner: Any, name: str, mistake: Any, cluster: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = build(cluster, OPTIONS).problem
    best = best_tiers(problem)
    assert not lies_below(bounds_of(Placement(problem))[1], best)
    monkeypatch.setattr(owner, name, mistake(getattr(owner, name)))
    assert lies_below(bounds_of(Placement(problem))[1], best)


def test_without_rules_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = build(snapshot(*hosts(2), *pods("red", 30)), OPTIONS).problem
    monkeypatch.setattr(rule_cuts, "_Model", None)
    known = Bounds({0: 30})
    assert rule_bounds(Placement(problem), known, limit(), 1.0) is known


def test_ports_of_one_address_exclude_each_other_and_any_address_all() -> None:
    every, one, other = (HostPort("TCP", ip, 80) for ip in ("0.0.0.0", "10.0.0.1", "10.0.0.2"))
    wanted = [(every,), (one,), (other,), (replace(one, port=81),)]
    facts = [pod(f"p{number}-0", host_ports=ports) for number, ports in enumerate(wanted)]
    problem = build(snapshot(*hosts(2), *facts), OPTIONS).problem
    assert exclusions(problem) == {(0, 1): [0b0111, 0b0011, 0b0101, 0b1000]}
