"""One trace from the log to the plan and its events."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec import structs

from stowage.api.names import TRACE_ANNOTATION
from stowage.decide.trace import trace_id
from stowage.decide.trigger import LONGEST_BACKOFF_SECONDS
from stowage.run import logs
from stowage.run.reconcile_policy import PolicyReconciler
from unit import one_move
from unit.builders import NOW
from unit.one_move import NEW
from unit.test_run_reconcile import NAME, Cluster, Document, Packer, enforcing, running


class Records(logging.Handler):
    """What a process would log, as JSON."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logs.formatter("json"))
        self.addFilter(logs.with_trace)
        self.documents: list[Document] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.documents.append(json.loads(self.format(record)))


@pytest.fixture
def records() -> Iterator[Records]:
    handler, logger = Records(), logging.getLogger("stowage")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)


class Telling(Cluster):
    """A cluster that keeps what is created."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.created: list[Document] = []

    async def create(self, path: str, body: Document) -> Document:
        self.created.append(body)
        return await super().create(path, body)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        pytest.param(("uid-1", "abc", NOW), True, id="the same facts at the same instant"),
        pytest.param(("uid-2", "abc", NOW), False, id="another policy"),
        pytest.param(("uid-1", "abd", NOW), False, id="other facts"),
        pytest.param(("uid-1", "abc", NOW + 1), False, id="later"),
    ],
)
def test_a_decision_has_one_trace(other: tuple[str, str, float], same: bool) -> None:
    assert (trace_id(*other) == trace_id("uid-1", "abc", NOW)) is same


async def test_the_records_of_a_decision_and_its_plan_have_one_trace(records: Records) -> None:
    cluster = Telling(enforcing())
    packer = Packer(lambda: logging.getLogger("stowage.deep.inside").warning("still at it"))
    reconciler = PolicyReconciler(**cluster.parts(), solver=cast("Any", packer), generator=random.Random(1))
    await reconciler.reconcile("default")
    (plan,) = [one for one in cluster.created if one["kind"] == "PackingPlan"]
    trace = plan["metadata"]["annotations"][TRACE_ANNOTATION]
    said = {one["message"]: one.get("trace_id") for one in records.documents}
    assert said["still at it"] == trace
    assert [given for words, given in said.items() if "1 steps" in words] == [trace]


async def test_a_pod_left_pending_is_told_once_with_the_trace_of_the_packing(records: Records) -> None:
    cluster, now = Telling(enforcing()), NOW
    giant = structs.replace(NEW, requests={**NEW.requests, "cpu": 64_000})
    parts = {**cluster.parts(), "clock": lambda: now}
    parts["store"] = SimpleNamespace(snapshot=lambda _: one_move.cluster(giant), pods={giant.key: giant}, rejected=[])
    reconciler = PolicyReconciler(**parts, solver=cast("Any", Packer(lambda: None)), generator=random.Random(1))
    for _ in range(3):
        await reconciler.reconcile("default")
        now += LONGEST_BACKOFF_SECONDS
    (event,) = [one for one in cluster.created if one["kind"] == "Event"]
    assert (event["reason"], event["regarding"]["name"], event["action"]) == ("StaysPending", giant.name, "Pack")
    assert "InsufficientCpu" in event["note"]
    packings = [one["trace_id"] for one in records.documents if "packing, 1 pods" in one["message"]]
    assert len(set(packings)) == 3, "each packing is a decision of its own"
    assert event["metadata"]["annotations"] == {TRACE_ANNOTATION: packings[0]}


async def test_the_records_and_events_of_a_plan_have_the_trace_of_its_decision(records: Records) -> None:
    plan = running()
    plan["metadata"]["annotations"] = {TRACE_ANNOTATION: "f00d"}
    cluster = Telling(enforcing(), plan)
    await cluster.plan_pass().reconcile(NAME)
    (event,) = [one for one in cluster.created if one["kind"] == "Event"]
    assert event["metadata"]["annotations"] == {TRACE_ANNOTATION: "f00d"}
    (evicted,) = [one for one in records.documents if "eviction of" in one["message"]]
    assert evicted["trace_id"] == "f00d"
    assert cluster.plans[NAME]["metadata"]["annotations"] == {TRACE_ANNOTATION: "f00d"}, "writing a status keeps it"


async def test_a_trace_stays_with_its_task(records: Records) -> None:
    logger = logging.getLogger("stowage.test")

    async def work(trace: str) -> None:
        with logs.traced(trace):
            await asyncio.sleep(0)
            logger.info("work of %s", trace)
        logger.info("after %s", trace)

    await asyncio.gather(work("a"), work("b"))
    said = {one["message"]: one.get("trace_id") for one in records.documents}
    assert said == {"work of a": "a", "work of b": "b", "after a": None, "after b": None}
