"""In which order a plan goes: budgets, dependencies, open slots, standstill."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from msgspec import structs

from stowage.api.packing_plan_status import PlanPhase, SlotState, StepState
from stowage.api.reasons import PlanReason, StepReason
from stowage.decide.execution import Advance
from stowage.decide.plan_facts import StepStatus
from unit.builders import NOW, bound, budget, evict, node, place, plan, pod, replica_set, slot, snapshot
from unit.one_move import (
    APPROVED,
    BEFORE,
    MOVE,
    NEW,
    NODES,
    OTHER,
    OWNERS,
    PLACE,
    REPLACEMENT,
    RUNNING,
    TO_N1,
    TO_N2,
    WEB,
    after,
    cluster,
    run,
    states,
)


class TestBudgets:
    A, B = pod("web-1", "n1", cpu=2), pod("web-2", "n1", cpu=2)
    PLAN = plan(evict(1, A, "k001"), evict(2, B, "k002"), slot(1, A, "n2"), slot(2, B, "n2"), **RUNNING)
    OWNER = replica_set("web", 2)
    FRESH = pod("web-3", cpu=2)

    def test_one_at_a_time(self) -> None:
        step = run(self.PLAN, snapshot(*NODES, self.OWNER, self.A, self.B, budget("web", 2)))
        assert [one.id for one in step.evict] == ["s001"]
        assert states(step)["s002"] == (StepState.WAITING, StepReason.DISRUPTION_BUDGET)

    @pytest.mark.parametrize(
        ("facts", "asked", "reason"),
        [
            pytest.param((FRESH, budget("web")), [], StepReason.PEER_NOT_READY, id="replacement-pending"),
            pytest.param((budget("web"),), [], StepReason.PEER_NOT_READY, id="replacement-not-created-yet"),
            pytest.param(
                (bound(FRESH, "n2", ready=False), budget("web")),
                [],
                StepReason.PEER_NOT_READY,
                id="replacement-starts",
            ),
            pytest.param((bound(FRESH, "n2"), budget("web")), ["s002"], None, id="replacement-ready"),
            pytest.param(
                (bound(FRESH, "n2"), budget("web", 0)), [], StepReason.DISRUPTION_BUDGET, id="nothing-allowed"
            ),
            pytest.param(
                (bound(FRESH, "n2"), budget("web", 1, fresh=False)),
                [],
                StepReason.DISRUPTION_BUDGET,
                id="old-status",
            ),
            pytest.param((FRESH, budget("other")), ["s002"], None, id="another-budget"),
        ],
    )
    def test_the_next_eviction(self, facts: tuple[Any, ...], asked: list[str], reason: StepReason | None) -> None:
        begun = structs.replace(self.PLAN, step_status={"s001": StepStatus(StepState.INTENDED, None, NOW - 3)})
        step = run(begun, snapshot(*NODES, self.OWNER, self.B, *facts))
        assert [one.id for one in step.evict] == asked
        assert states(step)["s002"][1] is reason

    def test_a_replica_that_was_never_ready_holds_nobody_up(self) -> None:
        """It stood on the target before the plan: a crash loop must not stop all evictions under its budget."""
        crashing = pod("web-0", "n2", cpu=2, ready=False)
        standing = structs.replace(
            self.PLAN, slots=(slot(1, self.A, "n2", standing=1), slot(2, self.B, "n2", standing=1))
        )
        step = run(standing, snapshot(*NODES, replica_set("web", 3), self.A, self.B, crashing, budget("web")))
        assert [one.id for one in step.evict] == ["s001"]

    def test_two_budgets_fail_the_step(self) -> None:
        twice = structs.replace(budget("web"), name="again", uid="again")
        step = run(self.PLAN, snapshot(*NODES, self.OWNER, self.A, self.B, budget("web"), twice))
        assert (step.phase, step.reason, step.evict) == (PlanPhase.SUPERSEDED, PlanReason.STEP_FAILED, ())


@pytest.mark.parametrize(
    "annotation",
    [
        {"stowage.dev/do-not-disrupt": "true"},
        {"karpenter.sh/do-not-disrupt": "true"},
        {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"},
    ],
    ids=lambda annotation: next(iter(annotation)),
)
def test_an_annotation_that_came_after_the_plan_is_heeded(annotation: dict[str, str]) -> None:
    spared = structs.replace(WEB, annotations=annotation)
    step = run(plan(MOVE, PLACE, TO_N2, TO_N1, **RUNNING), cluster(spared, OTHER, NEW))
    assert (step.phase, step.reason, step.evict) == (PlanPhase.SUPERSEDED, PlanReason.STEP_FAILED, ())
    assert "team/web-1" in step.message


class TestOrder:
    def test_a_swap_starts_first_and_only_has_to_be_out_of_the_way(self) -> None:
        a, b = pod("a-1", "n1", cpu=8, app="a"), pod("b-1", "n2", cpu=8, app="b")
        facts = plan(
            evict(1, a, "k001", swap=True), evict(2, b, "k002", "s001"), slot(1, a, "n2"), slot(2, b, "n1"), **RUNNING
        )
        owners = (replica_set("a", 1), replica_set("b", 1))
        first = run(facts, snapshot(*NODES, *owners, a, b))
        assert [one.id for one in first.evict] == ["s001"]
        assert states(first)["s002"] == (StepState.WAITING, StepReason.DEPENDENCY_PENDING)
        second = run(after(facts, first), snapshot(*NODES, *owners, pod("a-2", cpu=8, app="a"), b))
        assert [one.id for one in second.evict] == ["s002"]

    def test_nobody_is_sent_away_before_a_terminating_pod_has_left_the_target(self) -> None:
        leaving = pod("guest", "n2", cpu=8, app="guest", terminating=True)
        step = run(plan(MOVE, PLACE, TO_N2, TO_N1, **RUNNING), cluster(WEB, OTHER, NEW, leaving))
        assert step.phase is PlanPhase.RUNNING
        assert states(step)["s001"] == (StepState.WAITING, StepReason.DEPENDENCY_PENDING)

    def test_a_pod_gone_before_its_turn_sends_its_successor_to_the_slot(self) -> None:
        facts = plan(MOVE, PLACE, TO_N2, TO_N1, **RUNNING)
        waiting = run(facts, cluster(OTHER, NEW, REPLACEMENT))
        assert states(waiting)["s001"] == (StepState.WAITING, StepReason.REPLACEMENT_PENDING)
        landed = run(after(facts, waiting), cluster(OTHER, NEW, bound(REPLACEMENT, "n2")))
        assert states(landed)["s001"] == (StepState.DONE, StepReason.ALREADY_GONE)

    def test_a_lost_pod_is_done_when_it_is_gone(self) -> None:
        facts = plan(evict(1, WEB), **RUNNING, step_status={"s001": StepStatus(StepState.INTENDED, None, NOW)})
        gone = run(facts, cluster(OTHER, REPLACEMENT))
        assert (gone.phase, states(gone)["s001"]) == (PlanPhase.DONE, (StepState.DONE, StepReason.EVICTED))

    def test_standing_pods_do_not_fill_slots(self) -> None:
        target = slot(2, NEW, "n1", standing=1)
        here = pod("new-0", "n1", cpu=1, app="new", requests=NEW.requests)
        wide = snapshot(node("n1", cpu=20), replica_set("new", 2), here, NEW)
        step = run(plan(place(2, NEW, target), target, **RUNNING), wide)
        assert step.slot_status["k002"].state is SlotState.OPEN


class TestLanding:
    """A slot is open only while its room is there for nobody else."""

    def slots(self, step: Advance) -> dict[str, SlotState]:
        return {slot_id: status.state for slot_id, status in step.slot_status.items()}

    def test_nobody_takes_a_slot_before_the_start(self) -> None:
        step = run(plan(structs.replace(PLACE, after=()), TO_N1, **APPROVED), cluster(OTHER, NEW))
        assert self.slots(step) == {"k002": SlotState.WAITING}

    def test_a_slot_opens_with_the_intent_or_after_the_steps_before_it(self) -> None:
        facts = plan(MOVE, PLACE, TO_N2, TO_N1, **RUNNING)
        first = run(facts, BEFORE)
        assert self.slots(first) == {"k001": SlotState.OPEN, "k002": SlotState.WAITING}
        second = run(after(facts, first), cluster(OTHER, NEW, bound(REPLACEMENT, "n2")))
        assert self.slots(second) == {"k001": SlotState.FILLED, "k002": SlotState.OPEN}

    @pytest.mark.parametrize(
        ("kept_by", "state", "wake"),
        [
            pytest.param("reserved by plan x", SlotState.OPEN, True, id="refused-before"),
            pytest.param("Insufficient cpu", SlotState.OPEN, False, id="will-be-tried-by-itself"),
        ],
    )
    def test_a_pod_that_was_refused_is_woken(self, kept_by: str, state: SlotState, wake: bool) -> None:
        sleeping = structs.replace(NEW, unschedulable_message=kept_by)
        step = run(plan(structs.replace(PLACE, after=()), TO_N1, **RUNNING), cluster(OTHER, sleeping))
        assert (self.slots(step)["k002"], step.wake) == (state, wake)

    @pytest.mark.parametrize(
        ("seen", "begun", "state"),
        [
            pytest.param(("a-1", "b-1"), False, SlotState.WAITING, id="not-begun"),
            pytest.param(("b-1",), True, SlotState.WAITING, id="the-room-is-for-others"),
            pytest.param(("b-1-terminating",), True, SlotState.WAITING, id="the-last-one-is-about-to-leave"),
            pytest.param((), True, SlotState.OPEN, id="all-that-it-needs-have-left"),
        ],
    )
    def test_the_slot_of_a_swap_opens_when_those_that_it_names_have_left(
        self, seen: tuple[str, ...], begun: bool, state: SlotState
    ) -> None:
        pods = {
            "a-1": pod("a-1", "n1", cpu=5, app="a"),
            "b-1": pod("b-1", "n2", cpu=5, app="b"),
            "b-1-terminating": pod("b-1", "n2", cpu=5, app="b", terminating=True),
        }
        facts = plan(
            evict(1, pods["a-1"], "k001", swap=True),
            evict(2, pods["b-1"], "k002", "s001"),
            structs.replace(slot(1, pods["a-1"], "n2"), after=("s002",)),
            slot(2, pods["b-1"], "n1"),
            **RUNNING,
            step_status={"s001": StepStatus(StepState.INTENDED, None, NOW)} if begun else {},
        )
        owners = (replica_set("a", 1), replica_set("b", 1))
        there = [pods[name] for name in seen]
        if begun:  # the node has room for it, but not before others have come
            there.append(pod("a-2", cpu=5, app="a"))
        step = run(facts, snapshot(node("n1"), node("n2", cpu=20), *owners, *there))
        assert self.slots(step)["k001"] is state

    def test_a_swap_is_the_last_to_go(self) -> None:
        swap = evict(2, OTHER, "k002", swap=True)
        facts = plan(MOVE, swap, TO_N2, slot(2, OTHER, "n2"), **RUNNING)
        assert [step.id for step in run(facts, cluster(WEB, OTHER)).evict] == ["s001"]


class TestStandstill:
    """A plan that nothing can move on is given up; everything else is waited for and explained."""

    LONG: ClassVar[dict[str, Any]] = {**RUNNING, "started_at": NOW - 40}

    def test_no_room_and_nothing_under_way(self) -> None:
        big = pod("big-1", "n1", cpu=9, app="big", terminating=True)
        facts = plan(structs.replace(PLACE, after=()), TO_N1, **self.LONG)
        step = run(facts, snapshot(*NODES, *OWNERS, NEW, big))
        assert (step.phase, step.reason) == (PlanPhase.SUPERSEDED, PlanReason.STALE_SNAPSHOT)

    @pytest.mark.parametrize(
        ("facts", "reason"),
        [
            pytest.param((OTHER, NEW), PlanReason.EXECUTING, id="scheduler-is-slow"),
            pytest.param((WEB, OTHER, budget("web", 0)), PlanReason.DISRUPTION_BUDGET, id="budget"),
        ],
    )
    def test_worth_waiting_for(self, facts: tuple[Any, ...], reason: PlanReason) -> None:
        steps = (MOVE, TO_N2) if WEB in facts else (structs.replace(PLACE, after=()), TO_N1)
        held = {"s001": StepStatus(StepState.WAITING, StepReason.DISRUPTION_BUDGET, NOW - 40)}
        step = run(plan(*steps, **self.LONG, step_status=held), cluster(*facts))
        assert (step.phase, step.reason) == (PlanPhase.RUNNING, reason)
