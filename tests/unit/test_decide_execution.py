from __future__ import annotations

from typing import Any, ClassVar

import pytest
from msgspec import structs

from stowage.api.packing_plan import Approval
from stowage.api.packing_plan_status import PlanPhase, SlotState, StepState
from stowage.api.reasons import PlanReason, StepReason
from stowage.decide.execution import Advance, Situation, advance, extender_ready
from stowage.decide.plan_facts import Attempt, PlanFacts, PolicyFacts, StepStatus
from stowage_scheduler.cluster import OwnerRef, Snapshot
from unit.builders import NOW, POLICY, bound, budget, evict, node, place, plan, pod, replica_set, slot, snapshot

# One story for most tables: n1 is full with web-1 (5 cpu) and big-1 (5 cpu); pending `new` needs 6 cpu.
# The plan moves web-1 to n2 and places `new` on n1 beside nothing but web's room.
WEB = pod("web-1", "n1", app="web")
NEW = pod("new-1", cpu=6, app="new", priority=10)
OTHER = pod("other-1", "n1", cpu=4, app="other")
TO_N2 = slot(1, WEB, "n2")
TO_N1 = slot(2, NEW, "n1")
MOVE = evict(1, WEB, "k001")
PLACE = place(2, NEW, TO_N1, "s001")
NODES = (node("n1"), node("n2"))
OWNERS = (replica_set("web", 1), replica_set("new", 1), replica_set("other", 1))
REPLACEMENT = pod("web-2", app="web", unschedulable_since=None)
RUNNING: dict[str, Any] = {"phase": PlanPhase.RUNNING, "epoch": 3, "approved_at": NOW - 5, "started_at": NOW - 4}


def cluster(*facts: Any) -> Snapshot:
    return snapshot(*NODES, *OWNERS, *facts)


def run(
    facts: PlanFacts, seen: Snapshot, policy: PolicyFacts | None = POLICY, *, now: float = NOW, **rest: Any
) -> Advance:
    return advance(facts, Situation(seen, policy, now, epoch=3, **rest))


def after(facts: PlanFacts, step: Advance) -> PlanFacts:
    """The plan as it reads once the advance is written."""
    return structs.replace(
        facts,
        phase=step.phase,
        reason=step.reason,
        message=step.message,
        epoch=step.epoch,
        step_status=step.step_status,
        slot_status=step.slot_status,
        approved_at=step.approved_at,
        started_at=step.started_at,
    )


def states(step: Advance) -> dict[str, tuple[StepState, StepReason | None]]:
    return {step_id: (status.state, status.reason) for step_id, status in step.step_status.items()}


BEFORE = cluster(WEB, OTHER, NEW)


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
        assert (step.phase, step.reason, step.release) == (PlanPhase.DONE, PlanReason.COMPLETED, True)
        assert {state for state, _ in states(step).values()} == {StepState.DONE}

    def test_an_ended_plan_stays_as_it_is(self) -> None:
        facts = plan(MOVE, PLACE, TO_N2, TO_N1, **{**RUNNING, "phase": PlanPhase.DONE})
        assert not run(facts, BEFORE).write

    def test_nothing_is_written_under_a_higher_epoch(self) -> None:
        facts = plan(MOVE, PLACE, TO_N2, TO_N1, **{**RUNNING, "epoch": 4})
        step = run(facts, BEFORE)
        assert not step.write
        assert step.evict == ()


APPROVED: dict[str, Any] = {"phase": PlanPhase.APPROVED, "epoch": 3, "approved_at": NOW - 1}
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


