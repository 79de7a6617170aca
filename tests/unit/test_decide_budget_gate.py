"""Which pods of a plan hold up evictions under their PodDisruptionBudget, and which do not."""

from __future__ import annotations

import pytest

from stowage.api.packing_plan_status import StepState
from stowage.api.reasons import StepReason
from stowage.decide.plan_facts import StepStatus
from stowage_scheduler.cluster import Pod
from unit.builders import NOW, bound, budget, evict, node, place, plan, pod, replica_set, slot, snapshot
from unit.one_move import RUNNING, run, states

NODES = tuple(node(f"n{number}", 20) for number in range(1, 4))
FIRST, SECOND = pod("web-1", "n1", cpu=2), pod("web-2", "n1", cpu=2)
WAITED = pod("web-9", cpu=2)
CAME = pod("new-1", cpu=2, created_at=NOW - 50)
DONE = StepStatus(StepState.DONE, StepReason.BOUND, NOW - 40)


def asked(waited_to: str, *pods: Pod) -> tuple[list[str], StepReason | None]:
    """Evictions of a plan that has moved web-1 to n2 and placed web-9, and what the one of web-2 waits for."""
    there = slot(9, WAITED, waited_to)
    to_n2 = (slot(1, FIRST, "n2"), slot(2, SECOND, "n2"))
    facts = plan(
        place(9, WAITED, there),
        evict(1, FIRST, "k001"),
        evict(2, SECOND, "k002"),
        *to_n2,
        there,
        **{**RUNNING, "step_status": {"s009": DONE, "s001": DONE}},
    )
    step = run(facts, snapshot(*NODES, replica_set("web", 9), budget("web", allowed=5), SECOND, *pods))
    return [one.id for one in step.evict], states(step)["s002"][1]


@pytest.mark.parametrize("waited_to", ["n2", "n3"], ids=["where-others-move-to", "where-nobody-moves-to"])
def test_a_pod_that_only_waited_and_never_gets_ready_holds_up_no_move(waited_to: str) -> None:
    crashes = bound(WAITED, waited_to, ready=False, bound_at=NOW - 60)
    assert asked(waited_to, crashes, bound(CAME, "n2")) == (["s002"], None)


@pytest.mark.parametrize(
    ("waited_on", "came_on"),
    [
        pytest.param("n3", "n2", id="where-it-was-to-go"),
        pytest.param("n2", "n3", id="in-the-place-of-the-pod-that-waited"),
    ],
)
@pytest.mark.parametrize("ready", [True, False])
def test_a_replacement_holds_up_moves_until_it_is_ready(waited_on: str, came_on: str, ready: bool) -> None:
    found = asked("n3", bound(WAITED, waited_on), bound(CAME, came_on, ready=ready))
    assert found == ((["s002"], None) if ready else ([], StepReason.PEER_NOT_READY))


def test_a_pod_that_waited_and_was_made_anew_holds_up_no_move() -> None:
    anew = bound(pod("web-10", cpu=2), "n3", ready=False)
    assert asked("n3", anew, bound(CAME, "n2")) == (["s002"], None)
