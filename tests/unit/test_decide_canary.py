"""The first move of a plan alone: who it is, whom it holds back, and until when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from msgspec import structs

from stowage.api.packing_plan_status import PlanPhase, StepState
from stowage.api.reasons import PlanReason, StepReason
from stowage.decide.canary import canary_of
from stowage.decide.plan_facts import PlanFacts, StepStatus
from stowage_scheduler.cluster import Pod, Workload
from stowage_scheduler.packing import Step
from unit.builders import NOW, POLICY, bound, evict, node, place, plan, pod, replica_set, slot, snapshot
from unit.one_move import RUNNING, run, states

NODES = (node("n1"), node("n2"), node("n3"), node("n4"))
OWNERS: tuple[Workload, ...] = tuple(replica_set(app, 1) for app in ("a", "b", "c"))
A, B, C = (pod(f"{app}-1", "n1", app=app, cpu=2) for app in ("a", "b", "c"))
NEW_A = pod("a-2", app="a", cpu=2, created_at=NOW - 1)
WAITS = pod("waits", app="waits", cpu=2)
TO_N2 = (slot(1, A, "n2"), slot(2, B, "n2"), slot(3, C, "n3"))
THREE = (evict(1, A, "k001"), evict(2, B, "k002"), evict(3, C, "k003"))
CANARY = structs.replace(POLICY, canary=True)

WHO: dict[str, tuple[tuple[Step, ...], str | None]] = {
    "the first move": (THREE, "s001"),
    "not a pod that loses its place": ((evict(1, A), *THREE[1:]), "s002"),
    "not a swap, whose replacement waits for others": ((evict(1, A, "k001", swap=True), *THREE[1:]), "s002"),
    "not a move that comes after another eviction": (
        (evict(1, A), evict(2, B, "k002", "s001"), evict(3, C, "k003")),
        "s003",
    ),
    "nor by way of an arrival": (
        (evict(1, A), place(2, WAITS, TO_N2[0], "s001"), evict(3, C, "k003", "s002")),
        None,
    ),
    "a move after an arrival alone": ((place(1, WAITS, TO_N2[0]), evict(2, C, "k003", "s001")), "s002"),
    "nobody, where all depend on a swap": (
        (evict(1, A, "k001", swap=True), evict(2, B, "k002", "s001")),
        None,
    ),
    "nobody, where nobody moves": ((place(1, WAITS, TO_N2[0]), evict(2, A)), None),
}


@pytest.mark.parametrize(("steps", "first"), WHO.values(), ids=WHO.keys())
def test_who_goes_first(steps: tuple[Step, ...], first: str | None) -> None:
    found = canary_of(steps)
    assert (found.id if found is not None else None) == first


def going(pods: tuple[Pod, ...], status: Mapping[str, StepStatus] | None = None, **policy: Any) -> Any:
    """One pass over the running plan of three moves: asked-for evictions and the advance."""
    facts: PlanFacts = plan(*THREE, *TO_N2, **RUNNING, step_status=status or {})
    return run(facts, snapshot(*NODES, *OWNERS, *pods), policy=structs.replace(CANARY, **policy))


def test_nobody_else_is_evicted_beside_the_first_move() -> None:
    step = going((A, B, C))
    assert [one.id for one in step.evict] == ["s001"]
    assert states(step)["s002"] == states(step)["s003"] == (StepState.WAITING, StepReason.CANARY_PENDING)


def test_without_the_switch_all_go_together() -> None:
    assert len(going((A, B, C), canary=False).evict) == 3


BEGUN = {"s001": StepStatus(StepState.INTENDED, None, NOW - 20)}
LANDED = {"s001": StepStatus(StepState.DONE, StepReason.BOUND, NOW - 20)}
UNTIL: dict[str, tuple[tuple[Pod, ...], Mapping[str, StepStatus], list[str]]] = {
    "while its pod is on its way out": ((structs.replace(A, terminating=True), B, C), BEGUN, []),
    "while its replacement waits": ((NEW_A, B, C), BEGUN, []),
    "while its replacement is not Ready": (
        (structs.replace(bound(NEW_A, "n2"), ready=False), B, C),
        LANDED,
        [],
    ),
    "until its replacement is Ready": ((bound(NEW_A, "n2"), B, C), LANDED, ["s002", "s003"]),
    "when it became void, the next one goes first": (
        (B, C),
        {"s001": StepStatus(StepState.VOID, StepReason.OWNER_GONE, NOW - 20)},
        ["s002"],
    ),
    "when its replacement went away again, the next one goes first": ((B, C), LANDED, ["s002"]),
    "when its replacement is on its way out, the next one goes first": (
        (structs.replace(bound(NEW_A, "n2"), ready=False, terminating=True), B, C),
        LANDED,
        ["s002"],
    ),
    "when its replacement went away and another one waits, too": (
        (pod("a-3", app="a", cpu=2, created_at=NOW - 1), B, C),
        LANDED,
        ["s002"],
    ),
    "while that of the next one is not Ready": (
        (structs.replace(bound(pod("b-2", app="b", cpu=2), "n2"), ready=False), C),
        {**LANDED, "s002": StepStatus(StepState.DONE, StepReason.BOUND, NOW - 5)},
        [],
    ),
    "until that of the next one is Ready": (
        (bound(pod("b-2", app="b", cpu=2), "n2"), C),
        {**LANDED, "s002": StepStatus(StepState.DONE, StepReason.BOUND, NOW - 5)},
        ["s003"],
    ),
    "once another one was begun, it has done its work": (
        (structs.replace(bound(NEW_A, "n2"), ready=False), structs.replace(B, terminating=True), C),
        {**LANDED, "s002": StepStatus(StepState.INTENDED, None, NOW - 5)},
        ["s003"],
    ),
}


@pytest.mark.parametrize(("pods", "status", "evicted"), UNTIL.values(), ids=UNTIL.keys())
def test_how_long_the_others_wait(pods: tuple[Pod, ...], status: Mapping[str, StepStatus], evicted: list[str]) -> None:
    assert [one.id for one in going(pods, status).evict] == evicted


def test_a_plan_that_stands_still_says_that_it_waits_for_its_first_move() -> None:
    waiting = StepStatus(StepState.WAITING, StepReason.CANARY_PENDING, NOW - 60)
    status = {**LANDED, "s002": waiting, "s003": waiting}
    step = going((structs.replace(bound(NEW_A, "n2"), ready=False, bound_at=NOW - 50), B, C), status)
    assert (step.phase, step.reason) == (PlanPhase.RUNNING, PlanReason.CANARY_PENDING)


def test_nobody_waits_for_a_move_that_comes_after_an_eviction_by_way_of_an_arrival() -> None:
    to_n1 = slot(4, WAITS, "n1")
    steps = (evict(1, A), place(2, WAITS, to_n1, "s001"), evict(3, C, "k003", "s002"))
    facts = plan(*steps, to_n1, TO_N2[2], **RUNNING)
    step = run(facts, snapshot(*NODES, *OWNERS, A, C, WAITS), policy=CANARY)
    assert [one.id for one in step.evict] == ["s001"]


@pytest.mark.parametrize("own", ["k001", "k002"])
@pytest.mark.parametrize(("ready", "evicted"), [(False, []), (True, ["s003"])], ids=["not Ready", "Ready"])
def test_a_slot_alike_shows_as_much(own: str, ready: bool, evicted: list[str]) -> None:
    waits = pod("a-9", app="a", cpu=2)
    slots = (slot(1, A, "n2"), slot(2, A, "n2"), TO_N2[2])
    other = slots[0] if own == "k002" else slots[1]
    steps = (evict(1, A, own), place(2, waits, other), THREE[2])
    facts = plan(*steps, *slots, **RUNNING, step_status=LANDED)
    seen = snapshot(*NODES, replica_set("a", 2), OWNERS[2], waits, bound(NEW_A, "n2", ready=ready), C)
    assert [one.id for one in run(facts, seen, policy=CANARY).evict] == evicted
