"""What is told on pods, once for each change of state."""

from __future__ import annotations

import pytest
from msgspec import structs

from stowage.api.packing_plan_status import PlanPhase, StepState
from stowage.api.reasons import PlanReason, StepReason
from stowage.decide.announcements import MOST_AT_ONCE, TELL_AGAIN_SECONDS, announcements, departures, left_pending
from stowage.decide.execution import Advance
from stowage.decide.plan_facts import StepStatus
from stowage.decide.plan_status import plan_facts
from stowage_scheduler.packing import PodRef, Reason, Unplaced
from unit.builders import NOW, plan_resource
from unit.one_move import MOVE, PLACE, TO_N1, TO_N2

FACTS = plan_facts(plan_resource("default-1", MOVE, PLACE, slots=(TO_N2, TO_N1)))
STUCK = Unplaced(PodRef("a", "big-0", "u1"), Reason.INSUFFICIENT_GPU, "one node with 8 free nvidia.com/gpu")


@pytest.mark.parametrize(
    ("before", "after", "reasons"),
    [
        pytest.param(None, PlanPhase.PROPOSED, ["MoveProposed", "PlacementProposed"], id="a plan waits for approval"),
        pytest.param(PlanPhase.PROPOSED, PlanPhase.PROPOSED, [], id="it still waits"),
        pytest.param(None, PlanPhase.APPROVED, ["PlacementPlanned"], id="a plan needs no approval"),
        pytest.param(PlanPhase.PROPOSED, PlanPhase.APPROVED, ["PlacementPlanned"], id="somebody approved it"),
        pytest.param(PlanPhase.APPROVED, PlanPhase.RUNNING, [], id="it starts, which was told"),
        pytest.param(PlanPhase.PROPOSED, PlanPhase.SUPERSEDED, ["PlacementDropped"], id="the cluster overtook it"),
        pytest.param(PlanPhase.RUNNING, PlanPhase.ABORTED, ["PlacementDropped"], id="somebody aborted it"),
        pytest.param(PlanPhase.RUNNING, PlanPhase.DONE, [], id="it is done"),
        pytest.param(PlanPhase.ABORTED, PlanPhase.ABORTED, [], id="it had ended"),
    ],
)
def test_a_change_of_phase_is_told_once(before: PlanPhase | None, after: PlanPhase, reasons: list[str]) -> None:
    facts = structs.replace(FACTS, phase=before)
    assert [one.reason for one in announcements(facts, Advance(after, PlanReason.NODE_GONE))] == reasons


def test_a_pod_that_was_placed_is_not_told_of_the_end() -> None:
    facts = structs.replace(FACTS, phase=PlanPhase.RUNNING, step_status={"s002": StepStatus(StepState.DONE)})
    assert announcements(facts, Advance(PlanPhase.ABORTED, PlanReason.TIMED_OUT)) == ()


def test_notes_name_the_plan_the_nodes_and_for_whom_a_pod_moves() -> None:
    proposed = announcements(FACTS, Advance(PlanPhase.PROPOSED, PlanReason.AWAITING_APPROVAL))
    arriving = PLACE.pod.key
    assert [one.note for one in proposed] == [
        f"plan default-1 would move it from node n1 to node n2 for {arriving}, and waits for approval",
        "plan default-1 would place it on node n1, and waits for approval",
    ]
    (planned,) = announcements(FACTS, Advance(PlanPhase.APPROVED, PlanReason.APPROVED))
    assert planned.note == "plan default-1, step s002: goes to node n1 after one eviction"
    (moving,) = departures(FACTS, FACTS.steps[:1])
    words = f"evicted from node n1 for {arriving}, its replacement goes to node n2"
    assert moving.note == f"plan default-1, step s001: {words}"
    ended = Advance(PlanPhase.SUPERSEDED, PlanReason.NODE_GONE, "node n1 is gone")
    (dropped,) = announcements(structs.replace(FACTS, phase=PlanPhase.RUNNING), ended)
    assert dropped.note == "plan default-1 is Superseded and does not place it: NodeGone: node n1 is gone"


@pytest.mark.parametrize(
    ("entry", "told", "events"),
    [
        pytest.param(STUCK, {}, 1, id="never told"),
        pytest.param(STUCK, {"u1": Reason.INSUFFICIENT_GPU}, 0, id="told already"),
        pytest.param(STUCK, {"u1": Reason.MOVE_LIMIT}, 1, id="another reason than before"),
        pytest.param(STUCK, {"u2": Reason.INSUFFICIENT_GPU}, 1, id="told on another pod"),
        pytest.param(structs.replace(STUCK, reason=Reason.OUT_OF_SCOPE), {}, 0, id="not for this policy to tell"),
        pytest.param(structs.replace(STUCK, reason=Reason.GATED), {}, 0, id="held by somebody else's gate"),
        pytest.param(structs.replace(STUCK, reason=Reason.NOMINATED), {}, 0, id="helped by its scheduler"),
    ],
)
def test_a_pod_left_pending_is_told_why_when_that_is_new(entry: Unplaced, told: dict[str, Reason], events: int) -> None:
    found = left_pending([entry], told, "default", NOW)
    assert len(found) == events
    for one in found:
        words = "no plan places it: InsufficientGpu; would help: one node with 8 free nvidia.com/gpu"
        assert (one.reason, one.note, one.warning) == ("StaysPending", f"policy default: {words}", True)


def test_a_refusal_for_good_is_another_event_than_one_that_is_tried_again() -> None:
    facts = structs.replace(FACTS, phase=PlanPhase.RUNNING)
    keys = set()
    for state, reason in (
        (StepState.INTENDED, StepReason.EVICTION_FAILED),
        (StepState.FAILED, StepReason.EVICTION_REFUSED),
    ):
        status = {"s001": StepStatus(state, reason, NOW)}
        advance = Advance(PlanPhase.RUNNING, PlanReason.EXECUTING, step_status=status)
        (told,) = announcements(facts, advance)
        assert told.reason == "EvictionRefused"
        keys.add(told.key)
    assert len(keys) == 2


def test_many_pods_left_pending_make_no_storm() -> None:
    many = [structs.replace(STUCK, pod=PodRef("a", f"big-{n}", f"u{n}")) for n in range(3 * MOST_AT_ONCE)]
    first = left_pending(many, {}, "default", NOW)
    assert len(first) == MOST_AT_ONCE
    told = {one.pod.uid: Reason.INSUFFICIENT_GPU for one in first}
    second = left_pending(many, told, "default", NOW)
    assert not {one.pod.uid for one in second} & told.keys()


def test_a_reason_that_comes_and_goes_is_one_event_for_a_while() -> None:
    start = NOW - NOW % TELL_AGAIN_SECONDS
    keys = [left_pending([STUCK], {}, "default", start + after)[0].key for after in (0, 1, TELL_AGAIN_SECONDS)]
    assert keys[0] == keys[1] != keys[2]
