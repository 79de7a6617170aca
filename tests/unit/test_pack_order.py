"""Which pod breaks a cycle, what a plan does when none may, and how long ordering takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import pytest

from harness.facts import OPTIONS, packed, snapshot
from harness.facts import node as make_node
from harness.facts import pod as make_pod
from stowage_scheduler import moves
from stowage_scheduler.assign import Change, changes
from stowage_scheduler.attempts import Attempt
from stowage_scheduler.build import Build, build
from stowage_scheduler.cluster import DisruptionBudget, HostPort, LabelSelector
from stowage_scheduler.greedy import greedy
from stowage_scheduler.moves import UnorderableError, order
from stowage_scheduler.packing import Step
from stowage_scheduler.patience import Patience
from stowage_scheduler.placement import Placement
from stowage_scheduler.sequence import Simulation, part_of


class Goes(NamedTuple):
    """A pod of so many milli-CPU, from one node (by number) to another; under the budget or not."""

    name: str
    size: int
    source: int | None
    target: int | None
    covered: bool = False
    cost: int = 30


def exchange(sizes: list[int], pods: list[Goes], allowed: int = 1) -> tuple[Build, tuple[Change, ...]]:
    budget = DisruptionBudget("default", "web", "web", LabelSelector((("tier", "web"),)), allowed)
    built = build(
        snapshot(
            *(make_node(f"n{number}", size) for number, size in enumerate(sizes)),
            *(
                make_pod(
                    f"{one.name}-1",
                    one.size,
                    on=None if one.source is None else f"n{one.source}",
                    labels={"tier": "web"} if one.covered else {},
                    annotations={"stowage.dev/move-cost-seconds": str(one.cost)},
                )
                for one in pods
            ),
            budgets=(budget,),
        ),
        OPTIONS,
    )
    placement = Placement(built.problem)
    classes = {c.name: c for c in built.problem.classes}
    for one in pods:
        for number, count in ((one.source, -1), (one.target, 1)):
            if number is not None:
                placement.add(classes[f"default/{one.name}"], number, count)
    return built, changes(built, placement)


def names(steps: tuple[Step, ...]) -> list[str]:
    return [("swap " if step.swap else "") + step.pod.name.removesuffix("-1") for step in steps]


@pytest.mark.parametrize(
    ("sizes", "pods", "allowed", "expected"),
    [
        pytest.param(
            [5, 4, 3],
            [Goes("a", 4, 0, 1), Goes("z", 3, 1, 0), Goes("aa", 2, 2, 0), Goes("q", 3, None, 2)],
            1,
            ["swap a", "aa", "z", "q"],
            id="who-waits-for-a-cycle-is-not-part-of-it",
        ),
        pytest.param(
            [4, 4], [Goes("a", 4, 0, 1, cost=90), Goes("z", 4, 1, 0)], 1, ["swap z", "a"], id="the-cheapest-one"
        ),
        pytest.param(
            [4, 4],
            [Goes("a", 4, 0, 1, covered=True), Goes("z", 4, 1, 0, cost=90)],
            5,
            ["swap z", "a"],
            id="rather-dear-than-under-a-budget",
        ),
        pytest.param(
            [4, 4, 5],
            [Goes("a", 4, 0, 1, covered=True), Goes("b", 4, 1, 2), Goes("z", 3, 2, 0), Goes("q", 1, None, 2)],
            1,
            ["q", "swap b", "a", "z"],
            id="three-in-a-circle",
        ),
        pytest.param(
            [7, 7, 5],
            [
                Goes("a", 6, 0, 1, covered=True),
                Goes("m", 5, 1, 0, covered=True),
                Goes("loses", 5, 2, None, covered=True),
                Goes("r", 5, None, 2),
            ],
            2,
            ["swap a", "m", "loses", "r"],
            id="a-loss-leaves-the-budget-to-the-cycle",
        ),
        pytest.param(
            [5, 7],
            [Goes("a", 4, 0, 1, covered=True), Goes("loses", 4, 1, None, covered=True), Goes("b", 3, 1, 0)],
            2,
            ["loses", "a", "b"],
            id="a-loss-that-opens-a-cycle-comes-first",
        ),
    ],
)
def test_who_breaks_a_cycle(sizes: list[int], pods: list[Goes], allowed: int, expected: list[str]) -> None:
    steps, _ = order(*exchange(sizes, pods, allowed))
    assert names(steps) == expected


def test_a_loss_waits_for_the_moves_that_need_its_budget() -> None:
    pods = [Goes("a", 6, 0, 1, True), Goes("m", 5, 1, 0, True), Goes("loses", 5, 2, None, True)]
    steps, slots = order(*exchange([7, 7, 5], pods, allowed=2))
    assert [step.after for step in steps] == [(), ("s001",), ("s001", "s002")]
    assert [slot.after for slot in slots] == [("s002",), ()]


def test_who_can_not_be_ordered_is_told() -> None:
    """Two pods under one disruption change places; what has nothing to do with them is not blamed."""
    pods = [Goes("a", 4, 0, 1, True), Goes("b", 4, 1, 0, True), Goes("free", 1, None, 2)]
    with pytest.raises(UnorderableError, match="default/a-1, default/b-1") as caught:
        order(*exchange([4, 4, 4], pods), most_detours=0)
    assert {change.uid for change in caught.value.changes} == {"uid-a-1", "uid-b-1"}


def test_the_next_candidate_is_tried_when_the_best_one_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """`a` makes room for nobody that may still move: `b` and `d` share one disruption, and one of them waits."""
    pods = [
        Goes("a", 2, 0, 1),
        Goes("b", 3, 0, 1, covered=True),
        Goes("c", 2, 1, 0),
        Goes("d", 4, 1, 0, covered=True),
        Goes("e", 2, None, 1),
    ]
    built, made = exchange([6, 7], pods)
    steps, _ = order(built, made)
    assert names(steps) == ["swap c", "b", "swap a", "d", "e"]
    monkeypatch.setattr(moves, "_ATTEMPTS", 1)
    with pytest.raises(UnorderableError):
        order(built, made)


def test_a_change_comes_or_goes() -> None:
    with pytest.raises(ValueError, match="pod x neither comes nor goes"):
        part_of(Change("x", 0, None, None), exchange([4], [Goes("a", 1, 0, 0)])[0].problem.classes)


def test_thousands_of_arrivals_are_ordered_in_no_time() -> None:
    cluster = snapshot(
        *(make_node(f"n{number}", 64_000, extra={"pods": 250}) for number in range(100)),
        *(make_pod(f"w{number // 10}-{number % 10}", 100 + number % 7) for number in range(4000)),
    )
    built = build(cluster, OPTIONS)
    made = changes(built, greedy(built.problem))
    assert len(made) == 4000
    began = time.process_time()
    order(built, made)
    assert time.process_time() - began < 2, "it was 8 s when each arrival looked at all events"


@pytest.mark.parametrize(("most", "expected"), [(100_000, 32), (20, 10), (1, 1)])
def test_of_a_large_plan_fewer_ways_are_tried(monkeypatch: pytest.MonkeyPatch, most: int, expected: int) -> None:
    tried: list[int] = []
    attempts = moves.best_attempt

    def counting(simulation: Callable[..., Simulation], limit: int, patience: Patience) -> Attempt[Simulation]:
        tried.append(limit)
        return attempts(simulation, limit, patience)

    monkeypatch.setattr(moves, "best_attempt", counting)
    monkeypatch.setattr(moves, "_MOST_TRIED", most)
    order(*exchange([4, 4], [Goes("a", 4, 0, 1), Goes("z", 4, 1, 0)]))
    assert tried == [expected]


def test_pods_that_run_with_one_port_on_one_node_leave_it() -> None:
    """Where no kubelet refuses the second one, as on simulated nodes."""
    port = HostPort("TCP", "0.0.0.0", 80)
    nodes = [make_node("a", 100), make_node("b", 60), make_node("c", 40)]
    running = [make_pod(f"x-{number}", 30, on="a", host_ports=(port,)) for number in range(2)]
    packing = packed(snapshot(*nodes, *running, make_pod("y-0", 90)))
    assert packing.faults == ()
    assert [(move.pod.name, move.target) for move in packing.moves] == [("x-0", "b"), ("x-1", "c")]
