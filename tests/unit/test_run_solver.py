"""Solver workers: real processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pebble.pool.process
import pytest
from pebble.pool.base_pool import Task
from pebble.pool.process import PoolManager

import stowage.run.solver
from harness.inside_solver import die, helper_pids
from harness.instances import dump, paper_instance
from harness.waiting import eventually
from stowage.run.solver import Solver, SolverDied, SolverError, SolverTimeout, limit_seconds
from stowage_scheduler.cluster import CPU, PODS, Node, OwnerRef, Pod, Snapshot
from stowage_scheduler.kube.dump import read_dump
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


def test_workers_alone_load_cp_sat() -> None:
    """It and what comes with it cost half a second of each start, and 50 MB."""
    code = "import sys, stowage.run.operator; print({'ortools', 'pandas'} & {*sys.modules})"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.stdout.strip() == "set()", ended.stderr


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
    with pytest.raises(SolverDied, match="exit code 3"):
        await solver._run(os._exit, (3,), 60.0)
    assert await solver._run(os.getpid, (), 60.0) > 0


async def busy(pid: int) -> None:
    """Wait until a process has been at work for a while."""

    def cpu_ticks() -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    begun_at = cpu_ticks()

    async def at_it() -> bool:
        return cpu_ticks() > begun_at + 20

    await eventually(at_it, what="the worker packs")


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() and "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def many_pods() -> Snapshot:
    instance = paper_instance(16, 8, 1, 105, 1)
    return read_dump(json.dumps(dump(instance)).encode()).snapshot


async def test_a_packing_survives_the_death_of_its_process(solver: Solver) -> None:
    snapshot, budget = many_pods(), Budget(seconds=2.0)
    pid = await solver._run(os.getpid, (), 60.0)
    packing = asyncio.create_task(solver.solve(snapshot, PackOptions(), budget, 1))
    await busy(pid)
    os.kill(pid, signal.SIGKILL)
    answer = await packing
    assert answer.faults == ()
    assert tuple(answer.placed.values()) >= tuple(answer.before.values())
    assert await solver._run(os.getpid, (), 60.0) != pid


async def test_a_packing_survives_a_process_that_dies_before_it_takes_up_the_work(solver: Solver) -> None:
    snapshot, budget = two_pods_and_one_place(), Budget(seconds=2.0)
    pid = await solver._run(os.getpid, (), 60.0)
    os.kill(pid, signal.SIGSTOP)
    packing = asyncio.create_task(solver.solve(snapshot, PackOptions(), budget, 1))
    await asyncio.sleep(0)  # it is handed over, and cannot be taken up
    os.kill(pid, signal.SIGKILL)
    assert (await packing).placed == {1: 1, 2: 1}


async def test_a_packing_survives_a_pool_that_breaks_while_it_takes_the_work_in(
    solver: Solver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool aborts what it knows of when it finds its process dead: what it takes in after is forgotten."""
    await solver.warm()
    take_in, broken = PoolManager.schedule, threading.Event()
    break_down = PoolManager.handle_broken_pool

    def breaks_down(pool: PoolManager, error: BrokenProcessPool) -> None:
        break_down(pool, error)
        broken.set()

    def takes_in_too_late(pool: PoolManager, task: Task) -> None:
        if not broken.is_set():
            (pid,) = pool.worker_manager.workers
            os.kill(pid, signal.SIGKILL)
            broken.wait(20)
        take_in(pool, task)

    monkeypatch.setattr(PoolManager, "handle_broken_pool", breaks_down)
    monkeypatch.setattr(PoolManager, "schedule", takes_in_too_late)
    packing = await solver.solve(two_pods_and_one_place(), PackOptions(), Budget(seconds=2.0), 1)
    assert packing.placed == {1: 1, 2: 1}


async def test_a_process_that_dies_as_it_starts_is_said_and_the_next_one_works(
    solver: Solver, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = pebble.pool.process.launch_process

    def stillborn(*arguments: Any) -> BaseProcess:
        process = launch(*arguments)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        return process

    with monkeypatch.context() as patched:
        patched.setattr(pebble.pool.process, "launch_process", stillborn)
        with pytest.raises(SolverDied, match="solver worker died"):
            await solver._run(os.getpid, (), 60.0)
    assert await solver._run(os.getpid, (), 60.0) != os.getpid()


async def test_a_packing_that_kills_two_processes_says_so(solver: Solver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stowage.run.solver, "pack_in_worker", die)
    with pytest.raises(SolverDied, match="died with exit code 3"):
        await solver.solve(two_pods_and_one_place(), PackOptions(), Budget(), 1)
    assert await solver._run(os.getpid, (), 60.0) > 0


async def test_workers_beyond_two_are_processes_and_end_with_the_one_that_packs() -> None:
    async with Solver(3) as solver:
        await solver.warm()
        packer = await solver._run(os.getpid, (), 60.0)
        helpers = await solver._run(helper_pids, (), 60.0)
        assert len(helpers) == 2
        packing = await solver.solve(many_pods(), PackOptions(), Budget(seconds=1.0), 1)
        assert packing.faults == ()
        os.kill(packer, signal.SIGKILL)

        async def gone() -> bool:
            return not any(map(is_alive, helpers))

        await eventually(gone, what="the helpers end")


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
