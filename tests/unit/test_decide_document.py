from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from stowage.api.packing_plan import PlanSteering
from stowage.decide.document import first_status, plan_document, stale_for, steering_of, within_limit
from stowage_scheduler.cluster import Snapshot
from stowage_scheduler.packing import Packing, Reason, Step, Unplaced
from stowage_scheduler.slots import Slot
from unit.builders import NOW, bound, evict, node, place, pod, policy_resource, ref, slot, snapshot

WEB = pod("web-1", "n1")
NEW = pod("new-1", cpu=6, app="new")
TO_N2, TO_N1 = slot(1, WEB, "n2"), slot(2, NEW, "n1")
SEEN = snapshot(node("n1"), node("n2"), WEB, NEW)


def packing(*steps: Step, slots: tuple[Slot, ...] = (TO_N2, TO_N1), **fields: Any) -> Packing:
    usual: dict[str, Any] = {
        "assignments": (),
        "moves": (),
        "evictions": (),
        "unplaced": (),
        "before": {10: 1, 0: 4},
        "placed": {10: 2, 0: 5},
        "bound": {10: 2, 0: 6},
        "certified": False,
        "seconds": 0.4217,
        "stages": {"greedy": 0.01},
    }
    return Packing(slots=slots, steps=steps, **{**usual, **fields})


MOVE, PLACE = evict(1, WEB, "k001"), place(2, NEW, TO_N1, "s001")


def test_the_document_of_a_plan() -> None:
    plan = plan_document(
        packing(MOVE, PLACE), policy_resource(), SEEN, steering=PlanSteering.EXTENDER, suffix="7f2k", now=NOW
    )
    assert plan.name == "default-20270115-080000-7f2k"
    assert plan.metadata.labels == {"stowage.dev/policy": "default"}
    assert (plan.spec.policy, plan.spec.policy_uid, plan.spec.approval) == ("default", "default-uid", "Pending")
    document = plan.to_document()["spec"]
    assert [(step["id"], step["action"], step["slot"], step["after"]) for step in document["steps"]] == [
        ("s001", "Evict", "k001", []),
        ("s002", "Place", "k002", ["s001"]),
    ]
    assert [(one["id"], one["node"]) for one in document["slots"]] == [("k001", "n2"), ("k002", "n1")]


def test_a_policy_that_enforces_approves_by_itself() -> None:
    plan = plan_document(
        packing(MOVE), policy_resource(mode="Enforce"), SEEN, steering=PlanSteering.EXTENDER, suffix="7f2k", now=NOW
    )
    assert plan.spec.approval == "Approved"


def test_slots_that_no_step_fills_are_left_out() -> None:
    plan = plan_document(
        packing(structs.replace(PLACE, after=())),
        policy_resource(),
        SEEN,
        steering=PlanSteering.EXTENDER,
        suffix="7f2k",
        now=NOW,
    )
    assert [one.id for one in plan.spec.slots] == ["k002"]


@pytest.mark.parametrize(
    ("seen", "standing"),
    [
        pytest.param(SEEN, 0, id="nobody-there"),
        pytest.param(snapshot(WEB, pod("web-2", "n2")), 1, id="one-stays"),
        pytest.param(snapshot(WEB, pod("web-2", "n2", terminating=True)), 0, id="one-goes-anyway"),
        pytest.param(snapshot(WEB, pod("web-2", "n2", cpu=4)), 0, id="another-class"),
        pytest.param(snapshot(WEB, pod("web-2", "n2", phase="Succeeded")), 0, id="one-has-ended"),
    ],
)
def test_standing_pods_are_counted_from_the_snapshot(seen: Snapshot, standing: int) -> None:
    plan = plan_document(packing(MOVE), policy_resource(), seen, steering=PlanSteering.EXTENDER, suffix="7f2k", now=NOW)
    assert [one.standing for one in plan.spec.slots] == [standing]


def test_what_a_new_plan_says_of_its_making() -> None:
    many = tuple(Unplaced(ref(pod(f"u-{number}")), Reason.INSUFFICIENT_CPU, "x" * 2000) for number in range(300))
    status = first_status(packing(MOVE, unplaced=many))
    rows = [(row.priority, row.before, row.after, row.bound) for row in status.placed_by_priority]
    assert rows == [(10, 1, 2, 2), (0, 4, 5, 6)]
    assert status.solve is not None
    assert (status.solve.seconds, status.solve.stages) == ("0.422", {"greedy": "0.010"})
    assert (len(status.unplaced), status.unplaced_total) == (256, 300)
    assert len(status.unplaced[0].help) == 1024


