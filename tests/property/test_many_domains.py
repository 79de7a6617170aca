"""Gangs that ask for one of many domains: the work grows with the cluster, and the answers stay the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.facts import OPTIONS, node, packed, places, pod, snapshot
from property.test_least_disruption import limit
from property.test_repair import racks
from stowage_scheduler import greedy
from stowage_scheduler.cluster import Gang, Snapshot
from stowage_scheduler.domain_sums import DomainSums
from stowage_scheduler.explain import gangs as explain_gangs
from stowage_scheduler.explain.explainer import Explainer
from stowage_scheduler.gangs import gangs as gangs_of
from stowage_scheduler.greedy import greedy as greedy_answer
from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import PodClass, Problem, WholeGang
from stowage_scheduler.solve import repair

HOSTS = 200


def counted(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> Counter[str]:
    """How often something is called from now on."""
    calls: Counter[str] = Counter()
    real: Callable[..., Any] = getattr(owner, name)

    def count(*args: Any, **more: Any) -> Any:
        calls[name] += 1
        return real(*args, **more)

    monkeypatch.setattr(owner, name, count)
    return calls


def on_hosts(asked: tuple[int, ...], running: int = 0, hosts: int = HOSTS) -> Problem:
    """A gang that has to stand on one of many hosts of 10 cores; `running` cores of each may be cleared."""
    everywhere = frozenset(range(hosts))
    waiting = [
        PodClass(number, f"c{number}", (cores,), 0, 1, {}, everywhere, gang=0) for number, cores in enumerate(asked)
    ]
    members = tuple(range(len(waiting)))
    small = PodClass(len(waiting), "small", (running,), 0, 0, dict.fromkeys(range(hosts), 1), everywhere, move_cost=1)
    return Problem(
        resources=("cpu",),
        nodes=tuple(f"n{number}" for number in range(hosts)),
        free=((10,),) * hosts,
        classes=(*waiting, small) if running else tuple(waiting),
        gangs=(WholeGang("g", members, (tuple(frozenset({number}) for number in range(hosts)),)),),
    )


@settings(max_examples=200)
@given(
    st.lists(st.sets(st.integers(0, 5)), min_size=1, max_size=6), st.lists(st.integers(-9, 9), min_size=6, max_size=6)
)
def test_sums_of_domains(domains: list[set[int]], amounts: list[int]) -> None:
    sums = DomainSums(domains)

    assert sums.of(np.array(amounts)).tolist() == [sum(amounts[one] for one in domain) for domain in domains]
    order = sorted(range(len(domains)), key=lambda number: (sums.rank[number], number))
    assert [sorted(domains[number]) for number in order] == sorted(sorted(domain) for domain in domains)


def test_the_first_answer_looks_at_all_domains_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = on_hosts((6, 6))
    looks = counted(monkeypatch, greedy._Filling, "_most")

    assert greedy_answer(problem).placed_by_priority() == {0: 0}
    assert 0 < looks["_most"] <= 2 * len(problem.classes)


def test_repair_leaves_domains_alone_that_never_hold_the_gang(monkeypatch: pytest.MonkeyPatch) -> None:
    placement = Placement(on_hosts((11, 6)))
    rooms = counted(monkeypatch, repair, "_Room")

    assert repair._cheapest(placement, placement.problem.classes, repair._Work(limit(), 0.0)) is None
    assert not rooms["_Room"]


def test_repair_looks_at_the_roomiest_domains_and_does_not_call_the_rest_proven(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = on_hosts((6, 4), running=3)
    placement = Placement(problem)
    placement.add(problem.classes[2], 150, -1)  # the only host with the room, late in the list
    rooms = counted(monkeypatch, repair, "_Room")

    found = repair._cheapest(placement, problem.classes[:2], repair._Work(limit(), 0.0))

    assert found is not None
    assert set(found.nodes) == {150}
    assert found.cost == 0
    assert found.least is None
    assert rooms["_Room"] == repair._MOST_DOMAINS


def test_each_domain_that_repair_looks_at_counts_as_work(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = on_hosts((6, 4), running=3)
    work = repair._Work(limit(), 0.0, left=HOSTS * repair._ONE_NODE + 4 * repair._ONE_DOMAIN)
    rooms = counted(monkeypatch, repair, "_Room")

    repair._cheapest(Placement(problem), problem.classes[:2], work)

    assert 0 < rooms["_Room"] <= 4


@settings(max_examples=200)
@given(racks())
def test_what_repair_proves_with_few_domains_is_as_cheap_with_all(problem: Problem) -> None:
    waiting = [c for c in problem.classes if c.pending and c.gang is not None]
    if not waiting:
        return
    placement = Placement(problem)
    group = problem.together_with(waiting[0])
    with pytest.MonkeyPatch.context() as patch:
        every = repair._cheapest(placement, group, repair._Work(limit(), 0.0))
        patch.setattr(repair, "_MOST_DOMAINS", 1)
        some = repair._cheapest(placement, group, repair._Work(limit(), 0.0))
    if some is not None:
        assert every is not None
        assert some.cost >= every.cost
        assert some.least is None or some.least == every.cost


def hosts(*cores: int, waiting: tuple[int, ...]) -> Snapshot:
    """Hosts, and a gang that has to stand on one of them."""
    ring = Gang("ring", len(waiting), ("host",))
    nodes = (node(f"n{number:03}", 1000 * size, labels={"host": f"n{number:03}"}) for number, size in enumerate(cores))
    pods = (one for number, size in enumerate(waiting) for one in [pod(f"ring-{number}", 1000 * size, gang=ring)])
    return snapshot(*nodes, *pods)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=2, max_size=6), st.lists(st.integers(1, 5), min_size=2, max_size=4))
def test_the_best_domain_is_told_although_few_are_looked_at(cores: list[int], waiting: list[int]) -> None:
    cluster = hosts(*cores, waiting=tuple(waiting))
    explainer = Explainer(cluster, cluster.nodes, {})
    (ring,) = gangs_of(cluster.pods).values()
    if explainer.homeless(ring.waiting)[0]:
        return
    left = [len(Explainer(cluster, [one], {}).homeless(ring.waiting)[0]) for one in cluster.nodes]

    words = explain_gangs.explain_gang(explainer, cluster, {}, ring).help

    best = [one.name for one, missing in zip(cluster.nodes, left, strict=True) if missing == min(left)]
    told = f"{len(waiting) - min(left)} of its {len(waiting)} waiting pods would fit" if min(left) else " has room"
    assert told in words
    assert any(name in words for name in best)


@pytest.mark.parametrize(
    ("waiting", "most"),
    [
        pytest.param((6, 6), 2, id="a bound tells that no other domain is better"),
        pytest.param((6, 5), explain_gangs.MOST_DOMAINS + 1, id="each pod fits alone, so that domains look better"),
    ],
)
def test_few_of_many_domains_are_explained(
    waiting: tuple[int, ...], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = hosts(*[10] * HOSTS, waiting=waiting)
    explainer = Explainer(cluster, cluster.nodes, {})
    (ring,) = gangs_of(cluster.pods).values()
    built = counted(monkeypatch, explain_gangs, "Explainer")

    words = explain_gangs.explain_gang(explainer, cluster, {}, ring).help

    assert "in the best, n000, 1 of its 2 waiting pods would fit" in words
    assert 0 < built["Explainer"] <= most


def test_a_gang_takes_the_one_host_of_many_that_holds_it() -> None:
    cores = [10] * HOSTS
    cores[150] = 12

    assert set(places(packed(hosts(*cores, waiting=(6, 6)), OPTIONS)).values()) == {"n150"}
