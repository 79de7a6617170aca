"""A supervisor as a real process, against a coordinator that a test plays."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import stowage_worker
from harness.waiting import PATIENCE_SECONDS, eventually
from stowage_worker.codec import FROM_SUPERVISOR, FromSupervisor, ToSupervisor
from stowage_worker.messages import Beat, Go, Hello, Prepare, Prepared, Started, Welcome
from stowage_worker.wire import Connection

M = TypeVar("M", bound=FromSupervisor)
SECONDS = PATIENCE_SECONDS
SLEEPER = "import time; time.sleep(1000)"


class PlayedCoordinator:
    """Says what the test wants; hears everything but beats."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        self.connection: Connection | None = None
        self._connected: asyncio.Queue[Connection] = asyncio.Queue()
        self._taken: list[Connection] = []
        self._server: asyncio.Server | None = None
        self.port = 0

    async def serve(self) -> None:
        def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._taken.append(Connection(reader, writer))
            self._connected.put_nowait(self._taken[-1])

        self._server = await asyncio.start_server(take, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop_serving(self) -> None:
        assert self._server is not None
        self._server.close()
        for connection in self._taken:
            connection.abort()
            await connection.wait_closed()
        self._taken.clear()

    def start(self, program: str, /, *, through: tuple[str, ...] = (), **environment: str) -> None:
        """Start the supervisor of a Python program, `through` another command that runs it in its place."""
        source = str(Path(stowage_worker.__file__).parent.parent)
        output = (self.folder / "output").open("ab")
        self.process = subprocess.Popen(
            [*through, sys.executable, "-m", "stowage_worker", "run", "--", sys.executable, "-c", program],
            env={
                **os.environ,
                "PYTHONPATH": source,
                "STOWAGE_COORDINATOR": f"127.0.0.1:{self.port}",
                "STOWAGE_TOKEN": "hush",
                "STOWAGE_SEAT": "s0",
                "STOWAGE_RUN_DIR": str(self.folder / "run"),
                "STOWAGE_GRACE_SECONDS": "1",
                "FOLDER": str(self.folder),
                **environment,
            },
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        output.close()

    async def hello(self) -> Hello:
        self.connection = await asyncio.wait_for(self._connected.get(), SECONDS)
        return await self.hear(Hello)

    async def hear(self, kind: type[M]) -> M:
        """The next message that is no beat, and has to be of this kind."""
        assert self.connection is not None
        while True:
            message = await asyncio.wait_for(self.connection.receive(FROM_SUPERVISOR), SECONDS)
            if not isinstance(message, Beat):
                assert isinstance(message, kind), message
                return message

    async def beat(self, condition: Callable[[Beat], bool]) -> Beat:
        assert self.connection is not None
        while True:
            message = await asyncio.wait_for(self.connection.receive(FROM_SUPERVISOR), SECONDS)
            if isinstance(message, Beat) and condition(message):
                return message

    def say(self, message: ToSupervisor) -> None:
        assert self.connection is not None
        self.connection.send(message)

    async def run(self, epoch: int = 1, processes: int = 2) -> Started:
        """Welcome, prepare, go."""
        self.say(Welcome("j", (("oops", "oops"),)))
        self.say(Prepare(epoch, epoch, 1.0))
        prepared = await self.hear(Prepared)
        assert prepared.epoch == epoch
        self.say(Go(epoch, epoch, 0, 1, processes, "127.0.0.1", prepared.port))
        return await self.hear(Started)

    def wait(self) -> int:
        assert self.process is not None
        return self.process.wait(SECONDS)

    async def until_there(self, name: str) -> str:
        async def there() -> bool:
            return (self.folder / name).exists()

        await eventually(there, what=name)
        return (self.folder / name).read_text()


@contextlib.asynccontextmanager
async def played(folder: Path) -> AsyncIterator[PlayedCoordinator]:
    """One that serves, and whose supervisor is killed at the end."""
    coordinator = PlayedCoordinator(folder)
    await coordinator.serve()
    try:
        yield coordinator
    finally:
        if coordinator.process is not None:
            coordinator.process.kill()
            coordinator.process.wait()
        await coordinator.stop_serving()


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


async def until_gone(*pids: int) -> None:
    async def gone() -> bool:
        return all(is_gone(pid) for pid in pids)

    await eventually(gone, what=f"{pids} are gone")
