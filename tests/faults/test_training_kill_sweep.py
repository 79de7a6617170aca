"""`kill -9` of the operator at each change of one recovery: the same end, no seat and no epoch begins twice."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from faults.lab import Lab
from faults.operator_points import chosen
from faults.proxy import FaultProxy
from faults.report import Report
from faults.scenarios import Victim
from faults.training_sweep import FAILURES, Failure, TrainingSweep
from harness.workbench import Workbench
from stowage.demo.local_cluster import LocalCluster
from stowage.demo.processes import free_port
from stowage.transport import Api

NODES = 4
IN_SAMPLE = frozenset({"job-process", "job-spare"})


@pytest.mark.parametrize("failure", [pytest.param(failure, id=failure.name) for failure in FAILURES])
async def test_a_recovery_ends_the_same_whenever_the_operator_dies(
    cluster: LocalCluster,
    proxy: FaultProxy,
    api: Api,
    workbench: Workbench,
    failure: Failure,
    tmp_path: Path,
    fault_report: Report,
    fault_points: frozenset[str],
    subtests: pytest.Subtests,
) -> None:
    if fault_points and not any(point.startswith(f"{failure.name}:") for point in fault_points):
        pytest.skip("no point of this failure was named")
    if not fault_points and fault_report.chosen != "all" and failure.name not in IN_SAMPLE:
        pytest.skip("takes long: make faults plays it")
    await workbench.nodes(NODES, prefix="sweep-", cpu="8", labels={"sweep": "node"})
    port = free_port()
    lab = Lab(cluster, proxy, api, tmp_path, operator_arguments=("--coordinator-address", f"127.0.0.1:{port}"))
    try:
        await asyncio.to_thread(lab.start, Victim.OPERATOR)
        sweep = TrainingSweep(lab, workbench, failure, port)
        reference = await sweep.run()
        assert reference.problems == []
        assert reference.changes > 1, "the recovery is too small to tell much"
        for point in chosen(failure.name, reference.changes, fault_report, fault_points):
            with subtests.test(point.id):
                mended = await sweep.run(point)
                logs = "\n".join(process.log_tail(40) for process in lab.processes.values())
                assert mended.problems == [], f"killed at {mended.request}\n{logs}"
                assert mended.end == reference.end, f"killed at {mended.request}\n{logs}"
    finally:
        await asyncio.to_thread(lab.stop)
