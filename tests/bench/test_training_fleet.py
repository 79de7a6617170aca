"""Hundreds of TrainingJobs and one operator: how soon it acts, what it asks of the API server, what it weighs.

A real API server, scheduler, controllers and operator; simulated nodes and pods; coordinators that run nothing, each
with a connection of its own. Times are taken outside of the operator: from when a failure is reported, or what fails
is asked to change, until the watch shows the status that answers it, and until the coordinator is told to begin the
next epoch. So they hold what the API server and this process take. All share the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median
from typing import Any, Final

import pytest

from harness import standing_jobs
from harness.control_plane import control_plane, new_namespace, start_stowage
from harness.large_cluster import bare_cluster
from harness.measurements import Record, at_most
from harness.process_figures import ProcessFigures, waited_seconds
from harness.training_fleet import FleetJob, fleet
from harness.training_scale import SEATS, Failure, Scale
from harness.training_watch import watched_jobs
from harness.waiting import eventually
from stowage.demo.local_cluster import LocalCluster
from stowage.demo.processes import ManagedProcess, free_port
from stowage.transport.api import Api

PREFIX: Final = "stowage-fleet-"
QUIET_SECONDS: Final = 60.0
STEADY_SECONDS: Final = 60.0
START_SECONDS: Final = 120.0
SETTLE_SECONDS: Final = 15.0
ROUND_SECONDS: Final = 60.0  # within it three of four jobs fail that make no steps
SEED: Final = 7
NODES_FOR_EACH_LOST: Final = 20  # a seat that loses its third node within an hour makes its job pause
KINDS: Final = (
    *(["process exits"] * 8),
    *(["hang"] * 3),
    *(["pod deleted"] * 4),
    *(["user error"] * 1),
    *(["none"] * 4),
)
"""What happens to a job in each of two rounds, in these shares."""
OF_PROGRAMS: Final = tuple(kind for kind in KINDS if kind != "pod deleted")
"""The same where nobody makes pods."""
NAMESPACE: Final = "fleet"

clock = time.perf_counter


async def test_a_fleet_of_jobs(record: Record, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    count = int(pytestconfig.getoption("--jobs"))
    bench = f"{count} training jobs of {SEATS} nodes"
    generator = random.Random(SEED)
    within_seconds = pytestconfig.getoption("--failing-seconds")
    with control_plane(PREFIX) as cluster:
        async with scale(cluster, tmp_path) as (jobs, operator):
            nodes = await jobs.add_nodes(count * SEATS)
            cpu, began, asked = _cpu(operator), clock(), await jobs.requests()
            await jobs.add_jobs(f"j{number}" for number in range(count))
            await jobs.until_all_run(count)
            record(bench, "all jobs made until all run", clock() - began, "s", nodes=nodes)
            record(bench, "a job's start, CPU", (_cpu(operator) - cpu) / count * 1e3, "ms")
            spent = await jobs.requests() - asked
            record(bench, "a job's start, requests", spent.total() / count, "", by_method=dict(spent))

            await jobs.until_still(SETTLE_SECONDS)
            changed = await quiet(jobs, operator, record, bench)
            expected = await rounds(jobs, operator, generator, record, bench)
            jobs.fleet.trains = True
            await steady(jobs, operator, record, bench)
            await failures_while_training(jobs, operator, generator, expected, record, bench, within_seconds)
            for number in range(max(2, min(4, nodes // NODES_FOR_EACH_LOST))):
                await jobs.lose_node(f"n{number + 1}", is_deleted=number % 2 == 0)
            jobs.fleet.trains = False
            latencies(jobs.failures, record, bench)
            memory = record(bench, "memory, most", ProcessFigures.of(operator.pid).peak_mb, "MB", target=at_most(300))
            wrong = await ends(jobs, expected)
            record(bench, "jobs that did not end as they should", len(wrong), "", target=at_most(0), jobs=wrong)
    assert not changed
    assert not wrong
    assert memory.met


async def test_a_fleet_that_runs_already(record: Record, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """No controllers and kubelets, whose work is most of the other one: what is left is the operator's own."""
    count = int(pytestconfig.getoption("--jobs"))
    bench = f"{count} training jobs of {SEATS} nodes, taken over"
    generator = random.Random(SEED)
    within_seconds = pytestconfig.getoption("--failing-seconds")
    with bare_cluster() as bare:
        await bare.load(standing_jobs.documents(count, NAMESPACE))
        began = clock()
        async with scale(bare.cluster, tmp_path, NAMESPACE) as (jobs, operator):
            await jobs.until_all_run(count)
            record(bench, "start of the operator until all are heard", clock() - began, "s")
            await jobs.until_still(2 * SETTLE_SECONDS)
            changed = await quiet(jobs, operator, record, bench)
            expected = await rounds(jobs, operator, generator, record, bench, OF_PROGRAMS)
            jobs.fleet.trains = True
            await steady(jobs, operator, record, bench)
            await failures_while_training(
                jobs, operator, generator, expected, record, bench, within_seconds, OF_PROGRAMS
            )
            jobs.fleet.trains = False
            latencies(jobs.failures, record, bench)
            memory = record(bench, "memory, most", ProcessFigures.of(operator.pid).peak_mb, "MB", target=at_most(300))
            wrong = await ends(jobs, expected)
            record(bench, "jobs that did not end as they should", len(wrong), "", target=at_most(0), jobs=wrong)
    assert not changed
    assert not wrong
    assert memory.met


