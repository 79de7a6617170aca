"""From SIGKILL to all ranks started again, in local mode: the same supervisors and coordinator as in a cluster.

The program is a shell that writes the time and sleeps, so that next to nothing of its own start is in the figures.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from pathlib import Path
from statistics import median

import pytest

from harness.local_training import LocalTraining
from harness.measurements import Record, at_most
from harness.waiting import eventually
from stowage_worker.client import Reporter
from stowage_worker.supervisor_command import run_directory

ROUNDS = 8
PROGRAM = 'trap "" TERM; date +"$STOWAGE_EPOCH %s.%N" >> {file}; exec sleep 1000'
REPORTS = 20_000


@pytest.mark.parametrize(("nodes", "per_node"), [(3, 2), (8, 2)])
@pytest.mark.parametrize("victim", ["rank", "supervisor"])
@pytest.mark.parametrize("is_deaf", [False, True], ids=["", "deaf to SIGTERM"])
def test_recovery(tmp_path: Path, record: Record, nodes: int, per_node: int, victim: str, is_deaf: bool) -> None:
    program = PROGRAM.format(file=tmp_path / "times")
    command = ("sh", "-c", program if is_deaf else program.partition("; ")[2])
    run = LocalTraining(tmp_path, nodes, per_node, options=("--restarts", str(ROUNDS)), command=command).start()
    try:
        seconds = asyncio.run(all_rounds(run, victim))
    finally:
        assert run.process is not None
        run.process.kill()
        run.process.wait()
    bench = f"local recovery, {nodes} nodes of {per_node} ranks"
    name = f"{victim} killed to all ranks started" + (", others deaf to SIGTERM" if is_deaf else "")
    record(bench, f"{name}, median", median(seconds), "s", target=at_most(2), rounds=seconds)
    record(bench, f"{name}, slowest", max(seconds), "s", target=at_most(2))


async def all_rounds(run: LocalTraining, victim: str) -> list[float]:
    ranks = run.nodes * run.per_node
    await until_started(run, 1, ranks)
    seconds = []
    for epoch in range(1, ROUNDS + 1):
        status = await run.until(lambda status, epoch=epoch: status["epoch"] == epoch and status["phase"] == "Running")
        seat = status["seats"][f"s{epoch % run.nodes}"]
        pid = seat["pid"] if victim == "supervisor" else next(iter(seat["ranks"].values()))
        killed_at = time.time()  # noqa: TID251
        os.kill(pid, signal.SIGKILL)
        seconds.append(await until_started(run, epoch + 1, ranks) - killed_at)
    return seconds


async def until_started(run: LocalTraining, epoch: int, ranks: int) -> float:
    """When the last rank of an epoch started, seconds since 1970."""

    async def times() -> list[float]:
        assert (run.folder / "times").exists()
        lines = [line.split() for line in (run.folder / "times").read_text().splitlines()]
        found = [float(at) for one, at in lines if int(one) == epoch]
        assert len(found) == ranks
        return found

    return max(await eventually(times, timeout_seconds=60, what=f"all ranks of epoch {epoch}"))


def test_report(record: Record) -> None:
    folder = run_directory({})  # where supervisors keep progress files: in memory
    reporter = Reporter(str(folder / "progress"))
    begin = time.perf_counter()
    for step in range(REPORTS):
        reporter.tell({"step": step, "tokens": step, "loss": 1.0, "phase": "Training"})
    each = (time.perf_counter() - begin) / REPORTS
    shutil.rmtree(folder)
    record("client API", "one report", each * 1e6, "us", target=at_most(100))
