"""What 1,000 supervisors with 8 ranks each cost one coordinator: real sockets on loopback, the coordinator a process.

The supervisors live in this process and share the machine's processors with it, so times hold what they cost too.
CPU and memory are the coordinator's own, by the kernel's account.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median

from harness.fake_supervisors import LOOPBACK, TOKEN, FakeCommander, FakeSupervisor
from harness.measurements import Record
from harness.process_figures import ProcessFigures
from stowage_worker.messages import Begin, End, Exited, Go, HangRule, RankProgress, Report

SUPERVISORS = 1000
RANKS = 8
BEATS_SECONDS = 15.0
EPOCHS = 5
SEATS = tuple(f"s{number}" for number in range(SUPERVISORS))
WORLD = {"layout": {"data": SUPERVISORS * RANKS, "tensor": 1}, "batch": {"global": 8192}, "seats": list(SEATS)}
COMMAND = "import sys; from stowage_worker.coordinator_command import main; sys.exit(main(sys.argv[1:]))"


clock = time.perf_counter
FIRST = int(clock() * 2) - 1


async def test_a_thousand_supervisors(record: Record, tmp_path: Path) -> None:
    bench = f"coordinator, {SUPERVISORS:,} supervisors, {RANKS} ranks each"
    (tmp_path / "token").write_text(TOKEN, encoding="utf-8")
    supervisors = [FakeSupervisor(seat, processes=RANKS, beat_seconds=1.0) for seat in SEATS]
    async with coordinator(tmp_path / "token") as (pid, port):
        record(bench, "memory, nobody there", ProcessFigures.of(pid).resident_mb, "MB")
        commander = await FakeCommander.attach(port)
        started = clock()
        await asyncio.gather(*(one.join(port) for one in supervisors))
        while len((await commander.next()).seats) < SUPERVISORS:
            pass
        record(bench, "all connect until reported", clock() - started, "s")

        changes, change_cpu, told_after = [], [], []
        for epoch in range(1, EPOCHS + 1):
            cpu, started = ProcessFigures.of(pid).cpu_seconds, clock()
            commander.say(Begin(epoch, epoch, SEATS, RANKS, world=WORLD, hang=HangRule()))
            await commander.report(epoch, "Running")
            changes.append(clock() - started)
            change_cpu.append(ProcessFigures.of(pid).cpu_seconds - cpu)
            if epoch == EPOCHS:
                break
            await steps(supervisors, 2.0)
            victim = supervisors[epoch * 7]
            started = clock()
            victim.say(Exited(epoch, 0, 0, code=1, error_type="ValueError", error_message="x" * 200))
            report = await commander.report(epoch, "Failed")
            told_after.append(clock() - started)
            assert [one.seat for one in report.evidence] == [victim.seat]
        assert all([go.epoch for go in one.told(Go)] == list(range(1, EPOCHS + 1)) for one in supervisors)
        record(bench, "an epoch's change, Begin to Running, median", median(changes), "s", all=changes)
        record(bench, "an epoch's change, CPU, median", median(change_cpu), "s", all=change_cpu)
        record(bench, "Exited to report, median", median(told_after) * 1e3, "ms", all=told_after)
        record(bench, "Exited to report, longest", max(told_after) * 1e3, "ms")

        reading = asyncio.ensure_future(read_reports(commander))
        await steps(supervisors, 3.0)
        cpu, started = ProcessFigures.of(pid).cpu_seconds, clock()
        await steps(supervisors, BEATS_SECONDS)
        busy = (ProcessFigures.of(pid).cpu_seconds - cpu) / (clock() - started)
        figures = ProcessFigures.of(pid)
        record(bench, "beats each second, CPU of one processor", busy * 100, "%")
        record(bench, "a beat with its share of reports and ticks", busy / SUPERVISORS * 1e6, "µs")
        record(bench, "memory", figures.resident_mb, "MB")
        record(bench, "memory, most", figures.peak_mb, "MB")
        commander.say(End(0, grace_seconds=5.0))
        reports = await reading
        assert reports[-1].evidence == ()
        assert reports[-1].progress.step > 0
        commander.connection.close()
        await commander.connection.wait_closed()
        for one in supervisors:
            await one.leave()


async def steps(supervisors: list[FakeSupervisor], seconds: float) -> None:
    """Ranks train on for so long, two steps a second."""
    until = clock() + seconds
    while clock() < until:
        step = int(clock() * 2) - FIRST
        for number, one in enumerate(supervisors):
            one.progress = tuple(
                RankProgress(number * RANKS + local, step, step * 4096, 0.5, "Training", 0.5, 0.01, 0.1)
                for local in range(RANKS)
            )
        await asyncio.sleep(0.5)


async def read_reports(commander: FakeCommander) -> list[Report]:
    """The last reports until the coordinator ends."""
    with contextlib.suppress(AssertionError):
        while True:
            await commander.next()
            del commander.reports[:-10]
    return list(commander.reports)


@contextlib.asynccontextmanager
async def coordinator(token_file: Path) -> AsyncIterator[tuple[int, int]]:
    arguments = ("--listen", f"{LOOPBACK}:0", "--token-file", str(token_file))
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-c", COMMAND, *arguments, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert running.stdout is not None
        line = await running.stdout.readline()
        yield running.pid, int(line.rpartition(b":")[2])
    finally:
        with contextlib.suppress(ProcessLookupError):
            running.kill()
        await running.wait()
