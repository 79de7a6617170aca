"""Required affinity, anti-affinity and topology spread, each rule in its smallest plan."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Struct

from harness.facts import node, packed, places, pod, snapshot
from stowage_scheduler.cluster import (
    Gang,
    LabelSelector,
    Node,
    Pod,
    PodAffinityTerm,
    Requirement,
    Snapshot,
    SpreadConstraint,
)
from stowage_scheduler.gangs import GANG_GATE
from stowage_scheduler.packing import Reason

WEB = LabelSelector((("app", "web"),))
DB = LabelSelector((("app", "db"),))


def zones(*names: str, cpu: int = 1000) -> list[Node]:
    """Nodes `a1`, `a2`, `b1` … of the zones named by their first letter."""
    return [node(name, cpu, labels={"zone": name[0], "host": name}) for name in names]


def web(number: int, cpu: int = 100, on: str | None = None, **more: Any) -> Pod:
    return pod(f"web-{number}", cpu, on, labels={"app": "web"}, **more)


def db(cpu: int = 100, on: str | None = None, **more: Any) -> Pod:
    return pod("db-0", cpu, on, labels={"app": "db"}, **more)


def near(selector: LabelSelector, key: str = "zone") -> dict[str, Any]:
    return {"affinity_terms": (PodAffinityTerm(key, selector, ("default",)),)}


def apart(selector: LabelSelector, key: str = "zone") -> dict[str, Any]:
    return {"anti_affinity_terms": (PodAffinityTerm(key, selector, ("default",)),)}


def spread(skew: int = 1, key: str = "zone", domains: int = 1) -> dict[str, Any]:
    return {"spread": (SpreadConstraint(key, skew, WEB, domains),)}


class Case(Struct, frozen=True):
    """A cluster, where pods end (names of zones for those that may choose a node), and who stays pending."""

    cluster: Snapshot
    want: dict[str, str]
    waits: dict[str, Reason] = {}
    moves: int = 0


TABLE = {
    "replicas that avoid each other take a zone each": Case(
        snapshot(*zones("a1", "a2", "b1"), *(web(i, **apart(WEB)) for i in range(3))),
        {"web-0": "a", "web-1": "b"},
        {"web-2": Reason.POD_ANTI_AFFINITY},
    ),
    "who avoids others is avoided by them": Case(
        snapshot(*zones("a1", "b1"), db(on="a1", **apart(WEB)), web(0)), {"db-0": "a", "web-0": "b"}
    ),
    "a pod moves out of the zone that another one has to have for itself": Case(
        snapshot(*zones("a1", "b1"), web(0, on="a1"), db(priority=5, node_selector={"zone": "a"}, **apart(WEB))),
        {"web-0": "b", "db-0": "a"},
        moves=1,
    ),
    "two pods that avoid each other change zones by a swap": Case(
        snapshot(
            *zones("a1", "b1"),
            web(0, 600, on="a1", **apart(WEB)),
            web(1, 300, on="b1", owner=None, **apart(WEB)),
            pod("new-0", 700, node_selector={"zone": "a"}),
        ),
        {"web-0": "a", "web-1": "b"},
        {"new-0": Reason.INSUFFICIENT_CPU},
    ),
    "company is where it stands": Case(
        snapshot(*zones("a1", "b1"), db(on="b1"), web(0, **near(DB))), {"db-0": "b", "web-0": "b"}
    ),
    "nobody comes without company": Case(
        snapshot(*zones("a1", "b1"), web(0, **near(DB))), {}, {"web-0": Reason.POD_AFFINITY}
    ),
    "company may come first": Case(
        snapshot(*zones("a1", cpu=300), *zones("b1"), db(400), web(0, **near(DB))), {"db-0": "b", "web-0": "b"}
    ),
    "the first of those that want to be together chooses the zone with room for all": Case(
        snapshot(*zones("a1", cpu=200), *zones("b1", "b2", cpu=300), *(web(i, 200, **near(WEB)) for i in range(2))),
        {"web-0": "b", "web-1": "b"},
    ),
    "company does not leave those that need it": Case(
        snapshot(
            *zones("a1", "b1"),
            db(600, on="a1"),
            pod("fan-0", 100, on="a1", owner=None, **near(DB)),
            pod("new-0", 900, node_selector={"zone": "a"}),
        ),
        {"db-0": "a", "fan-0": "a"},
        {"new-0": Reason.INSUFFICIENT_CPU},
    ),
    "replicas spread evenly": Case(
        snapshot(*zones("a1", "b1"), *(web(i, **spread()) for i in range(4))),
        {"web-0": "a", "web-1": "a", "web-2": "b", "web-3": "b"},
    ),
    "a zone without room holds the others back": Case(
        snapshot(*zones("a1"), *zones("b1", cpu=50), *(web(i, **spread()) for i in range(2))),
        {"web-0": "a"},
        {"web-1": Reason.INSUFFICIENT_CPU},
    ),
    "too few domains count as an empty one": Case(
        snapshot(*zones("a1", "b1"), *(web(i, **spread(domains=3)) for i in range(3))),
        {"web-0": "a", "web-1": "b"},
        {"web-2": Reason.TOPOLOGY_SPREAD},
    ),
    "another pod makes room so that replicas spread": Case(
        snapshot(
            *zones("a1", cpu=400),
            *zones("b1", cpu=800),
            pod("old-0", 300, on="a1"),
            *(web(i, 300, on=on, **spread()) for i, on in enumerate(["b1", None])),
        ),
        {"old-0": "b", "web-0": "b", "web-1": "a"},
        moves=1,
    ),
    "a node without the key is nowhere": Case(
        snapshot(node("n1"), web(0, **spread())), {}, {"web-0": Reason.TOPOLOGY_SPREAD}
    ),
}


@pytest.mark.parametrize("case", TABLE.values(), ids=TABLE.keys())
def test_rules_between_pods(case: Case) -> None:
    packing = packed(case.cluster)
    assert packing.faults == ()
    ends = {name: target[0] for name, target in places(packing).items()}
    assert ends == case.want or ends == {**case.want, **mirrored(case.want)}
    assert {entry.pod.name: entry.reason for entry in packing.unplaced} == case.waits
    assert len(packing.moves) == case.moves


def mirrored(want: dict[str, str]) -> dict[str, str]:
    """The same with zones a and b changed: replicas of one class may take each other's place."""
    return {name: {"a": "b", "b": "a"}.get(zone, zone) for name, zone in want.items()}


