"""Gangs behind a gate: let go together, resumed after a crash, started again whole when they stay half."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from stowage.api.packing_plan_status import PlanPhase, StepState
from stowage.api.reasons import PlanReason, StepReason
from stowage.decide.plan_facts import Attempt, PlanFacts, StepStatus
from stowage_scheduler.cluster import Gang, NodeSelectorTerm, Pod, Requirement
from stowage_scheduler.packing import Action, Step
from unit.builders import NOW, POLICY, bound, evict, node, plan, pod, ref, replica_set, slot, snapshot
from unit.one_move import RUNNING, after, run, states

GATE = "stowage.dev/gang"


def member(number: int, **fields: Any) -> Pod:
    usual: dict[str, Any] = {"gates": (GATE,), "gang": Gang("ring", 2), "unschedulable_since": None}
    return pod(f"ring-{number}", app="ring", cpu=4, **{**usual, **fields})


ONE, TWO = member(1), member(2)
TARGETS = {ONE.name: "n1", TWO.name: "n2"}


def let_go(one: Pod) -> Pod:
    """The gate is gone, and the pod is pinned to its own node."""
    pinned = NodeSelectorTerm(fields=(Requirement("metadata.name", "In", (TARGETS[one.name],)),))
    return structs.replace(one, gates=(), node_affinity=(pinned,))


K1, K2 = slot(1, ONE, "n1"), slot(2, TWO, "n2")
SMALL = pod("small-1", "n2", cpu=8, app="small")
AWAY = slot(3, SMALL, "n3")
NODES = (node("n1"), node("n2"), node("n3"))
OWNERS = (replica_set("ring", 2), replica_set("small", 1))


def ungate(number: int, one: Pod, target: str, slot_id: str, *before: str) -> Step:
    return Step(f"s{number:03d}", Action.UNGATE, ref(one), target, slot_id, before, gang="ring")


S1, S2 = ungate(1, ONE, "n1", "k001"), ungate(2, TWO, "n2", "k002")
RING = plan(S1, S2, K1, K2, **RUNNING)


def begun(seconds_ago: float, **states_of: StepState) -> PlanFacts:
    """The gang's intents are on record since then."""
    status = {step.id: StepStatus(StepState.INTENDED, None, NOW - seconds_ago) for step in (S1, S2)}
    status |= {step_id: StepStatus(state, None, NOW - 1) for step_id, state in states_of.items()}
    return structs.replace(RING, step_status=status)


def test_all_members_are_let_go_in_one_pass() -> None:
    step = run(RING, snapshot(*NODES, *OWNERS, ONE, TWO))
    assert step.ungate == (S1, S2)
    assert {state for state, _ in states(step).values()} == {StepState.INTENDED}
    asked = {one.id: Attempt(NOW, 2.0) for one in step.ungate}
    assert run(after(RING, step), snapshot(*NODES, *OWNERS, ONE, TWO), attempts=asked).ungate == ()


def test_a_gang_waits_for_everything_that_makes_room_for_any_of_it() -> None:
    move = evict(3, SMALL, "k003")
    one, two = (structs.replace(step, after=("s003",)) for step in (S1, S2))
    facts = plan(move, one, two, K1, K2, AWAY, **RUNNING)
    step = run(facts, snapshot(*NODES, *OWNERS, ONE, TWO, SMALL))
    assert (step.evict, step.ungate) == ((move,), ())
    assert states(step)["s001"] == (StepState.WAITING, StepReason.DEPENDENCY_PENDING)
    moved = pod("small-2", "n3", cpu=8, app="small")
    assert run(after(facts, step), snapshot(*NODES, *OWNERS, ONE, TWO, moved)).ungate == (one, two)


def test_a_terminating_pod_still_holds_its_room() -> None:
    leaving = pod("late-1", "n2", cpu=8, app="late", terminating=True)
    step = run(RING, snapshot(*NODES, *OWNERS, ONE, TWO, leaving))
    assert step.ungate == ()
    assert run(RING, snapshot(*NODES, *OWNERS, ONE, TWO)).ungate == (S1, S2)


def test_a_paused_policy_lets_nobody_go_but_ends_what_was_begun() -> None:
    paused = structs.replace(POLICY, paused=True)
    seen = snapshot(*NODES, *OWNERS, ONE, TWO)
    assert run(RING, seen, paused).ungate == ()
    assert run(begun(1), snapshot(*NODES, *OWNERS, let_go(ONE), TWO), paused).ungate == (S2,)


