from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from stowage.api.packing_plan import Approval
from stowage.api.packing_plan_status import PlanPhase, SlotState, StepState
from stowage.api.reasons import PlanReason, StepReason
from stowage.decide.plan_facts import Attempt, PolicyFacts, StepStatus
from stowage.decide.situation import Situation, extender_ready
from stowage_scheduler.cluster import Snapshot
from unit.builders import NOW, POLICY, bound, node, plan, pod, snapshot
from unit.one_move import (
    APPROVED,
    BEFORE,
    MOVE,
    NEW,
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


class TestLifeOfAPlan:
    def test_from_the_first_look_to_done(self) -> None:
        facts = plan(MOVE, PLACE, TO_N2, TO_N1)

        step = run(facts, BEFORE)
        assert (step.phase, step.reason, step.evict) == (PlanPhase.APPROVED, PlanReason.AWAITING_EXTENDER, ())

        facts = structs.replace(after(facts, step), observed_by=("host-a",))
        step = run(facts, BEFORE)
        assert (step.phase, step.started_at, step.epoch) == (PlanPhase.RUNNING, NOW, 3)
        assert [one.id for one in step.evict] == ["s001"]
        assert states(step) == {"s001": (StepState.INTENDED, None), "s002": (StepState.WAITING, None)}

        facts = after(facts, step)
        step = run(facts, cluster(OTHER, NEW, REPLACEMENT))
        assert states(step)["s001"] == (StepState.INTENDED, StepReason.REPLACEMENT_PENDING)
        assert step.evict == ()

        facts = after(facts, step)
        step = run(facts, cluster(OTHER, NEW, bound(REPLACEMENT, "n2")))
        assert states(step)["s001"] == (StepState.DONE, StepReason.BOUND)
        assert step.slot_status["k001"].state is SlotState.FILLED
        assert step.slot_status["k001"].pod is not None
        assert step.slot_status["k001"].pod.name == "web-2"

        facts = after(facts, step)
        step = run(facts, cluster(OTHER, bound(NEW, "n1"), bound(REPLACEMENT, "n2")))
        assert (step.phase, step.reason) == (PlanPhase.DONE, PlanReason.COMPLETED)
        assert {state for state, _ in states(step).values()} == {StepState.DONE}

    def test_an_ended_plan_stays_as_it_is(self) -> None:
        facts = plan(MOVE, PLACE, TO_N2, TO_N1, **{**RUNNING, "phase": PlanPhase.DONE})
        assert not run(facts, BEFORE).write

    def test_nothing_is_written_under_a_higher_epoch(self) -> None:
        facts = plan(MOVE, PLACE, TO_N2, TO_N1, **{**RUNNING, "epoch": 4})
        step = run(facts, BEFORE)
        assert not step.write
        assert step.evict == ()


PROPOSED: dict[str, Any] = {"phase": PlanPhase.PROPOSED, "approval": Approval.PENDING}
PAUSED = structs.replace(POLICY, paused=True)
RECOMMEND = structs.replace(POLICY, enforce=False)


@pytest.mark.parametrize(
    ("status", "seen", "policy", "now", "phase", "reason"),
    [
        pytest.param(
            PROPOSED,
            BEFORE,
            RECOMMEND,
            NOW,
            PlanPhase.PROPOSED,
            PlanReason.AWAITING_APPROVAL,
            id="to-be-approved",
        ),
        pytest.param(
            {**PROPOSED, "approval": Approval.APPROVED},
            BEFORE,
            RECOMMEND,
            NOW,
            PlanPhase.APPROVED,
            PlanReason.AWAITING_EXTENDER,
            id="approved-by-a-person",
        ),
        pytest.param(
            PROPOSED,
            BEFORE,
            POLICY,
            NOW,
            PlanPhase.SUPERSEDED,
            PlanReason.POLICY_CHANGED,
            id="policy-enforces-now",
        ),
        pytest.param(
            PROPOSED,
            cluster(OTHER, WEB),
            RECOMMEND,
            NOW,
            PlanPhase.SUPERSEDED,
            PlanReason.STALE_SNAPSHOT,
            id="proposal-whose-pending-pod-is-gone",
        ),
        pytest.param(
            PROPOSED,
            cluster(OTHER, bound(WEB, "n1"), NEW, pod("guest", "n2", cpu=6, app="guest")),
            RECOMMEND,
            NOW,
            PlanPhase.SUPERSEDED,
            PlanReason.LOST_RACE,
            id="proposal-whose-target-was-taken",
        ),
        pytest.param(
            {**APPROVED, "approval": Approval.ABORTED},
            BEFORE,
            POLICY,
            NOW,
            PlanPhase.ABORTED,
            PlanReason.ABORTED_BY_USER,
            id="aborted-by-a-person",
        ),
        pytest.param(APPROVED, BEFORE, None, NOW, PlanPhase.ABORTED, PlanReason.POLICY_GONE, id="policy-deleted"),
        pytest.param(
            APPROVED,
            BEFORE,
            structs.replace(POLICY, uid="newer"),
            NOW,
            PlanPhase.ABORTED,
            PlanReason.POLICY_GONE,
            id="policy-made-again",
        ),
        pytest.param(
            APPROVED, BEFORE, POLICY, NOW + 3, PlanPhase.APPROVED, PlanReason.AWAITING_EXTENDER, id="extender-has-5-s"
        ),
        pytest.param(
            APPROVED, BEFORE, POLICY, NOW + 4, PlanPhase.ABORTED, PlanReason.EXTENDER_UNAVAILABLE, id="extender-is-away"
        ),
        pytest.param(
            APPROVED, BEFORE, PAUSED, NOW + 60, PlanPhase.APPROVED, PlanReason.POLICY_PAUSED, id="paused-before-start"
        ),
        pytest.param(
            {**APPROVED, "observed_by": ("h",)},
            BEFORE,
            PAUSED,
            NOW,
            PlanPhase.APPROVED,
            PlanReason.POLICY_PAUSED,
            id="paused-with-an-extender-ready",
        ),
        pytest.param(
            RUNNING, BEFORE, POLICY, NOW + 896, PlanPhase.ABORTED, PlanReason.TIMED_OUT, id="longer-than-plan-timeout"
        ),
        pytest.param(RUNNING, BEFORE, PAUSED, NOW, PlanPhase.RUNNING, PlanReason.POLICY_PAUSED, id="paused-on-the-way"),
        pytest.param(
            RUNNING,
            snapshot(node("n1"), *OWNERS, WEB, OTHER, NEW),
            POLICY,
            NOW,
            PlanPhase.SUPERSEDED,
            PlanReason.NODE_GONE,
            id="target-node-removed",
        ),
        pytest.param(
            RUNNING,
            snapshot(node("n1"), node("n2", unschedulable=True), *OWNERS, WEB, OTHER, NEW),
            POLICY,
            NOW,
            PlanPhase.SUPERSEDED,
            PlanReason.NODE_GONE,
            id="target-node-cordoned",
        ),
        pytest.param(
            RUNNING,
            snapshot(node("n1"), node("n2", ready=False), *OWNERS, WEB, OTHER, NEW),
            POLICY,
            NOW,
            PlanPhase.SUPERSEDED,
            PlanReason.NODE_GONE,
            id="target-node-not-ready",
        ),
        pytest.param(
            RUNNING,
            cluster(WEB, OTHER, NEW, pod("guest", "n2", cpu=6, app="guest")),
            POLICY,
            NOW,
            PlanPhase.SUPERSEDED,
            PlanReason.LOST_RACE,
            id="another-scheduler-took-the-room",
        ),
        pytest.param(
            RUNNING,
            cluster(WEB, OTHER, NEW, pod("web-0", "n2", phase="Failed", bound_at=NOW)),
            POLICY,
            NOW,
            PlanPhase.SUPERSEDED,
            PlanReason.STEP_FAILED,
            id="kubelet-refused-the-replacement",
        ),
    ],
)
def test_phase(
    status: dict[str, Any],
    seen: Snapshot,
    policy: PolicyFacts | None,
    now: float,
    phase: PlanPhase,
    reason: PlanReason,
) -> None:
    step = run(plan(MOVE, PLACE, TO_N2, TO_N1, **status), seen, policy, now=now)
    assert (step.phase, step.reason) == (phase, reason)
    if phase is not PlanPhase.RUNNING:
        assert step.evict == ()


def test_pause_stops_intended_evictions_too_and_resuming_asks_again() -> None:
    facts = plan(MOVE, PLACE, TO_N2, TO_N1, **RUNNING, step_status={"s001": StepStatus(StepState.INTENDED, None, NOW)})
    assert run(facts, BEFORE, PAUSED).evict == ()
    assert [one.id for one in run(facts, BEFORE).evict] == ["s001"]


def test_a_rival_plan_keeps_this_one_from_starting() -> None:
    step = run(plan(MOVE, PLACE, TO_N2, TO_N1, **APPROVED, observed_by=("h",)), BEFORE, rival="default-x")
    assert (step.phase, step.reason) == (PlanPhase.SUPERSEDED, PlanReason.NEWER_PLAN)


class TestResuming:
    """A new process has no attempts; what it finds in the cluster decides."""

    INTENDED = plan(
        MOVE, PLACE, TO_N2, TO_N1, **RUNNING, step_status={"s001": StepStatus(StepState.INTENDED, None, NOW - 3)}
    )

    @pytest.mark.parametrize(
        ("seen", "asked"),
        [
            pytest.param(BEFORE, ["s001"], id="crash-before-the-request"),
            pytest.param(cluster(structs.replace(WEB, terminating=True), OTHER, NEW), [], id="pod-is-terminating"),
            pytest.param(cluster(structs.replace(WEB, disruption_target=True), OTHER, NEW), [], id="disruption-target"),
            pytest.param(cluster(OTHER, NEW), [], id="pod-is-gone"),
            pytest.param(cluster(structs.replace(WEB, uid="other"), OTHER, NEW), [], id="same-name-other-uid"),
        ],
    )
    def test_only_a_standing_pod_is_asked_for_again(self, seen: Snapshot, asked: list[str]) -> None:
        assert [one.id for one in run(self.INTENDED, seen).evict] == asked

    @pytest.mark.parametrize(
        ("attempt", "asked", "status"),
        [
            pytest.param(Attempt(NOW - 1), [], (StepState.INTENDED, None), id="asked-a-second-ago"),
            pytest.param(Attempt(NOW - 6), ["s001"], (StepState.INTENDED, None), id="no-effect-for-6-s"),
            pytest.param(
                Attempt(NOW - 1, 10, StepReason.DISRUPTION_BUDGET),
                [],
                (StepState.INTENDED, StepReason.DISRUPTION_BUDGET),
                id="budget-said-no",
            ),
            pytest.param(
                Attempt(NOW - 1, 10, StepReason.THROTTLED),
                [],
                (StepState.INTENDED, StepReason.THROTTLED),
                id="busy",
            ),
        ],
    )
    def test_same_process(
        self, attempt: Attempt, asked: list[str], status: tuple[StepState, StepReason | None]
    ) -> None:
        step = run(self.INTENDED, BEFORE, attempts={"s001": attempt})
        assert [one.id for one in step.evict] == asked
        assert states(step)["s001"] == status

    def test_an_eviction_refused_for_good_fails_the_step_and_ends_the_plan(self) -> None:
        step = run(self.INTENDED, BEFORE, attempts={"s001": Attempt(NOW, 5, StepReason.EVICTION_REFUSED)})
        assert (step.phase, step.reason) == (PlanPhase.SUPERSEDED, PlanReason.STEP_FAILED)
        assert states(step)["s001"] == (StepState.FAILED, StepReason.EVICTION_REFUSED)
        assert states(step)["s002"] == (StepState.VOID, StepReason.PLAN_ENDED)

    def test_the_words_of_a_refusal_are_in_the_message(self) -> None:
        attempt = Attempt(NOW, 5, StepReason.EVICTION_REFUSED, "the webhook says no")
        assert run(self.INTENDED, BEFORE, attempts={"s001": attempt}).message.endswith("for good: the webhook says no")

    @pytest.mark.parametrize(
        ("reason", "of_plan"),
        [
            pytest.param(StepReason.THROTTLED, PlanReason.THROTTLED, id="busy"),
            pytest.param(StepReason.EVICTION_FAILED, PlanReason.EVICTION_FAILED, id="broken"),
        ],
    )
    def test_a_server_that_keeps_refusing_stalls_the_plan_without_further_writes(
        self, reason: StepReason, of_plan: PlanReason
    ) -> None:
        facts, asked, written = self.INTENDED, 0, []
        attempts: dict[str, Attempt] = {}
        for second in range(60):
            step = run(facts, BEFORE, now=NOW + second, attempts=attempts)
            if step.evict:
                asked += 1
                attempts = {"s001": Attempt(NOW + second, 5, reason, "etcd is away")}
            if after(facts, step) != facts:
                written.append(second)
            facts = after(facts, step)
        assert asked == 12
        assert (facts.phase, facts.reason) == (PlanPhase.RUNNING, of_plan)
        assert facts.message == f"step s001 (team/web-1): {reason}: etcd is away"
        assert len(written) <= 3


@pytest.mark.parametrize(
    ("leader", "asked"),
    [
        pytest.param("host_1", True, id="same-scheduler"),
        pytest.param(None, True, id="a-scheduler-without-lease"),
        pytest.param("standby_2", False, id="failed-over"),
    ],
)
def test_no_eviction_begins_while_the_extender_beside_the_leading_scheduler_does_not_know_the_plan(
    leader: str | None, asked: bool
) -> None:
    facts = plan(MOVE, PLACE, TO_N2, TO_N1, **RUNNING, observed_by=("host",))
    step = run(facts, BEFORE, leader=leader)
    assert (step.phase, bool(step.evict)) == (PlanPhase.RUNNING, asked)
    expected = (StepState.INTENDED, None) if asked else (StepState.WAITING, StepReason.AWAITING_EXTENDER)
    assert states(step)["s001"] == expected
    later = run(after(facts, step), BEFORE, now=NOW + 60, leader=leader)
    assert later.phase is PlanPhase.RUNNING
    assert asked or later.reason is PlanReason.AWAITING_EXTENDER


@pytest.mark.parametrize(
    ("leader", "ready"),
    [
        pytest.param(None, True, id="no-scheduler-lease"),
        pytest.param("host-a", True, id="same-name"),
        pytest.param("host-a_5f0c", True, id="host-and-random-part"),
        pytest.param("host-b_5f0c", False, id="another-scheduler-leads"),
        pytest.param("host-ab_5f0c", False, id="longer-host-name"),
    ],
)
def test_handshake_counts_beside_the_leading_scheduler(leader: str | None, ready: bool) -> None:
    situation = Situation(BEFORE, None, NOW, epoch=3, leader=leader)
    assert extender_ready(plan(observed_by=("host-a",)), situation) is ready
    assert not extender_ready(plan(), situation)
