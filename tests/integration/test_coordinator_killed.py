"""The coordinator is killed in each state of an epoch: the epoch goes on, and no training process is started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import stowage_worker
from harness.fake_supervisors import TOKEN, FakeCommander
from harness.oldest_python import PYTHON39
from harness.waiting import PATIENCE_SECONDS, eventually
from stowage_worker.children import Children
from stowage_worker.local_processes import LocalJob, LocalProcesses
from stowage_worker.messages import Begin, End, Report
from stowage_worker.ports import take_port

SEATS = ("s0", "s1")
PROGRAM = (
    'echo "$STOWAGE_EPOCH $STOWAGE_RANK" >> {0}/started\n'
    "while ! [ -s {0}/end-$STOWAGE_EPOCH-$STOWAGE_RANK ]; do sleep 0.02; done\n"
    "exit $(cat {0}/end-$STOWAGE_EPOCH-$STOWAGE_RANK)"
)


class Job:
    """Real coordinator and supervisors, and the test as who commands."""

    def __init__(self, folder: Path, port: int) -> None:
        (folder / "token").write_text(TOKEN)
        job = LocalJob(
            ("sh", "-c", PROGRAM.format(folder)), 1, "Plain", folder, folder, folder / "token", "run", port
        )  # fmt: skip
        self.folder = folder
        self.processes = LocalProcesses(job, Children())
        self.begin = Begin(1, 1, SEATS, 1, grace_seconds=0.1, start_seconds=PATIENCE_SECONDS)
        self._port = port
        self._commander: FakeCommander | None = None

    async def attach(self) -> None:
        async def attached() -> bool:
            with contextlib.suppress(OSError):
                self._commander = await FakeCommander.attach(self._port)
                return True
            return False

        self.leave()
        await eventually(attached, what="the coordinator listens")
        self.say(self.begin)

    def leave(self) -> None:
        if self._commander is not None:
            self._commander.connection.abort()

    def say(self, message: Begin | End) -> None:
        assert self._commander is not None
        self._commander.say(message)

    async def until(self, phase: str, states: tuple[str, ...] | None = None) -> Report:
        """A report of the epoch with this phase, in which the seats are so far."""
        assert self._commander is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                report = await self._commander.report(self.begin.epoch, phase)
                if states is None or tuple(sorted(one.state for one in report.seats)) == states:
                    return report

    async def kill_coordinator(self) -> None:
        """And command the next one as before."""
        killed = self.processes.coordinator
        assert killed is not None
        os.kill(killed, signal.SIGKILL)

        async def another() -> bool:
            return self.processes.coordinator not in (killed, None)

        await eventually(another, what="another coordinator")
        await self.attach()

    def let_end(self, rank: int, code: int) -> None:
        (self.folder / f"end-{self.begin.epoch}-{rank}").write_text(str(code))

    async def started(self, count: int) -> list[str]:
        async def there() -> list[str]:
            lines = (self.folder / "started").read_text().splitlines()
            assert len(lines) >= count
            return lines

        found = await eventually(there, what="ranks are started")
        assert found is not None
        return sorted(found)


@contextlib.asynccontextmanager
async def job_in(folder: Path) -> AsyncIterator[Job]:
    port = take_port(random.Random())
    job = Job(folder, port.number)
    job.processes.start_coordinator()
    job.processes.start_supervisor("s0")
    try:
        await job.attach()
        yield job
    finally:
        job.leave()
        await job.processes.end(5.0, told=())
        job.processes._children.close()
        port.release()


@pytest.mark.parametrize("state", ["Preparing", "Running", "Failed", "Finishing", "ended", "ended, Python 3.9"])
async def test_the_epoch_goes_on(tmp_path: Path, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if state.endswith("3.9"):
        if PYTHON39 is None:
            pytest.skip("no python3.9 on PATH, nor named by STOWAGE_PYTHON39")
        monkeypatch.setattr(sys, "executable", PYTHON39)
        monkeypatch.setenv("PYTHONPATH", str(Path(stowage_worker.__file__).parent.parent))
    async with job_in(tmp_path) as job:
        await job.until("Preparing", ("Prepared",))
        if state == "Preparing":
            await job.kill_coordinator()
            await job.until("Preparing", ("Prepared",))
        job.processes.start_supervisor("s1")
        report = await job.until("Running")
        assert await job.started(2) == ["1 0", "1 1"]
        if state == "Running":
            await job.kill_coordinator()
            report = await job.until("Running", ("Running", "Running"))
        assert report.evidence == ()
        if state == "Failed":
            job.let_end(1, 3)
            first = await job.until("Failed")
            await job.kill_coordinator()
            again = await job.until("Failed")
            assert [(one.event, one.rank, one.code) for one in again.evidence] == [("ProcessExited", 1, 3)]
            assert [(one.event, one.rank, one.code) for one in first.evidence] == [("ProcessExited", 1, 3)]
            job.begin = Begin(2, 2, SEATS, 1, grace_seconds=0.1, start_seconds=PATIENCE_SECONDS)
            job.say(job.begin)
            await job.until("Running")
        job.let_end(0, 0)
        if state == "Finishing":
            await job.until("Running", ("Finished", "Running"))
            await job.kill_coordinator()
            await job.until("Running", ("Finished", "Running"))
        job.let_end(1, 0)
        report = await job.until("Finished")
        assert report.evidence == ()
        job.say(End(0, 0.1))
        if state.startswith("ended"):
            await job.kill_coordinator()
            job.say(End(0, 0.1))

        async def ended() -> bool:
            return not job.processes.supervisors

        await eventually(ended, what="all supervisors end")
        each = ["1 0", "1 1", "2 0", "2 1"] if state == "Failed" else ["1 0", "1 1"]
        assert await job.started(len(each)) == each
