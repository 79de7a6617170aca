"""A pending pod's story, as someone new would follow it: from its events to the plan, the log and the metrics."""

from __future__ import annotations

import asyncio
import json
import urllib.request
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness.story import Story
from harness.waiting import always, eventually
from harness.workbench import Document, Workbench
from stowage.demo.processes import ManagedProcess, free_port
from stowage.run.catalogue import CATALOGUE
from stowage.run.metric import Process
from stowage.transport import paths

TRACE = "stowage.dev/trace-id"
ALL_LINES = 10_000


class Told:
    """What the operator of a test tells, beside what it does."""

    def __init__(self, bench: Workbench, operator: ManagedProcess, metrics_port: int) -> None:
        self.bench = bench
        self.operator = operator
        self.metrics_port = metrics_port

    async def events(self, app: str) -> list[Document]:
        """Our events on the pods of an app, the oldest first."""
        items = (await self.bench.api.get(paths.events(self.bench.namespace)))["items"]
        ours = [one for one in items if one.get("reportingController") == "stowage.dev/operator"]
        found = [one for one in ours if one["regarding"]["name"].startswith(f"{app}-")]
        return sorted(found, key=lambda one: str(one["eventTime"]))

    async def reasons(self, app: str) -> list[str]:
        return [event["reason"] for event in await self.events(app)]

    def records(self) -> list[Document]:
        """What it logged, as JSON."""
        lines = self.operator.log_tail(ALL_LINES).splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    async def families(self) -> dict[str, Any]:
        """What it shows at /metrics, by name."""
        return await asyncio.to_thread(scraped, self.metrics_port)


def scraped(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def names(process: Process) -> set[str]:
    """The families that a process has to show; the parser leaves `_total` out."""
    return {metric.name.removesuffix("_total") for metric in CATALOGUE if process in metric.processes}


@pytest.fixture
def told(workbench: Workbench, start: Callable[..., ManagedProcess], extender: ManagedProcess) -> Told:
    assert extender.exit_code is None
    port = free_port()
    lease = f"stowage-operator-{uuid.uuid4().hex[:6]}"
    flags = ("--metrics-port", str(port), "--lease-name", lease, "--solver-workers", "1", "--log-format", "json")
    return Told(workbench, start("operator", *flags, ready_url=f"http://127.0.0.1:{port}/readyz"), port)


async def test_a_pod_that_waits_for_approval_is_told_of_each_change_and_all_has_one_trace(
    workbench: Workbench, told: Told
) -> None:
    story = Story(workbench, steering="Extender")
    await story.begin(mode="Recommend")
    plan = await story.plan_in("Proposed")
    name, trace = plan["metadata"]["name"], plan["metadata"]["annotations"][TRACE]

    async def proposed() -> bool:
        both = (await told.reasons("large"), await told.reasons("small"))
        return both == (["PlacementProposed"], ["MoveProposed"])

    await eventually(proposed, what="both pods are told what the plan would do")
    (event,) = await told.events("large")
    assert name in event["note"]
    assert "waits for approval" in event["note"]
    assert event["related"]["name"] == name
    await always(proposed, for_seconds=2)

    await story.approve(plan)
    await story.plan_in("Done")
    await workbench.until_ready("large", 1)

    async def over() -> bool:
        return await told.reasons("large") == ["PlacementProposed", "PlacementPlanned", "Placed"]

    await eventually(over, what="the pod's story is told to its end")
    assert await told.reasons("small") == ["MoveProposed", "Moving"]
    events = [*await told.events("large"), *await told.events("small")]
    assert {one["metadata"]["annotations"][TRACE] for one in events} == {trace}
    said = [one["message"] for one in told.records() if one.get("trace_id") == trace]
    assert any("packing, 1 pods ask for it" in words for words in said)
    assert any(f"plan {name}" in words and "steps" in words for words in said)
    assert any("eviction of" in words for words in said), "the plan's execution has the trace of its decision"


async def test_a_pod_that_nobody_can_help_is_told_why_once(workbench: Workbench, told: Told) -> None:
    label = {"story": workbench.namespace}
    await workbench.nodes(1, cpu="8", labels=label)
    await workbench.replica_set("giant", 2, cpu="64", nodeSelector=label)
    await workbench.until_unschedulable("giant", 2)
    story = Story(workbench, steering="Extender")
    await story.apply_policy(label)

    async def told_why() -> bool:
        return await told.reasons("giant") == ["StaysPending", "StaysPending"]

    await eventually(told_why, what="both pods are told why they stay pending")
    events = await told.events("giant")
    assert len({one["regarding"]["name"] for one in events}) == 2
    assert all("InsufficientCpu" in one["note"] and one["type"] == "Warning" for one in events)
    assert {one["related"]["kind"] for one in events} == {"PackingPolicy"}
    await workbench.nodes(1, cpu="8", labels=label)  # the cluster changed, so it is packed again
    await always(told_why, for_seconds=8)

    pending = (await told.families())["stowage_pending_pods"].samples
    assert {one.labels["reason"]: one.value for one in pending} == {"InsufficientCpu": 2}


async def test_the_processes_show_the_whole_catalogue(told: Told, start: Callable[..., ManagedProcess]) -> None:
    port, metrics_port = str(free_port()), free_port()
    ready = f"http://127.0.0.1:{metrics_port}/readyz"
    start("extender", "--port", port, "--metrics-port", str(metrics_port), "--holder", "second", ready_url=ready)
    shown = await asyncio.to_thread(scraped, metrics_port)
    assert set(shown) == names(Process.EXTENDER)
    families = await told.families()
    assert set(families) == names(Process.OPERATOR)
    (build,) = families["stowage_build_info"].samples
    assert build.labels["process"] == "operator"
