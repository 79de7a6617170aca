"""The demo's numbers, and when it counts as failed."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from stowage.api.packing_plan import PackingPlan
from stowage.demo.live import Display, progress_line
from stowage.demo.report import report
from stowage.demo.watching import Sight


def plan(*placed: tuple[int, int, int], name: str = "demo-20260101-101500-aaaa", **status: Any) -> PackingPlan:
    """A plan with one move, one eviction for good and one place; `placed` is (priority, after, bound)."""
    steps = [
        {"id": "s001", "action": "Evict", "slot": "k001"},
        {"id": "s002", "action": "Evict"},
        {"id": "s003", "action": "Place", "slot": "k002"},
    ]
    pod = {"namespace": "a", "name": "web", "uid": "u"}
    digest = {"controllerUid": "rs", "revision": "v1", "requests": "0123456789abcdef"}
    return PackingPlan.parse(
        {
            "metadata": {"name": name, "uid": name},
            "spec": {
                "policy": "demo",
                "approval": "Approved",
                "slots": [{"id": one, "class": digest, "node": "n1"} for one in ("k001", "k002")],
                "steps": [{**step, "pod": pod, "node": "n1"} for step in steps],
            },
            "status": {
                "phase": "Done",
                "certified": True,
                "steps": [{"id": one["id"], "state": "Done"} for one in steps],
                "placedByPriority": [
                    {"priority": priority, "before": 0, "after": after, "bound": bound}
                    for priority, after, bound in placed
                ],
                "solve": {"seconds": "1.5"},
                "startedAt": "2026-01-01T10:15:00Z",
                "finishedAt": "2026-01-01T10:15:02.5Z",
                **status,
            },
        }
    )


WELL = (200, 12, 12), (100, 34, 35)
BEFORE = Sight(running={200: 10, 100: 20}, pending={200: 2, 100: 3}, unsettled=0)


def after(running: dict[int, int], pending: dict[int, int], *plans: PackingPlan) -> Sight:
    return Sight(running=running, pending=pending, unsettled=0, plans=plans)


def test_the_numbers_of_a_run_that_went_well(tmp_path: Path) -> None:
    made = report("title", BEFORE, after({200: 12, 100: 22}, {100: 1}, plan(*WELL)), total_seconds=9)
    made.write(tmp_path / "result.json")

    assert json.loads((tmp_path / "result.json").read_text()) == {
        "scenario": "title",
        "pendingBefore": 5,
        "pendingAfter": 1,
        "pendingBeforeByPriority": {"200": 2, "100": 3},
        "pendingAfterByPriority": {"200": 0, "100": 1},
        "runningBefore": {"200": 10, "100": 30},
        "runningAfter": {"200": 12, "100": 34},
        "placedByPriority": {"200": 12, "100": 34},
        "bound": {"200": 12, "100": 35},
        "gap": {"200": 0, "100": 1},
        "plans": 1,
        "moves": 1,
        "evictions": 1,
        "certified": True,
        "kept": True,
        "solveSeconds": 1.5,
        "executeSeconds": 2.5,
        "totalSeconds": 9,
    }


@pytest.mark.parametrize(
    ("running", "kept"),
    [
        ({200: 12, 100: 22}, True),
        ({200: 13, 100: 22}, True),
        ({200: 11, 100: 23}, False),  # as many in all, but one of the higher priority is missing
        ({200: 12, 100: 21}, False),
    ],
    ids=["as planned", "better than planned", "one too few at a high priority", "one too few in all"],
)
def test_fewer_running_pods_than_planned_is_a_failure(running: dict[int, int], *, kept: bool) -> None:
    made = report("t", BEFORE, after(running, {100: 1}, plan((200, 12, 12), (100, 34, 34))), total_seconds=1)
    assert made.kept is kept
    assert ("FEWER" in "".join(made.lines())) is not kept


def test_the_newest_plan_with_numbers_is_the_promise() -> None:
    first = plan((200, 12, 12), (100, 35, 35), name="demo-20260101-101500-aaaa")
    second = plan((200, 12, 12), (100, 34, 35), name="demo-20260101-101600-aaaa", certified=False)
    made = report("t", BEFORE, after({200: 12, 100: 22}, {100: 1}, first, second), total_seconds=1)

    assert (made.kept, made.certified, made.plans, made.moves, made.evictions) == (True, False, 2, 2, 2)
    assert (made.solve_seconds, made.execute_seconds) == (3.0, 5.0)
    assert "not certified" in "".join(made.lines())


def test_one_of_each_is_told_as_one() -> None:
    made = report("t", BEFORE, after({200: 12, 100: 22}, {100: 1}, plan(*WELL)), total_seconds=1)
    assert "1 move, 1 eviction, 1 plan;" in made.lines()[0]


def test_without_a_plan_nothing_is_promised_and_nothing_proved() -> None:
    made = report("t", BEFORE, after({200: 10, 100: 20}, {200: 2, 100: 3}), total_seconds=1)
    assert (made.kept, made.certified) == (True, False)
    assert [tier.gap for tier in made.tiers] == [2, 5]


def test_the_table_shows_gaps_and_proofs() -> None:
    made = report("t", BEFORE, after({200: 12, 100: 22}, {100: 1}, plan(*WELL)), total_seconds=1)
    out = Console(width=120, file=io.StringIO())
    out.print(made.table())
    lines = out.file.getvalue().splitlines()
    assert any("2 → 0" in line and "0 (proved best)" in line for line in lines)
    assert any("3 → 1" in line and line.rstrip().endswith("1") for line in lines)


def test_progress_is_one_line_per_change_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    running = after({200: 10}, {}, plan(phase="Running", finishedAt=None))
    with Display(Console(width=200, force_terminal=False), 12) as display:
        for sight in (BEFORE, BEFORE, running):
            display.show(sight)
    assert capsys.readouterr().out.splitlines() == [
        "  30 of 12 pods run, 5 pending",
        "  10 of 12 pods run, 0 pending; plan demo-20260101-101500-aaaa Running, steps 3/3",
    ]


def test_progress_names_the_policy_state_between_plans() -> None:
    sight = Sight(running={1: 3}, pending={1: 2}, unsettled=1, policy_reason="Gathering")
    assert progress_line(sight, 6) == "3 of 6 pods run, 2 pending, 1 on their way; policy: Gathering"
