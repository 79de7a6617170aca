"""What packings and plans show as metrics."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from msgspec import structs

from stowage.run.metrics import Metrics
from stowage.run.policy_metrics import PolicyMetrics
from stowage.run.solver import SolverDied, SolverError, SolverTimeout
from stowage_scheduler.options import Budget, PackOptions
from stowage_scheduler.pack import pack
from stowage_scheduler.packing import Packing, PodRef, Reason, Unplaced
from unit.builders import NOW, plan_resource
from unit.one_move import BEFORE, MOVE, NEW, OTHER, PLACE, TO_N1, TO_N2

DONE = {"phase": "Running", "steps": [{"id": "s002", "state": "Done"}]}


class Shown:
    """A process that may lead, and what it shows."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.lease = SimpleNamespace(leading=True)
        self.numbers = PolicyMetrics(self.metrics, lambda: self.lease.leading)

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"stowage_{name}", labels)


@pytest.fixture
def shown() -> Shown:
    return Shown()


@pytest.fixture(scope="module")
def packing() -> Packing:
    return pack(BEFORE, PackOptions(), Budget(seconds=1.0, certify_seconds=0.1), 1, lambda: 0.0)


def leaving(packing: Packing, pods: int, reason: Reason = Reason.INSUFFICIENT_GPU) -> Packing:
    left = tuple(Unplaced(PodRef("a", f"p{n}", f"u{n}"), reason, "") for n in range(pods))
    return structs.replace(packing, unplaced=left)


def test_pending_pods_count_over_all_policies_and_no_longer_than_they_wait(shown: Shown, packing: Packing) -> None:
    shown.numbers.packed("default", leaving(packing, 2))
    shown.numbers.packed("other", leaving(packing, 3))
    assert shown.value("pending_pods", reason="InsufficientGpu") == 5
    shown.numbers.packed("other", leaving(packing, 1, Reason.MOVE_LIMIT))
    assert shown.value("pending_pods", reason="InsufficientGpu") == 2
    shown.numbers.rests("default")
    assert shown.value("pending_pods", reason="InsufficientGpu") == 0
    assert shown.value("pending_pods", reason="MoveLimit") == 1


def test_a_standby_shows_nought_for_what_it_knew_as_a_leader(shown: Shown, packing: Packing) -> None:
    shown.numbers.packed("default", structs.replace(leaving(packing, 2), bound={10: 3, 0: 9}, placed={10: 2, 0: 5}))
    shown.numbers.under_way([plan_resource("default-1", MOVE, PLACE, slots=(TO_N2, TO_N1))])
    names = [("pending_pods", {"reason": "InsufficientGpu"}), ("packing_gap_pods", {})]
    names.append(("planned_pods", {"phase": "Proposed"}))
    assert [shown.value(name, **labels) for name, labels in names] == [2, 4, 1]
    shown.lease.leading = False
    assert [shown.value(name, **labels) for name, labels in names] == [0, 0, 0]


@pytest.mark.parametrize(
    ("bound", "placed", "gap"),
    [
        pytest.param({}, {}, 0, id="nothing to place"),
        pytest.param({100: 4, 0: 9}, {100: 4, 0: 9}, 0, id="certified"),
        pytest.param({100: 4, 0: 9}, {100: 3, 0: 9}, 1, id="the upper tier may miss one"),
        pytest.param({100: 4, 0: 9}, {100: 3, 0: 6}, 3, id="priorities count what is above, so the widest counts"),
    ],
)
def test_the_gap_is_what_the_packing_may_have_missed(
    shown: Shown, packing: Packing, bound: dict[int, int], placed: dict[int, int], gap: int
) -> None:
    shown.numbers.packed("default", structs.replace(packing, bound=bound, placed=placed))
    assert shown.value("packing_gap_pods") == gap


def test_packings_are_counted_by_what_they_came_to(shown: Shown, packing: Packing) -> None:
    shown.numbers.packed("default", structs.replace(packing, certified=True))
    shown.numbers.packed("default", structs.replace(packing, certified=False, faults=("too much on n1",)))
    for error in (SolverTimeout(3.0), SolverDied("signal 9"), SolverError("ValueError: x")):
        shown.numbers.failed(error)
    assert [shown.value("packings_total", outcome=one) for one in ("certified", "uncertified", "failed")] == [1, 1, 3]
    reasons = ("overran", "died", "raised")
    assert [shown.value("solver_failures_total", reason=one) for one in reasons] == [1, 1, 1]
    assert shown.value("packer_faults_total") == 1
    assert shown.value("solve_seconds_count", stage="total") == 2


def test_the_oldest_pod_that_a_plan_places_is_its_latency(shown: Shown, packing: Packing) -> None:
    waits = structs.replace(NEW, unschedulable_since=NOW - 7.0)
    other = structs.replace(OTHER, node=None, unschedulable_since=NOW - 900.0)
    shown.numbers.planned([waits, other], packing, NOW)
    assert (shown.value("event_to_plan_seconds_count"), shown.value("event_to_plan_seconds_sum")) == (1, 7.0)
    shown.numbers.planned([other], packing, NOW)
    assert shown.value("event_to_plan_seconds_count") == 1, "the plan does not place it"


def test_pods_wait_for_their_place_until_their_step_is_done(shown: Shown) -> None:
    plan = {"slots": (TO_N2, TO_N1)}
    proposed = plan_resource("default-1", MOVE, PLACE, **plan, status={"phase": "Proposed"})
    running = plan_resource("default-2", MOVE, PLACE, **plan, status={"phase": "Running"})
    placed = plan_resource("default-3", MOVE, PLACE, **plan, status=DONE)
    ended = plan_resource("default-4", MOVE, PLACE, **plan, status={"phase": "Aborted"})
    shown.numbers.under_way([proposed, running, placed, ended])
    counts = {phase: shown.value("planned_pods", phase=phase) for phase in ("Proposed", "Approved", "Running")}
    assert counts == {"Proposed": 1, "Approved": 0, "Running": 1}
    shown.numbers.under_way([])
    assert shown.value("planned_pods", phase="Running") == 0