class TestLimit:
    """A plan holds so many steps; what does not fit is left to the next one."""

    A, B, C = (pod(f"a-{number}", "n1", app=f"a{number}") for number in range(3))

    def kept(self, steps: list[Step], most: int, *slots: Slot) -> list[str]:
        return [step.id for step in within_limit(steps, slots, most)]

    def test_a_short_plan_stays_whole(self) -> None:
        assert within_limit([MOVE, PLACE], [TO_N2, TO_N1], 2) == (MOVE, PLACE)

    def test_pending_pods_come_before_other_moves_and_bring_what_they_need(self) -> None:
        steps = [evict(1, self.A), evict(2, self.B), evict(3, self.C, None, "s002"), place(4, NEW, TO_N1, "s003")]
        assert self.kept(steps, 3) == ["s002", "s003", "s004"]

    def test_a_chain_that_does_not_fit_makes_room_for_one_that_does(self) -> None:
        steps = [evict(1, self.A), evict(2, self.B, None, "s001"), place(3, NEW, TO_N1, "s002"), evict(4, self.C)]
        assert self.kept(steps, 2) == ["s001", "s002"]

    def test_a_chain_longer_than_a_plan_is_begun(self) -> None:
        other = pod("other-1", app="other")
        steps = [
            place(1, NEW, TO_N1, "s002"),
            evict(2, self.A, None, "s003"),
            evict(3, self.B, "k001", swap=True),
            evict(4, self.C, "k002", "s003"),
            place(5, other, slot(5, other, "n1"), "s004"),
        ]
        assert self.kept(steps, 1) == ["s003"]
        opens_after_more = structs.replace(slot(1, self.B, "n2"), after=("s004",))
        assert self.kept(steps, 1, opens_after_more) == [], "a swap without what frees its place is no plan"

    def test_a_swap_takes_along_all_that_frees_its_place(self) -> None:
        """Three pods in a circle: whoever comes after the swap frees a node that the last one needs."""
        steps = [
            evict(1, self.A, "k001", swap=True),
            evict(2, self.C, "k002", "s001"),
            evict(3, self.B, "k003", "s002"),
            place(4, NEW, TO_N1, "s001"),
            evict(5, WEB),
        ]
        place_of_the_swap = structs.replace(slot(1, self.A, "n2"), after=("s003",))
        assert self.kept(steps, 4, place_of_the_swap) == ["s001", "s002", "s003", "s004"]
        assert self.kept(steps, 3, place_of_the_swap) == ["s001", "s002", "s003"]
        assert self.kept(steps, 2, place_of_the_swap) == ["s005"]

    RING = tuple(pod(f"ring-{number}", app="ring") for number in range(4))

    def ring(self, first: int, count: int, *after: str) -> list[Step]:
        """Steps of a gang that starts after the given ones."""
        found = [
            place(first + number, one, slot(first + number, one, "n1"), *after)
            for number, one in enumerate(self.RING[:count])
        ]
        return [structs.replace(step, gang="ring") for step in found]

    def test_a_gang_is_kept_whole_with_all_that_any_of_it_needs(self) -> None:
        steps = [evict(1, self.A), evict(2, self.B), *self.ring(3, 3, "s002"), place(6, NEW, TO_N1)]
        assert self.kept(steps, 4) == ["s002", "s003", "s004", "s005"]
        assert self.kept(steps, 5) == ["s002", "s003", "s004", "s005", "s006"]

    def test_a_gang_that_does_not_fit_is_left_to_the_next_plan(self) -> None:
        steps = [evict(1, self.A), *self.ring(2, 4, "s001"), place(6, NEW, TO_N1)]
        assert self.kept(steps, 4) == ["s001", "s006"]
        assert self.kept(steps, 2) == ["s001", "s006"]

    def test_a_gang_larger_than_a_plan_is_not_begun(self) -> None:
        assert self.kept(self.ring(1, 4), 3) == []

    def test_gangs_of_one_name_in_two_namespaces_are_two(self) -> None:
        other = [pod(f"ring-{number}", app="ring", namespace="other", uid=f"x{number}") for number in range(2)]
        theirs = [
            structs.replace(place(4 + n, one, slot(4 + n, one, "n1")), gang="ring") for n, one in enumerate(other)
        ]
        assert self.kept([*self.ring(1, 3), *theirs], 3) == ["s001", "s002", "s003"]


@pytest.mark.parametrize(
    ("pods", "words"),
    [
        pytest.param((WEB, NEW), None, id="as-it-was"),
        pytest.param((NEW,), "pod team/web-1 is gone", id="pod-to-evict-gone"),
        pytest.param((WEB,), "pod team/new-1 is gone", id="pod-to-place-gone"),
        pytest.param((WEB, bound(NEW, "n2")), "pod team/new-1 runs already", id="pod-to-place-runs"),
        pytest.param((structs.replace(WEB, terminating=True), NEW), "pod team/web-1 is gone", id="pod-to-evict-ends"),
    ],
)
def test_an_answer_that_the_cluster_overtook(pods: tuple[Any, ...], words: str | None) -> None:
    assert stale_for(packing(MOVE, PLACE), {one.uid: one for one in pods}) == words


@pytest.mark.parametrize(
    ("wish", "extenders", "taints", "steering"),
    [
        pytest.param("Auto", {"scheduler-1"}, True, PlanSteering.EXTENDER, id="an extender lives"),
        pytest.param("Auto", (), True, PlanSteering.BIND, id="none lives"),
        pytest.param("Auto", (), False, PlanSteering.EXTENDER, id="none lives, but nodes must not be tainted"),
        pytest.param("Bind", {"scheduler-1"}, True, PlanSteering.BIND, id="as the policy says"),
        pytest.param("Bind", (), False, PlanSteering.EXTENDER, id="as the policy says, but nodes must not be tainted"),
    ],
)
def test_what_steers_a_plan(wish: str, extenders: set[str], taints: bool, steering: PlanSteering) -> None:
    assert steering_of(policy_resource(steering=wish), extenders, taints=taints) is steering
