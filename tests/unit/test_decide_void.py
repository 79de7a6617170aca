"""What becomes of steps whose pod, owner or class is another one by now."""

from __future__ import annotations

import pytest
from msgspec import structs

from stowage.api.packing_plan_status import PlanPhase, StepState
from stowage.api.reasons import PlanReason, StepReason
from stowage.decide.plan_facts import StepStatus
from stowage_scheduler.cluster import OwnerRef, Snapshot
from unit.builders import NOW, bound, evict, place, plan, pod, replica_set, slot, snapshot
from unit.one_move import (
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
    cluster,
    run,
    states,
)


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