class TestVoid:
    @pytest.mark.parametrize(
        ("seen", "expected"),
        [
            pytest.param(
                snapshot(*NODES, *OWNERS[1:], OTHER, NEW), (StepState.VOID, StepReason.OWNER_GONE), id="owner-deleted"
            ),
            pytest.param(
                snapshot(*NODES, replica_set("web", 0), *OWNERS[1:], OTHER, NEW),
                (StepState.VOID, StepReason.OWNER_SCALED_DOWN),
                id="owner-scaled-down",
            ),
            pytest.param(cluster(OTHER, NEW), (StepState.INTENDED, StepReason.REPLACEMENT_PENDING), id="owner-is-slow"),
            pytest.param(
                cluster(OTHER, NEW, bound(REPLACEMENT, "n1", requests={"cpu": 5, "pods": 1})),
                (StepState.VOID, StepReason.OWNER_SCALED_DOWN),
                id="replacement-landed-elsewhere",
            ),
        ],
    )
    def test_evicted_pod_without_a_successor(
        self, seen: Snapshot, expected: tuple[StepState, StepReason | None]
    ) -> None:
        facts = plan(MOVE, TO_N2, **RUNNING, step_status={"s001": StepStatus(StepState.INTENDED, None, NOW - 3)})
        assert states(run(facts, seen))["s001"] == expected

    @pytest.mark.parametrize(
        ("seen", "expected"),
        [
            pytest.param(cluster(OTHER, WEB), None, id="its-owner-makes-another-one"),
            pytest.param(
                snapshot(*NODES, OWNERS[0], replica_set("new", 0), OTHER, WEB),
                StepReason.OWNER_SCALED_DOWN,
                id="scaled-down",
            ),
            pytest.param(snapshot(*NODES, OWNERS[0], OTHER, WEB), StepReason.OWNER_GONE, id="owner-deleted"),
            pytest.param(cluster(OTHER, WEB, bound(NEW, "n3")), StepReason.LANDED_ELSEWHERE, id="bound-elsewhere"),
        ],
    )
    def test_pending_pod_that_does_not_come(self, seen: Snapshot, expected: StepReason | None) -> None:
        step = run(plan(MOVE, PLACE, TO_N2, TO_N1, **RUNNING), seen)
        state = StepState.WAITING if expected is None else StepState.VOID
        assert states(step)["s002"] == (state, expected)
        assert [one.id for one in step.evict] == ["s001"], "other steps go on"

    def test_bare_pod_that_is_deleted(self) -> None:
        bare = structs.replace(NEW, owner=None)
        target = slot(2, bare, "n1")
        step = run(plan(place(2, bare, target), target, **RUNNING), cluster(OTHER))
        assert (step.phase, step.reason) == (PlanPhase.DONE, PlanReason.COMPLETED_WITH_VOID_STEPS)
        assert states(step)["s002"] == (StepState.VOID, StepReason.POD_GONE)

    @pytest.mark.parametrize(
        ("replicas", "others", "expected"),
        [
            pytest.param(2, ("db-1",), StepState.INTENDED, id="seat-will-be-made-again"),
            pytest.param(1, ("db-1",), StepState.VOID, id="scaled-down"),
            pytest.param(2, ("db-1", "db-0"), StepState.VOID, id="seat-runs-with-another-revision"),
        ],
    )
    def test_seat_of_a_stateful_set(self, replicas: int, others: tuple[str, ...], expected: StepState) -> None:
        owner = OwnerRef("StatefulSet", "db", "rs-db")
        seat = pod("db-0", "n1", app="db", owner=owner)
        kin = [pod(name, "n3", app="db", owner=owner, uid=f"new-{name}", template_hash="v2") for name in others]
        target = slot(1, seat, "n2")
        facts = plan(
            evict(1, seat, "k001"), target, **RUNNING, step_status={"s001": StepStatus(StepState.INTENDED, None, NOW)}
        )
        seen = snapshot(*NODES, replica_set("db", replicas), *kin)
        assert states(run(facts, seen))["s001"][0] is expected


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

    def test_two_budgets_fail_the_step(self) -> None:
        twice = structs.replace(budget("web"), name="again", uid="again")
        step = run(self.PLAN, snapshot(*NODES, self.OWNER, self.A, self.B, budget("web"), twice))
        assert (step.phase, step.reason, step.evict) == (PlanPhase.SUPERSEDED, PlanReason.STEP_FAILED, ())


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
        ("free", "state"),
        [
            pytest.param(5, SlotState.WAITING, id="room-for-one-and-another-counts-on-it"),
            pytest.param(10, SlotState.OPEN, id="room-for-both"),
        ],
    )
    def test_the_replacement_of_a_swap_lands_when_nobody_counts_on_the_room(self, free: int, state: SlotState) -> None:
        parked, other = pod("a-2", cpu=5, app="a"), pod("b-1", "n1", cpu=5, app="b")
        gone = pod("a-1", "n1", cpu=5, app="a")
        facts = plan(
            evict(1, gone, "k001", swap=True),
            evict(2, other, "k002", "s001"),
            evict(3, pod("c-1", "n2", cpu=5, app="c")),
            slot(1, gone, "n2"),
            slot(2, other, "n2"),
            **RUNNING,
            step_status={"s001": StepStatus(StepState.INTENDED, None, NOW)},
        )
        seen = snapshot(
            node("n1"), node("n2", cpu=free + 5), replica_set("a", 1), parked, other, pod("c-1", "n2", cpu=5, app="c")
        )
        assert self.slots(run(facts, seen))["k001"] is state

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
    assert extender_ready(plan(observed_by=("host-a",)), leader) is ready
    assert not extender_ready(plan(), leader)
