"""A coordinator as a real process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator

SECONDS = 20.0
SCRIPT = "import sys; from stowage_worker.coordinator_command import main; sys.exit(main(sys.argv[1:]))"


@contextlib.asynccontextmanager
async def coordinator_process(
    *arguments: str, stderr: int | None = None
) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """The process and its port; it is killed at the end."""
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SCRIPT, *arguments, stdout=asyncio.subprocess.PIPE, stderr=stderr, env={**os.environ}
    )
    try:
        assert running.stdout is not None
        async with asyncio.timeout(SECONDS):
            line = await running.stdout.readline()
            yield running, int(line.rpartition(b":")[2])
    finally:
        with contextlib.suppress(ProcessLookupError):
            running.kill()
        await running.wait()
