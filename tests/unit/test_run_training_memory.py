"""What the reconciler of training jobs remembers saves requests; it must not outlive what it is about."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from stowage.api.durations import instant
from stowage.api.training_job_status import RecoveryRecord
from stowage.api.training_words import Action, Domain, Event
from stowage.observe.store import Store
from stowage.run.metrics import Metrics
from stowage.run.prometheus_settings import PrometheusSettings
from stowage.run.queries import Queries
from stowage.run.reconcile_training import WRITES_AT_ONCE, TrainingReconciler
from stowage.run.settings import OperatorSettings
from unit.builders import NOW
from unit.test_training_job_status import Life


def reconciler() -> TrainingReconciler:
    unused: Any = None
    lease: Any = SimpleNamespace(leading=True, epoch=1)
    generator = random.Random(1)

    def ring(_key: str, _seconds: float) -> None: ...

    def clock() -> float:
        return NOW

    queries = Queries(PrometheusSettings(), ring, clock=clock, monotonic=clock, generator=generator)
    return TrainingReconciler(
        api=unused,
        store=Store(now=clock),
        lease=lease,
        metrics=Metrics(),
        clock=clock,
        settings=OperatorSettings(),
        ring=ring,
        queries=queries,
        generator=generator,
    )


async def test_a_standby_knows_nothing_of_jobs_that_may_be_gone_when_it_leads() -> None:
    """A job that was deleted meanwhile would count against its nodes for ever."""
    job = Life(1).run().job
    failed = RecoveryRecord(
        at=instant(NOW - 60),
        event=Event.NODE_LOST,
        action=Action.REPLACE_NODE,
        domain=Domain.INFRASTRUCTURE,
        epoch=1,
        node="n0",
    )
    made = reconciler()
    made._records.learn(job.model_copy(update={"status": job.status.model_copy(update={"recoveries": (failed,)})}))
    made._written[job.key] = "7"
    assert set(made._records.at(NOW)) == {"n0"}
    assert made.is_own(job.key, "7")
    made.stand_by()
    assert not made._records.at(NOW)
    assert not made.is_own(job.key, "7")


async def test_pods_that_were_let_go_are_remembered_until_the_store_has_seen_it() -> None:
    life = Life(1).run()
    made = reconciler()
    for name, pod in life.pods.items():
        made._store.pods[f"{pod.namespace}/{name}"] = pod  # type: ignore[index]
        made._places.pod_changed(f"{pod.namespace}/{name}")
    there = {pod.uid for pod in life.pods.values()}
    made._released[life.job.key] = {*there, "long-gone"}
    await made._clear(life.job, life.work())
    assert made._released[life.job.key] == there


@pytest.mark.filterwarnings("error")
async def test_a_pass_that_is_cancelled_has_begun_nothing_that_nobody_awaits() -> None:
    """Who waits for its turn when the process ends has not begun, so nothing is left over for the garbage collector."""
    made = reconciler()
    begun = []
    full, never = asyncio.Event(), asyncio.Event()

    async def write(number: int) -> None:
        begun.append(number)
        if len(begun) == WRITES_AT_ONCE:
            full.set()
        await never.wait()

    many = 2 * WRITES_AT_ONCE
    going = asyncio.create_task(made._all(partial(write, number) for number in range(many)))
    await full.wait()
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    assert len(begun) == WRITES_AT_ONCE


async def test_a_job_that_nobody_else_changed_is_read_once() -> None:
    """Its own writes are answered with the whole job; a change that the watch tells has it read again."""
    job = Life(1).run().job
    made, asked = reconciler(), 0

    async def get(_path: str) -> dict[str, Any]:
        nonlocal asked
        asked += 1
        return job.to_document()

    api: Any = SimpleNamespace(get=get)
    made._api = api
    for _ in range(2):
        assert (await made._read(job.key, made._known.changes(job.key))) == job
    assert asked == 1
    made.changed(job.key)
    assert (await made._read(job.key, made._known.changes(job.key))) == job
    assert asked == 2