@contextlib.asynccontextmanager
async def scale(
    cluster: LocalCluster, logs: Path, namespace: str | None = None
) -> AsyncIterator[tuple[Scale, ManagedProcess]]:
    """The coordinators, the watch and the operator; the jobs are in the namespace, None: in a new one."""
    api = await Api.connect(kubeconfig=str(cluster.kubeconfig), user_agent="stowage-bench")
    port = free_port()
    async with api:
        made = Scale(api, namespace or await new_namespace(api), f"http://127.0.0.1:{port}/metrics")
        async with fleet(made.name_of) as made.fleet, watched_jobs(api, made.namespace) as made.watched:
            address = ("--coordinator-address", made.fleet.address)
            arguments = ("--metrics-port", str(port), "--solver-workers", "1", *address)
            process = start_stowage(cluster, "operator", *arguments, logs=logs, name="operator")
            with process:
                process.wait_until_serving(f"http://127.0.0.1:{port}/readyz", timeout_seconds=START_SECONDS)
                yield made, process
                process.stop()


async def quiet(jobs: Scale, operator: ManagedProcess, record: Record, bench: str) -> list[str]:
    """Nothing happens for a while: what changed all the same."""
    before, cpu, asked = await jobs.versions(), _cpu(operator), await jobs.requests()
    record(bench, "memory, all run", ProcessFigures.of(operator.pid).resident_mb, "MB", target=at_most(300))
    await asyncio.sleep(QUIET_SECONDS)
    spent = await jobs.requests() - asked
    share = (_cpu(operator) - cpu) / QUIET_SECONDS
    after = await jobs.versions()
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    record(bench, "objects changed in 60 s of nothing", len(changed), "", target=at_most(0), which=changed[:20])
    record(bench, "nothing happens: CPU of one processor", share * 100, "%")
    record(bench, "nothing happens: requests a second", spent.total() / QUIET_SECONDS, "", by_method=dict(spent))
    return changed


async def rounds(
    jobs: Scale,
    operator: ManagedProcess,
    generator: random.Random,
    record: Record,
    bench: str,
    kinds: tuple[str, ...] = KINDS,
) -> dict[str, Counter[str]]:
    """Failures of jobs that make no steps, so that every request is for a failure; what happened to each job."""
    happened: dict[str, Counter[str]] = defaultdict(Counter)
    cpu, asked, before = _cpu(operator), await jobs.requests(), len(jobs.failures)
    await play(jobs, generator, happened, ROUND_SECONDS, kinds)
    failures = len(jobs.failures) - before
    spent = await jobs.requests() - asked
    record(bench, "a failure, requests", spent.total() / failures, "", by_method=dict(spent), failures=failures)
    record(bench, "a failure, CPU", (_cpu(operator) - cpu) / failures * 1e3, "ms")
    return happened


async def steady(jobs: Scale, operator: ManagedProcess, record: Record, bench: str) -> None:
    """All jobs make steps, each coordinator reports once a second."""
    await asyncio.sleep(SETTLE_SECONDS)
    cpu, asked, writes = _cpu(operator), await jobs.requests(), jobs.watched.writes
    await asyncio.sleep(STEADY_SECONDS)
    spent = await jobs.requests() - asked
    share = (_cpu(operator) - cpu) / STEADY_SECONDS
    record(bench, "all train: CPU of one processor", share * 100, "%")
    record(bench, "all train: requests a second", spent.total() / STEADY_SECONDS, "", by_method=dict(spent))
    record(bench, "all train: changed jobs a second", (jobs.watched.writes - writes) / STEADY_SECONDS)


