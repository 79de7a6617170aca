"""`kill -9` before and after each change that a process asks for: the end is the same as if nothing had happened."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from faults.kill_points import KillPoint, points, sample
from faults.lab import Lab
from faults.proxy import FaultProxy
from faults.report import Report
from faults.scenarios import NODE_LABEL, NODES, PRIORITY_CLASSES, SCENARIOS, Scenario, Victim
from faults.sweep import Outcome, Sweep
from harness.workbench import Workbench
from stowage.demo.local_cluster import LocalCluster
from stowage.transport import Api, paths

MOVES = 10
STILL_SECONDS = 60.0


@contextlib.asynccontextmanager
async def laboratory(
    cluster: LocalCluster, proxy: FaultProxy, api: Api, bench: Workbench, scenario: Scenario, folder: Path
) -> AsyncIterator[tuple[Lab, Sweep]]:
    """The processes of a scenario, its nodes and priority classes."""
    await bench.nodes(NODES, prefix="sweep-", cpu="8", labels=NODE_LABEL)
    for name, value in PRIORITY_CLASSES:
        await bench.priority_class(name, value)
    nodes = (await api.get(paths.NODES))["items"]
    lab = Lab(cluster, proxy, api, folder)
    try:
        await asyncio.to_thread(lab.start_all, scenario)
        yield lab, Sweep(lab, bench, scenario, nodes)
    finally:
        await asyncio.to_thread(lab.stop)


def chosen_points(scenario: Scenario, reference: Outcome, report: Report, named: frozenset[str]) -> list[KillPoint]:
    """The points to be run: those named, else all or a sample of each kind."""
    taken: list[KillPoint] = []
    for kills in scenario.kills:
        all_points = points(scenario, kills, reference.changes)
        if named:
            taken += [point for point in all_points if point.id in named]
        elif report.chosen == "all":
            taken += all_points
        else:
            # most can go wrong where a plan is carried out; of the rest the seed draws its share
            fixed = report.fixed if kills.victim is kills.trigger is Victim.OPERATOR else 0
            taken += sample(all_points, fixed=fixed, rotating=report.rotating, seed=report.seed)
    return taken


@pytest.mark.parametrize("scenario", [pytest.param(scenario, id=scenario.name) for scenario in SCENARIOS])
async def test_whatever_is_killed_the_end_is_the_same(
    cluster: LocalCluster,
    proxy: FaultProxy,
    api: Api,
    workbench: Workbench,
    scenario: Scenario,
    tmp_path: Path,
    fault_report: Report,
    fault_points: frozenset[str],
    subtests: pytest.Subtests,
) -> None:
    if fault_points and not any(point.startswith(f"{scenario.name}:") for point in fault_points):
        pytest.skip("no point of this scenario was named")
    async with laboratory(cluster, proxy, api, workbench, scenario, tmp_path) as (lab, sweep):
        # hot loops are quick; one long look shows slow ones too
        long_look = {"quiet_seconds": STILL_SECONDS} if fault_report.chosen == "all" else {}
        reference = await sweep.run(**long_look)
        fault_report.outcomes[scenario.name].append(reference)
        assert reference.problems == []
        assert reference.evictions >= MOVES, "the plan of the undisturbed run is too small to tell much"
        for point in chosen_points(scenario, reference, fault_report, fault_points):
            with subtests.test(point.id):
                outcome = await sweep.run(point)
                fault_report.outcomes[scenario.name].append(outcome)
                fault_report.write()
                if outcome.problems:
                    logs = "\n".join(process.log_tail(40) for process in lab.processes.values())
                    await asyncio.to_thread(lab.start_anew, scenario)
                    pytest.fail(f"killed at {outcome.request}: {outcome.problems}; plans {outcome.plans}\n{logs}")
