"""What a move costs."""

from __future__ import annotations

from typing import Any

import pytest

from harness.facts import NOW, node, packed, pod, snapshot
from stowage_scheduler.cluster import DisruptionBudget, LabelSelector, OwnerRef, Pod
from stowage_scheduler.move_cost import move_cost_seconds

HOUR = 3600.0
JOB = {"owner": OwnerRef("Job", "batch", "job-1")}
STOWAGE = "stowage.dev/"


def runs(hours: float = 0.5, **more: Any) -> Pod:
    notes = {f"{STOWAGE}{key}": value for key, value in more.pop("notes", {}).items()}
    return pod("web-0", on="a", bound_at=NOW - hours * HOUR, annotations=notes, **more)


def budget(allowed: int) -> DisruptionBudget:
    return DisruptionBudget("default", "web", "web", LabelSelector(), allowed)


@pytest.mark.parametrize(
    ("one", "budgets", "seconds"),
    [
        pytest.param(runs(), (), 30, id="a restart"),
        pytest.param(runs(notes={"restart-seconds": "600"}), (), 600, id="a slow restart"),
        pytest.param(runs(hours=1), (), 45, id="older than an hour"),
        pytest.param(runs(hours=23.9), (), 45, id="not yet older than a day"),
        pytest.param(runs(hours=24), (), 60, id="older than a day"),
        pytest.param(runs(hours=900), (), 60, id="but no more than half a minute for age"),
        pytest.param(runs(), (budget(1),), 60, id="the last disruption of a budget"),
        pytest.param(runs(), (budget(2),), 45, id="one of the last three"),
        pytest.param(runs(), (budget(4),), 30, id="one of many"),
        pytest.param(runs(hours=2, **JOB), (), 30 + 15 + 7200, id="all work of a batch Job"),
        pytest.param(
            runs(hours=2, notes={"checkpointed-at": "2025-12-31T23:50:00Z"}, **JOB),
            (),
            30 + 15 + 600,
            id="work since a checkpoint",
        ),
        pytest.param(runs(notes={"checkpointed-at": "yesterday"}), (), 30, id="a time that is none"),
        pytest.param(runs(notes={"checkpointed-at": "2025-12-31T23:50:00"}), (), 30, id="a time of no zone"),
        pytest.param(runs(notes={"checkpointed-at": "2030-01-01T00:00:00Z"}), (), 30, id="a time to come"),
        pytest.param(runs(hours=9, notes={"move-cost-seconds": "7"}, **JOB), (budget(1),), 7, id="told by hand"),
        pytest.param(runs(notes={"move-cost-seconds": "0"}), (), 1, id="never free"),
        pytest.param(runs(notes={"move-cost-seconds": "9" * 40}), (), 9_999_999, id="never beyond all measure"),
        pytest.param(runs(notes={"restart-seconds": "-5"}), (), 30, id="a number that is none"),
        pytest.param(pod("web-0"), (), 30, id="a pod that waits"),
    ],
)
def test_move_cost(one: Pod, budgets: tuple[DisruptionBudget, ...], seconds: int) -> None:
    assert move_cost_seconds(one, budgets, NOW) == seconds


def test_of_two_pods_that_could_make_room_the_cheaper_one_moves() -> None:
    slow = pod("slow-0", 600, on="a", annotations={f"{STOWAGE}restart-seconds": "900"})
    quick = pod("quick-0", 600, on="b")
    packing = packed(snapshot(node("a"), node("b"), node("c", 600), slow, quick, pod("new-0", 900)))
    assert [move.pod.name for move in packing.moves] == ["quick-0"]