def test_a_pod_waits_for_the_one_in_its_way_and_the_step_says_so() -> None:
    cluster = TABLE["a pod moves out of the zone that another one has to have for itself"].cluster
    steps = {step.pod.name: step for step in packed(cluster).steps}
    assert steps["db-0"].after == (steps["web-0"].id,)


def test_who_follows_waits_for_the_first_and_not_for_each_other() -> None:
    cluster = snapshot(*zones("a1"), *(web(i, **near(WEB)) for i in range(3)))
    steps = packed(cluster).steps
    assert [step.after for step in steps] == [(), ("s001",), ("s001",)]


def test_pods_that_broke_a_rule_before_stay_where_they_are() -> None:
    pair = [web(i, 300, on="a1", **apart(WEB)) for i in range(2)]
    cluster = snapshot(*zones("a1", "b1"), *pair, pod("new-0", 700, node_selector={"zone": "a"}))
    packing = packed(cluster)
    assert packing.moves == packing.evictions == packing.faults == ()


def test_who_stands_on_a_node_that_is_gone_is_no_company() -> None:
    packing = packed(snapshot(*zones("a1"), web(0, on="gone", **near(WEB)), web(1, **near(WEB))))
    assert places(packing)["web-1"] == "a1"


def test_a_nominated_pod_counts_as_if_it_stood_there() -> None:
    standing = [web(0, on="a1", **spread()), web(1, on="b1", **spread())]
    nominated = web(2, nominated_node="a1", **spread())
    others = [pod(f"new-{number}") for number in range(3)]
    cluster = snapshot(*zones("a1"), *zones("b1", cpu=100), *standing, nominated, web(3, **spread()), *others)
    packing = packed(cluster)
    assert packing.faults == ()
    assert {f"new-{number}" for number in range(3)} <= set(places(packing))
    assert "web-3" not in places(packing)


def test_many_evictions_for_a_pod_that_has_a_rule_are_ordered_at_once() -> None:
    count = 60
    small = [web(number, 10, on="a1", **spread(skew=100)) for number in range(count)]
    large = pod("large-0", count * 10, priority=5, labels={"app": "web"}, **spread(skew=100))
    packing = packed(snapshot(*zones("a1", cpu=count * 10), *small, large))
    assert places(packing) == {"large-0": "a1"}


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")], ids=["the leader first", "the follower first"])
def test_a_gang_is_asked_again_whichever_of_its_pods_was_in_trouble(names: tuple[str, str]) -> None:
    both: dict[str, Any] = {"priority": 5, "gang": Gang("ring", 2), "gates": (GANG_GATE,)}
    leader = pod(f"{names[0]}-0", 200, labels={"app": "db"}, **both)
    follower = pod(f"{names[1]}-0", 100, labels={"app": "web"}, **both, **near(DB))
    cluster = snapshot(*zones("a1", cpu=100), *zones("a2", cpu=200), pod("old-0", 200, on="a2"), leader, follower)
    packing = packed(cluster)
    assert packing.faults == ()
    assert len(packing.steps) == 3


def test_nothing_is_certified_that_followers_who_run_might_make_better() -> None:
    together = near(WEB, key="host")
    cluster = snapshot(
        *zones("a1", cpu=200),
        *zones("b1", cpu=250),
        *zones("c1", cpu=100),
        *(web(number, on="a1", **together) for number in range(2)),
        web(2, on="b1"),
        pod("new-0", 200, node_selector={"host": "a1"}),
    )
    packing = packed(cluster)
    assert packing.placed[0] == 4 or not packing.certified


@pytest.mark.parametrize(
    "selector",
    [
        pytest.param(LabelSelector((), (Requirement("app", "In", ("web",)),)), id="as an expression"),
        pytest.param(LabelSelector((("all", "same"), ("app", "web"))), id="behind a label that all have"),
    ],
)
def test_selectors_of_any_form_are_found(selector: LabelSelector) -> None:
    labels = {"all": "same", "app": "web"}
    pods = [pod(f"web-{number}", labels=labels, **apart(selector)) for number in range(3)]
    packing = packed(snapshot(*zones("a1", "b1"), *pods, pod("other-0", labels={"all": "same", "app": "x"})))
    assert len(packing.assignments) == 3
    assert [entry.reason for entry in packing.unplaced] == [Reason.POD_ANTI_AFFINITY]
