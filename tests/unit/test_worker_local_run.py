from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from stowage_worker import local_run
from stowage_worker.children import Children, cancel
from stowage_worker.local_processes import LocalJob, LocalProcesses
from stowage_worker.local_run import LocalRun, Wishes
from stowage_worker.messages import Report
from stowage_worker.wire import Connection


@pytest.mark.parametrize("is_stopped", [True, False], ids=["stopped from the first", "with nothing to tell"])
async def test_a_coordinator_that_answers_nobody_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_stopped: bool
) -> None:
    monkeypatch.setattr(local_run, "SILENT_SECONDS", 0.1)
    attached = 0
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal attached
        attached += 1
        if not is_stopped:
            Connection(reader, writer).send(Report(0, 0, "Waiting"))
        if attached == 3:
            done.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    (tmp_path / "token").write_text("hush")
    port = server.sockets[0].getsockname()[1]
    job = LocalJob((), 1, "Plain", tmp_path, tmp_path, tmp_path / "token", "run", port)
    children = Children()
    processes = LocalProcesses(job, children)
    killed = 0

    def kill() -> None:
        nonlocal killed
        killed += 1

    monkeypatch.setattr(processes, "kill_coordinator", kill)
    run = LocalRun(job, Wishes(1, 1, 0, None, None), processes, random.Random(1))
    talk = asyncio.ensure_future(run._stay_connected())
    async with asyncio.timeout(20):
        await done.wait()
    await cancel([talk])
    children.close()
    server.close()
    assert (killed > 0) == is_stopped
