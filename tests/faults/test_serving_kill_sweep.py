"""`kill -9` of the operator at each write of one change of a service: the same end, and nobody goes undrained."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from faults.lab import Lab
from faults.operator_points import chosen
from faults.proxy import FaultProxy
from faults.report import Report
from faults.scenarios import Victim
from faults.serving_sweep import CHANGES, Change, ServingSweep
from harness.workbench import Workbench
from stowage.demo.local_cluster import LocalCluster
from stowage.transport import Api

IN_SAMPLE = frozenset({"service-in", "groups-image"})


@pytest.mark.parametrize("change", [pytest.param(change, id=change.name) for change in CHANGES])
async def test_a_service_ends_the_same_whenever_the_operator_dies(
    cluster: LocalCluster,
    proxy: FaultProxy,
    api: Api,
    workbench: Workbench,
    change: Change,
    tmp_path: Path,
    fault_report: Report,
    fault_points: frozenset[str],
    subtests: pytest.Subtests,
) -> None:
    if fault_points and not any(point.startswith(f"{change.name}:") for point in fault_points):
        pytest.skip("no point of this change was named")
    if not fault_points and fault_report.chosen != "all" and change.name not in IN_SAMPLE:
        pytest.skip("takes long: make faults plays it")
    await workbench.nodes(2, cpu="16", labels={"story": workbench.namespace})
    lab = Lab(cluster, proxy, api, tmp_path)
    try:
        await asyncio.to_thread(lab.start, Victim.OPERATOR)
        sweep = ServingSweep(lab, workbench, change)
        reference = await sweep.run()
        assert reference.problems == []
        assert reference.changes > 1, "the change is too small to tell much"
        for point in chosen(change.name, reference.changes, fault_report, fault_points):
            with subtests.test(point.id):
                found = await sweep.run(point, reference.end)
                logs = "\n".join(process.log_tail(40) for process in lab.processes.values())
                assert found.problems == [], f"killed at {found.request}\n{logs}"
                assert found.end == reference.end, f"killed at {found.request}\n{logs}"
    finally:
        await asyncio.to_thread(lab.stop)
