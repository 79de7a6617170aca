"""Solver workers: real processes."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.waiting import eventually
from stowage.run.solver import Solver, SolverError, SolverTimeout, limit_seconds
from stowage_scheduler.cluster import CPU, PODS, Node, OwnerRef, Pod, Snapshot
from stowage_scheduler.options import Budget, PackOptions
from stowage_scheduler.pack import pack


@pytest.fixture
async def solver() -> AsyncIterator[Solver]:
    async with Solver(1) as one:
        yield one


def two_pods_and_one_place() -> Snapshot:
    node = Node("n1", {CPU: 1000, PODS: 10})
    pods = [
        Pod("a", name, f"uid-{name}", {CPU: 1000, PODS: 1}, priority=priority, owner=OwnerRef("ReplicaSet", name, name))
        for name, priority in (("low", 1), ("high", 2))
    ]
    return Snapshot(now=1e9, nodes=(node,), pods=tuple(pods))


async def test_a_worker_answers_as_the_packer_itself_does(solver: Solver) -> None:
    snapshot, options, budget = two_pods_and_one_place(), PackOptions(), Budget(deterministic_units=1.0)
    await solver.warm()
    packing = await solver.solve(snapshot, options, budget, 1)
    here = pack(snapshot, options, budget, 1, time.monotonic)  # noqa: TID251
    assert [(assignment.pod.name, assignment.node) for assignment in packing.assignments] == [("high", "n1")]
    assert packing.placed == here.placed == {1: 1, 2: 1}
    assert (packing.assignments, packing.steps, packing.unplaced) == (here.assignments, here.steps, here.unplaced)


async def test_a_worker_that_overruns_is_killed_and_the_next_call_works(solver: Solver) -> None:
    with pytest.raises(SolverTimeout, match=r"killed after 0\.2 s"):
        await solver._run(time.sleep, (600,), 0.2)
    assert await solver._run(os.getpid, (), 60.0) != os.getpid()


async def test_a_worker_that_dies_is_an_error_of_that_call_alone(solver: Solver) -> None:
    with pytest.raises(SolverError):
        await solver._run(os._exit, (3,), 60.0)
    assert await solver._run(os.getpid, (), 60.0) > 0


async def test_an_exception_of_the_packer_arrives_with_its_words(solver: Solver) -> None:
    with pytest.raises(SolverError, match="ValueError: invalid literal"):
        await solver._run(int, ("x",), 60.0)


async def test_cancelling_a_call_frees_its_worker(solver: Solver, tmp_path: Path) -> None:
    first = await solver._run(os.getpid, (), 60.0)
    mark = tmp_path / "started"
    hang = f"import pathlib, time; pathlib.Path({str(mark)!r}).touch(); time.sleep(600)"
    hung = asyncio.create_task(solver._run(exec, (hang,), 600.0))

    async def started() -> bool:
        return mark.exists()

    await eventually(started, what="the worker is at it")
    hung.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hung
    assert await asyncio.wait_for(solver._run(os.getpid, (), 60.0), 30) != first


def test_the_hard_limit_leaves_room_for_presolve() -> None:
    assert limit_seconds(Budget(seconds=10)) == 25
    assert limit_seconds(Budget(seconds=1, deterministic_units=5)) == 600
