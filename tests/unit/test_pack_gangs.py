"""Gangs in the packer: all of it or nothing, moves that make room for it, and steps that start together."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from harness.facts import OPTIONS, gang, node, packed, places, pod, snapshot
from stowage_scheduler.build import build
from stowage_scheduler.cluster import Gang, HostPort, Pod, Snapshot
from stowage_scheduler.gangs import GANG_GATE
from stowage_scheduler.options import Budget, PackOptions
from stowage_scheduler.packing import Action, Reason
from stowage_scheduler.placement import Placement
from stowage_scheduler.rules import RULES, Outcome
from stowage_scheduler.solve import engine
from stowage_scheduler.solve.effort import Effort
from stowage_scheduler.solve.model import CountModel

GPU = "nvidia.com/gpu"


def running(name: str, size: int, on: str, number: int = 0, **more: object) -> Pod:
    """A pod of a gang that runs."""
    return pod(f"{name}-r{number}", 100, on=on, gang=Gang(name, size), **more)


@dataclass(frozen=True)
class Case:
    """A cluster and where its pods must be; pods that are not named must have no place."""

    cluster: Snapshot
    want: dict[str, str]
    reasons: dict[str, Reason] = field(default_factory=dict)
    options: PackOptions = OPTIONS


def short_of(gang_name: str, count: int, reason: Reason = Reason.INSUFFICIENT_CPU) -> dict[str, Reason]:
    return {f"{gang_name}-{number}": reason for number in range(count)}


TABLE = {
    "a gang takes free room": Case(
        snapshot(node("a"), node("b"), *gang("ring", 2, 600)), {"ring-0": "a", "ring-1": "b"}
    ),
    "not a pod of it when one has no room": Case(
        snapshot(node("a"), node("b"), *gang("ring", 3, 600)), {}, short_of("ring", 3)
    ),
    "a running pod moves to make room": Case(
        snapshot(node("a"), node("b"), node("c", 500), pod("web-1", 500, on="a"), *gang("ring", 2, 600)),
        {"web-1": "c", "ring-0": "a", "ring-1": "b"},
    ),
    "a gang yields to more pods of its priority": Case(
        snapshot(node("a"), *gang("ring", 2, 500), *(pod(f"web-{n}", 333) for n in range(3))),
        {"web-0": "a", "web-1": "a", "web-2": "a"},
        short_of("ring", 2),
    ),
    "more pods than its size, and all of them": Case(
        snapshot(node("a"), *gang("ring", 2, 300, members=3)), {"ring-0": "a", "ring-1": "a", "ring-2": "a"}
    ),
    "more pods than its size, but no room for one of them": Case(
        snapshot(node("a"), *gang("ring", 2, 400, members=3)), {}, short_of("ring", 3)
    ),
    "the rest of a gang joins those that run": Case(
        snapshot(node("a"), running("ring", 3, "a"), *gang("ring", 3, 400, members=2)),
        {"ring-r0": "a", "ring-0": "a", "ring-1": "a"},
    ),
    "too few with those that run": Case(
        snapshot(node("a"), running("ring", 4, "a"), *gang("ring", 4, 100, members=2)),
        {"ring-r0": "a"},
        short_of("ring", 2, Reason.GANG_INCOMPLETE),
    ),
    "a pod of a gang that runs never moves": Case(
        snapshot(node("a"), node("b", 600), running("ring", 1, "a"), pod("big-1", 950)),
        {"ring-r0": "a"},
        {"big-1": Reason.INSUFFICIENT_CPU},
    ),
    "a pod of a gang that runs is never evicted": Case(
        snapshot(node("a"), running("ring", 1, "a"), pod("big-1", 950, priority=9)),
        {"ring-r0": "a"},
        {"big-1": Reason.INSUFFICIENT_CPU},
    ),
    "a higher gang evicts lower pods": Case(
        snapshot(node("a"), node("b"), *(pod(f"low-{n}", 900, on=n) for n in "ab"), *gang("ring", 2, 600, priority=5)),
        {"ring-0": "a", "ring-1": "b"},
    ),
    "nobody is evicted for half a gang": Case(
        snapshot(node("a"), pod("low-1", 900, on="a"), *gang("ring", 2, 600, priority=5)),
        {"low-1": "a"},
        short_of("ring", 2),
    ),
    "pods of different size": Case(
        snapshot(node("a"), node("b", 400), *gang("ring", 2, 900, members=1), pod("ring-9", 300, gang=Gang("ring", 2))),
        {"ring-0": "a", "ring-9": "b"},
    ),
    "one of its pods preempts nobody, so all take free room only": Case(
        snapshot(
            node("a"),
            node("b"),
            pod("low-1", 900, on="b"),
            *gang("ring", 2, 900, priority=5, members=1),
            pod("ring-9", 900, gang=Gang("ring", 2), priority=5, preemption_policy="Never"),
        ),
        {"low-1": "b"},
        {"ring-0": Reason.INSUFFICIENT_CPU, "ring-9": Reason.INSUFFICIENT_CPU},
    ),
    "gangs of the same name in two namespaces are two": Case(
        snapshot(
            node("a"),
            *gang("ring", 2, 400),
            *(replace(p, name=f"x{p.name}", uid=f"x{p.uid}", namespace="x") for p in gang("ring", 2, 600)),
        ),
        {"ring-0": "a", "ring-1": "a"},
        short_of("xring", 2),
    ),
    "the better of two gangs": Case(
        snapshot(node("a"), *gang("few", 2, 500), *gang("many", 3, 300)),
        {"many-0": "a", "many-1": "a", "many-2": "a"},
        short_of("few", 2),
    ),
    "host ports spread it": Case(
        snapshot(node("a"), node("b"), *gang("ring", 2, 100, host_ports=(HostPort("TCP", "0.0.0.0", 80),))),
        {"ring-0": "a", "ring-1": "b"},
    ),
    "another gate holds all of it": Case(
        snapshot(node("a"), *gang("ring", 3, members=2), pod("ring-9", gang=Gang("ring", 3), gates=("x/quota",))),
        {},
        {**short_of("ring", 2, Reason.GANG_GATED), "ring-9": Reason.GANG_GATED},
    ),
    "a pod out of scope holds all of it": Case(
        snapshot(node("a"), *gang("ring", 2, members=1), pod("ring-9", gang=Gang("ring", 2), scheduler_name="other")),
        {},
        {"ring-0": Reason.GANG_HELD_BACK},
        replace(OPTIONS, scheduler_names=("default-scheduler",)),
    ),
    "as large as a plan may be": Case(
        snapshot(node("a"), *gang("ring", 2)),
        {"ring-0": "a", "ring-1": "a"},
        options=replace(OPTIONS, max_gang_pods=2),
    ),
    "larger than a plan": Case(
        snapshot(node("a"), *gang("ring", 2, members=3)),
        {},
        short_of("ring", 3, Reason.GANG_TOO_LARGE),
        replace(OPTIONS, max_gang_pods=2),
    ),
    "the cap on moves": Case(
        snapshot(node("a"), node("b"), node("c", 500), pod("web-1", 500, on="a"), *gang("ring", 2, 600)),
        {"web-1": "a"},
        short_of("ring", 2, Reason.MOVE_LIMIT),
        replace(OPTIONS, max_moves=0),
    ),
}


@pytest.mark.parametrize("case", TABLE.values(), ids=TABLE.keys())
def test_gangs(case: Case) -> None:
    packing = packed(case.cluster, case.options)
    assert packing.faults == ()
    got, want = places(packing), case.want
    assert set(got) == set(want)
    waiting = {one.name for one in case.cluster.pods if one.node is None}
    assert {name: on for name, on in got.items() if name not in waiting} == {
        name: on for name, on in want.items() if name not in waiting
    }
    assert sorted(got.values()) == sorted(want.values())
    assert {one.pod.name: one.reason for one in packing.unplaced} == case.reasons


def test_pods_of_a_gang_start_together_once_there_is_room_for_all() -> None:
    """One is let in by its gate, the other waits for a place only; each needs another pod to leave."""
    cluster = snapshot(
        node("a", labels={"pool": "x"}), node("b", labels={"pool": "x"}), node("c"),
        pod("web-1", 500, on="a"), pod("api-1", 500, on="b"), pod("lone-1", 1, node_selector={"pool": "x"}),
        *gang("ring", 2, 600, members=1, node_selector={"pool": "x"}),
        pod("ring-9", 700, gang=Gang("ring", 2), node_selector={"pool": "x"}),
    )  # fmt: skip
    packing = packed(cluster)
    evictions = tuple(step.id for step in packing.steps if step.action is Action.EVICT)
    arrivals = [step for step in packing.steps if step.gang == "ring"]
    assert len(evictions) == 2
    assert {step.pod.name: step.action for step in arrivals} == {"ring-0": Action.UNGATE, "ring-9": Action.PLACE}
    assert [step.after for step in arrivals] == [evictions, evictions]
    assert {step.slot for step in arrivals} <= {slot.id for slot in packing.slots}
    assert [step.after for step in packing.steps if step.pod.name == "lone-1"] == [()]


@pytest.mark.parametrize("seed", range(3))
def test_a_gang_that_needs_more_nodes_than_a_neighbourhood_has(seed: int) -> None:
    """Twelve of sixteen nodes must be emptied; too many integers for the exact model."""
    nodes = [node(f"n{number:02d}", 8000, extra={GPU: 8}) for number in range(60)]
    small = [
        pod(f"s{number % 40}-{number}", 500 + 10 * (number % 40), on=f"n{number // 2:02d}", extra={GPU: 2})
        for number in range(120)
    ]
    ring = gang("ring", 24, 100, extra={GPU: 8}, priority=1)
    packing = packed(snapshot(*nodes, *small, *ring), budget=Budget(deterministic_units=10.0), seed=seed)
    assert packing.faults == ()
    assert [one.pod.name for one in packing.unplaced] == []
    assert packing.evictions == ()


def test_a_gang_takes_the_place_of_fewer_pods_that_each_of_its_pods_would_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its small pod each node holds two pods of the gang instead of one: no gain until the gang is whole."""
    monkeypatch.setattr(engine, "is_small", lambda _: False)
    cluster = snapshot(
        *(node(f"n{number}", labels={"host": str(number)}) for number in range(6)),
        *(pod(f"s{number}-1", 300, on=f"n{number}", node_selector={"host": str(number)}) for number in range(6)),
        *gang("ring", 12, 500),
    )
    packing = packed(cluster)
    assert packing.placed == {0: 12}
    assert len(packing.evictions) == 6


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "search alone"])
def test_a_lower_gang_leaves_room_that_a_higher_pod_needs(exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Greedy gives the last room to the low gang, for the high pod needs a move; then all of the gang must go."""
    monkeypatch.setattr(engine, "is_small", lambda _: exact)
    cluster = snapshot(
        *(node(f"n{number}", 1000) for number in range(8)),
        *(pod(f"w{number}-1", 500, on=f"n{number}") for number in range(8)),
        *gang("low", 8, 450), pod("high-1", 900, priority=5),
    )  # fmt: skip
    got = places(packed(cluster, replace(OPTIONS, evict_lower_priority=False)))
    assert "high-1" in got
    assert not [name for name in got if name.startswith("low")]


@pytest.mark.parametrize(("size", "gone"), [(500, False), (250, True)], ids=["two for three", "four for three"])
def test_a_neighbourhood_counts_the_pods_of_a_gang_elsewhere(size: int, gone: bool) -> None:
    """A gang of three on three nodes, one of them freed: it makes way for more pods than all of it."""
    cluster = snapshot(*(node(n) for n in "abc"), *gang("ring", 3, 900), *(pod(f"w-{n}", size) for n in range(4)))
    problem = build(cluster, OPTIONS).problem
    (ring,) = problem.gangs[0].classes
    (small,) = {0, 1} - {ring}
    start = Placement(problem)
    for number in range(3):
        start.add(problem.classes[ring], number, 1)
    model = CountModel(start, [0], [small], RULES)
    answer = model.maximise(model.tier_levels(), Effort(deterministic=1.0))
    assert answer == ({0: {small: 4}} if gone else {0: {ring: 1}})
    for number, held in (answer or {}).items():
        start.replace(number, held)
    assert start.without_halved_gangs() == ({1: {}, 2: {}} if gone else {})


PLANTED = {
    "half of a gang": {"uid-ring-0": "a"},
    "a gang that lacks pods": {"uid-lack-0": "a"},
    "a gang behind another gate": {"uid-held-0": "a", "uid-held-1": "a"},
}


@pytest.mark.parametrize("wrong", PLANTED.values(), ids=PLANTED.keys())
def test_the_check_sees_planted_faults(wrong: dict[str, str]) -> None:
    cluster = snapshot(
        node("a"), *gang("ring", 2), *gang("lack", 2, members=1), *gang("held", 2, gates=(GANG_GATE, "x")),
        running("old", 1, "a"),
    )  # fmt: skip
    stays = {"uid-old-r0": "a"}

    def faults(after: dict[str, str]) -> list[str]:
        return [v.rule for rule in RULES for v in rule.check(Outcome(cluster, OPTIONS, after)) if v.rule == "Gangs"]

    assert faults(stays) == []
    assert faults({**stays, "uid-ring-0": "a", "uid-ring-1": "a"}) == []
    assert faults({**stays, **wrong})
    assert faults({})