@pytest.mark.parametrize(
    ("members", "ungated"),
    [
        pytest.param((ONE, TWO), (S1, S2), id="a crash before the first patch"),
        pytest.param((let_go(ONE), TWO), (S2,), id="a crash between two patches"),
        pytest.param((let_go(ONE), let_go(TWO)), (), id="a crash after the last patch"),
    ],
)
def test_a_half_let_go_gang_is_resumed(members: tuple[Pod, ...], ungated: tuple[Step, ...]) -> None:
    step = run(begun(1), snapshot(*NODES, *OWNERS, *members))
    assert (step.phase, step.ungate, step.restart) == (PlanPhase.RUNNING, ungated, ())


def test_a_gang_that_is_not_whole_in_a_minute_starts_again() -> None:
    half = snapshot(*NODES, *OWNERS, bound(let_go(ONE), "n1"), let_go(TWO))
    waits = run(begun(59), half)
    assert (waits.phase, waits.restart) == (PlanPhase.RUNNING, ())
    gives_up = run(begun(60), half)
    assert (gives_up.phase, gives_up.reason) == (PlanPhase.RUNNING, PlanReason.GANG_INCOMPLETE)
    assert gives_up.restart == (S1, S2), "the member that runs goes as well"
    assert states(gives_up)["s002"] == (StepState.FAILED, StepReason.GANG_INCOMPLETE)
    again = after(begun(60), gives_up)
    crashed = run(again, half)
    assert crashed.restart == (S1, S2), "what is on record is done, whoever leads"
    made_again = snapshot(*NODES, *OWNERS, member(3), member(4))
    over = run(again, made_again)
    assert (over.phase, over.reason, over.restart) == (PlanPhase.SUPERSEDED, PlanReason.GANG_INCOMPLETE, ())


@pytest.mark.parametrize(("size", "restart"), [(2, (S2,)), (3, (S1, S2))], ids=["enough run", "too few run"])
def test_of_a_group_that_needs_fewer_only_those_without_a_place_start_again(
    size: int, restart: tuple[Step, ...]
) -> None:
    group = Gang("ring", size, elastic=True)
    one, two, ran = (structs.replace(pod, gang=group) for pod in (let_go(ONE), let_go(TWO), member(3, gates=())))
    half = snapshot(*NODES, *OWNERS, bound(one, "n1"), two, bound(ran, "n3"))
    assert run(begun(59), half).restart == ()
    assert run(begun(60), half).restart == restart


def test_members_that_nothing_would_make_again_stay() -> None:
    bare = [let_go(structs.replace(one, owner=None)) for one in (ONE, TWO)]
    slots = (slot(1, bare[0], "n1"), slot(2, bare[1], "n2"))
    facts = structs.replace(begun(61), slots=slots)
    step = run(facts, snapshot(*NODES, bound(bare[0], "n1"), bare[1]))
    assert (step.phase, step.reason, step.restart) == (PlanPhase.SUPERSEDED, PlanReason.GANG_INCOMPLETE, ())


def test_a_plan_that_can_not_go_on_gives_a_half_gang_its_freedom_first() -> None:
    half = snapshot(node("n1"), node("n3"), *OWNERS, bound(let_go(ONE), "n1"), let_go(TWO))  # n2 is gone
    step = run(begun(1), half)
    assert (step.phase, step.restart) == (PlanPhase.RUNNING, (S1, S2))
    assert "n2" in step.message, "it says why it was given up"
    gone = snapshot(node("n1"), node("n3"), *OWNERS, member(3), member(4))
    over = run(after(begun(1), step), gone)
    assert (over.phase, over.reason, over.message) == (PlanPhase.SUPERSEDED, PlanReason.GANG_INCOMPLETE, step.message)


def test_a_gang_that_lost_a_member_before_its_start_is_not_let_go() -> None:
    seen = snapshot(*NODES, replica_set("ring", 1), replica_set("small", 1), ONE)
    step = run(RING, seen)
    assert step.ungate == ()
    over = run(after(RING, step), seen)
    assert (over.phase, over.reason) == (PlanPhase.DONE, PlanReason.COMPLETED_WITH_VOID_STEPS)