async def failures_while_training(
    jobs: Scale,
    operator: ManagedProcess,
    generator: random.Random,
    expected: dict[str, Counter[str]],
    record: Record,
    bench: str,
    within_seconds: float,
    kinds: tuple[str, ...] = KINDS,
) -> None:
    """A second round, while all the others train."""
    del jobs.failures[:]
    waited, began = waited_seconds(operator.pid), clock()
    await play(jobs, generator, expected, within_seconds, kinds)
    record(bench, "meanwhile failures a second", len(jobs.failures) / (clock() - began))
    share = (waited_seconds(operator.pid) - waited) / (clock() - began)
    record(bench, "meanwhile the operator waited for a processor", share * 100, "% of the time")


async def play(
    jobs: Scale,
    generator: random.Random,
    happened: dict[str, Counter[str]],
    within_seconds: float,
    kinds: tuple[str, ...],
) -> None:
    """What happens to each job that has not ended, at times that the generator says."""

    async def one(job: FleetJob, kind: str, after: float, seat: str) -> None:
        await asyncio.sleep(after)
        happened[job.name][kind] += 1
        if kind == "user error":
            for _ in range(2):  # the same exception at the same step twice
                await jobs.fail(kind, job, seat=seat, step=7, error_hash="abc")
        else:
            await jobs.fail(kind, job, seat=seat)

    tasks = []
    for job in list(jobs.fleet.jobs.values()):
        kind, after, seat = (
            generator.choice(kinds),
            generator.uniform(0, within_seconds),
            generator.randrange(SEATS),
        )
        if kind != "none" and job.ended is None:
            tasks.append(one(job, kind, after, f"s{seat}"))
    await asyncio.gather(*tasks)


def latencies(failures: list[Failure], record: Record, bench: str) -> None:
    """From the event to the status, and to the coordinator."""
    by_kind: dict[str, list[Failure]] = defaultdict(list)
    for failure in failures:
        by_kind[failure.kind].append(failure)
    for kind, some in sorted(by_kind.items()):
        acted = sorted(one.acted - one.at for one in some)
        record(bench, f"{kind}: event to status, median", median(acted) * 1e3, "ms", count=len(some))
        record(bench, f"{kind}: event to status, longest", acted[-1] * 1e3, "ms")
        begun = sorted(one.begun - one.at for one in some if one.begun is not None)
        if begun:
            record(bench, f"{kind}: event to Begin, median", median(begun) * 1e3, "ms")
            record(bench, f"{kind}: event to Begin, longest", begun[-1] * 1e3, "ms")
    acted = sorted(one.acted - one.at for one in failures)
    p99 = acted[int(0.99 * (len(acted) - 1))]
    record(bench, "event to action, 99 %", p99, "s", target=at_most(1.0), count=len(acted))


async def ends(jobs: Scale, happened: dict[str, Counter[str]]) -> dict[str, Any]:
    """All programs end; the jobs that are not as they should be."""
    for job in jobs.fleet.jobs.values():
        if job.ended is None:
            job.tell("Finished")

    async def over() -> bool:
        return len(jobs.watched.ended) == len(jobs.fleet.jobs)

    await eventually(over, timeout_seconds=START_SECONDS, what="all jobs have ended")
    wrong = {}
    for name, status in jobs.watched.status.items():
        restarts = {one["scope"]: one["count"] for one in status.get("restarts", ())}
        kinds = happened[name]
        failed = kinds["user error"] > 0
        processes = kinds["process exits"] + kinds["hang"] + kinds["user error"]
        moved = sum(one.job == name and one.kind.startswith("node") for one in jobs.failures)
        as_it_should = (
            status["phase"] == ("Failed" if failed else "Succeeded")
            and (not failed or status["reason"] == "UserError")
            and restarts.get("Process", 0) == processes
            and restarts.get("Node", 0) == kinds["pod deleted"] + moved
        )
        if not as_it_should:
            wrong[name] = [status["phase"], status.get("reason"), restarts, dict(kinds), moved]
    return wrong


def _cpu(process: ManagedProcess) -> float:
    return ProcessFigures.of(process.pid).cpu_seconds
