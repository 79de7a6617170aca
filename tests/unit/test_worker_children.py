from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stowage_worker.children import Children
from stowage_worker.remains import group_lives, kill_marked, marked

PR_SET_CHILD_SUBREAPER = 36
ORPHANS = f"""
import asyncio, ctypes, os, pathlib
from stowage_worker.children import Children
assert ctypes.CDLL(None).prctl({PR_SET_CHILD_SUBREAPER}, 1, 0, 0, 0) == 0  # as PID 1 is

def children():
    return pathlib.Path(f"/proc/{{os.getpid()}}/task/{{os.getpid()}}/children").read_text().split()

async def main():
    found = Children()
    _, ended = found.start(["sh", "-c", "sleep 0.1 & sleep 0.2 & exit 3"])
    assert await ended == 3
    while children():
        await asyncio.sleep(0.01)

asyncio.run(asyncio.wait_for(main(), 30))
"""
linux = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux' /proc")


async def test_codes_and_signals() -> None:
    children = Children()
    ends = [children.start(["sh", "-c", line])[1] for line in ("exit 0", "exit 7", "kill -9 $$")]
    assert await asyncio.wait_for(asyncio.gather(*ends), 30) == [0, 7, -9]
    children.close()


async def test_what_cannot_be_started() -> None:
    children = Children()
    with pytest.raises(FileNotFoundError):
        children.start(["/no/such/program"])
    _, ended = children.start(["true"])
    assert await asyncio.wait_for(ended, 30) == 0
    children.close()


@linux
def test_orphans_are_reaped() -> None:
    subprocess.run([sys.executable, "-c", ORPHANS], check=True, timeout=60)


@linux
async def test_remains_are_found_by_mark_or_its_beginning() -> None:
    children = Children()
    started = {
        mark: children.start(["sleep", "1000"], env={**os.environ, "STOWAGE_TEST_MARK": mark})
        for mark in ("a.1", "a.2", "ab.1")
    }
    assert marked("STOWAGE_TEST_MARK", "a.1") == [started["a.1"][0]]
    assert marked("STOWAGE_TEST_MARK", "a") == []
    assert sorted(kill_marked("STOWAGE_TEST_MARK", "a.", is_prefix=True)) == sorted(
        started[mark][0] for mark in ("a.1", "a.2")
    )
    assert await asyncio.wait_for(started["a.2"][1], 30) == -9
    assert group_lives(started["ab.1"][0])
    assert not group_lives(started["a.2"][0])
    assert kill_marked("STOWAGE_TEST_MARK", "ab.1") == [started["ab.1"][0]]
    assert await asyncio.wait_for(started["ab.1"][1], 30) == -9
    children.close()
