"""When the demo goes on: only once the cluster has come to rest, and stays so."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any

import pytest

from stowage.demo import watching
from stowage.demo.watching import DemoError, Sight, at_or_above, look, wait_until_packed, wait_until_scheduled
from stowage.transport import paths

Document = dict[str, Any]
UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}


def pod(phase: str = "Running", *, priority: int = 1, refused: bool = False, ends: bool = False) -> Document:
    metadata = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if ends else {}
    status = {"phase": phase, "conditions": [UNSCHEDULABLE] if refused else []}
    return {"metadata": metadata, "spec": {"priority": priority}, "status": status}


def plan(phase: str | None) -> Document:
    spec = {"policy": "demo", "approval": "Approved"}
    return {"metadata": {"name": "demo-20260101-101500-aaaa"}, "spec": spec, "status": {"phase": phase}}


def policy(reason: str) -> Document:
    return {"status": {"conditions": [{"type": "Ready", "status": "True", "reason": reason}]}}


RUNS, WAITS, NEW = pod(), pod("Pending", refused=True), pod("Pending")


class Script:
    """Stands in for the API: each look at the pods takes the next scene, the last one for ever."""

    def __init__(self, *scenes: tuple[list[Document], list[Document], str]) -> None:
        self.scenes: Iterator[Any] = chain(scenes, repeat(scenes[-1]))
        self.looks = 0

    async def get(self, path: str, _query: object = None) -> Document:
        if path.endswith("/pods"):
            self.looks += 1
            self.pods, self.plans, self.reason = next(self.scenes)
            return {"items": self.pods}
        return {"items": self.plans} if path == paths.PACKING_PLANS else policy(self.reason)


@pytest.fixture(autouse=True)
def time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that moves by one second with each sleep."""
    now = [0.0]

    async def sleep(_seconds: float) -> None:
        now[0] += 1.0

    monkeypatch.setattr(watching.asyncio, "sleep", sleep)
    monkeypatch.setattr(watching, "_now", lambda: now[0])


async def test_pods_are_counted_by_what_became_of_them() -> None:
    script = Script(([RUNS, pod(priority=2), WAITS, NEW, pod(ends=True)], [], ""))
    sight = await look(script)
    assert sight == Sight(running={1: 1, 2: 1}, pending={1: 1}, unsettled=2)
    assert sight.pods == 5
    assert [at_or_above(sight.running, priority) for priority in (1, 2, 3)] == [2, 1, 0]


async def test_scheduling_is_over_when_every_pod_stands_for_a_while() -> None:
    script = Script(([], [], ""), ([RUNS], [], ""), ([RUNS, NEW], [], ""), ([RUNS, WAITS], [], ""))
    seen: list[Sight] = []
    sight = await wait_until_scheduled(script, 2, timeout_seconds=60, show=seen.append)
    assert (dict(sight.running), dict(sight.pending)) == ({1: 1}, {1: 1})
    assert len(seen) == script.looks == 3 + 1 + watching.QUIET_SECONDS


@pytest.mark.parametrize(
    "unrest",
    [
        ([RUNS, WAITS], [], "Gathering"),
        ([RUNS, WAITS], [], "Watching"),
        ([RUNS, WAITS], [plan(None)], "PlanRunning"),
        ([RUNS, NEW], [plan("Done")], "Watching"),
        ([RUNS, pod(ends=True)], [plan("Done")], "Watching"),
        ([RUNS], [plan("Done")], "Watching"),
        ([RUNS, RUNS], [plan("Running")], "Watching"),
    ],
    ids=[
        "the solver thinks",
        "the operator has not noticed the pods yet",
        "a plan was just written",
        "a pod is on its way",
        "a pod is ending",
        "a pod is missing",
        "a plan is running",
    ],
)
async def test_packing_is_not_over_while_something_is_under_way(unrest: Any) -> None:
    with pytest.raises(DemoError, match="did not settle within 20 s"):
        await wait_until_packed(Script(unrest), "demo", 2, timeout_seconds=20, show=lambda _: None)
    rest = ([RUNS, RUNS], [plan("Done")], "Watching")
    sight = await wait_until_packed(Script(unrest, rest), "demo", 2, timeout_seconds=20, show=lambda _: None)
    assert sight.running == {1: 2}


@pytest.mark.parametrize(
    "rest",
    [
        ([RUNS, WAITS], [plan("Done")], "NoBetterPlan"),
        ([RUNS, WAITS], [], "NoBetterPlan"),
        ([RUNS, WAITS], [plan("Superseded")], "ReplanLimit"),
        ([RUNS, RUNS], [], "Watching"),
    ],
    ids=["the rest cannot be helped", "nothing can be helped", "tried often enough", "nothing was pending"],
)
async def test_packing_is_over_when_the_operator_rests(rest: Any) -> None:
    sight = await wait_until_packed(Script(rest), "demo", 2, timeout_seconds=20, show=lambda _: None)
    assert sight.active is None


async def test_an_operator_that_cannot_go_on_ends_the_demo_at_once() -> None:
    script = Script(([RUNS, WAITS], [], "ExtenderUnavailable"))
    with pytest.raises(DemoError, match="cannot go on: ExtenderUnavailable"):
        await wait_until_packed(script, "demo", 2, timeout_seconds=20, show=lambda _: None)
    assert script.looks == 1
