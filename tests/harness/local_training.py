"""Local runs of the toy training: started, watched through their status files, and looked after for leftovers."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.waiting import eventually

TOY = Path(__file__).with_name("toy_training.py")
TIMEOUT_SECONDS = 120
_started: list[subprocess.Popen[bytes]] = []


@atexit.register
def end_runs() -> None:
    """End the runs that tests have left behind, as those that fail do."""
    while _started:
        process = _started.pop()
        process.kill()
        process.wait()


@dataclass
class LocalTraining:
    """One run; `folder` gets its status, history and output."""

    folder: Path
    nodes: int = 2
    per_node: int = 2
    steps: int = 60
    options: tuple[str, ...] = ()
    toy: tuple[str, ...] = ()
    python: str = sys.executable
    environment: dict[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    timeout_seconds: float = TIMEOUT_SECONDS
    process: subprocess.Popen[bytes] | None = None

    def start(self, writes: int | None = None) -> LocalTraining:
        self.folder.mkdir(parents=True, exist_ok=True)
        toy = (self.python, str(TOY), str(self.folder / "history.json"), str(self.steps), *self.toy)
        local = ["local", "--nodes", str(self.nodes), "--processes-per-node", str(self.per_node)]
        status = ["--status-file", str(self.folder / "status.json")]
        command = [self.python, "-m", "stowage_worker", *local, *status, *self.options, "--", *(self.command or toy)]
        with (self.folder / "output").open("wb") as output:
            self.process = subprocess.Popen(
                command,
                stdout=output if writes is None else writes,
                stderr=subprocess.STDOUT,
                env={**os.environ, "STOWAGE_TEST_RUN": str(self.folder), **self.environment},
            )
        _started.append(self.process)
        return self

    def go(self) -> None:
        """Let a run that is held do its last step."""
        (self.folder / "go").touch()

    def wait(self) -> int:
        assert self.process is not None
        return self.process.wait(self.timeout_seconds)

    def run(self) -> int:
        return self.start().wait()

    def status(self) -> dict[str, Any]:
        try:
            document = json.loads((self.folder / "status.json").read_text())
        except FileNotFoundError:
            return {}
        assert isinstance(document, dict)
        return document

    def history(self) -> list[Any]:
        history = json.loads((self.folder / "history.json").read_text())
        assert isinstance(history, list)
        return history

    def output(self) -> str:
        return (self.folder / "output").read_text()

    def started(self) -> dict[int, list[int]]:
        """Ranks that were started, by epoch."""
        found: dict[int, list[int]] = {}
        for line in (self.folder / "started").read_text().splitlines():
            epoch, rank, *_ = map(int, line.split())
            found.setdefault(epoch, []).append(rank)
        return {epoch: sorted(ranks) for epoch, ranks in found.items()}

    def rank_pid(self, rank: int) -> int:
        ranks = {int(name): pid for seat in self.status()["seats"].values() for name, pid in seat["ranks"].items()}
        return int(ranks[rank])

    async def until(self, condition: Callable[[dict[str, Any]], bool], what: str = "") -> dict[str, Any]:
        """The first status of which the condition is true.

        Raises:
            AssertionError: it never is, with what the run printed.
        """

        async def holds() -> dict[str, Any] | None:
            status = self.status()
            if status and condition(status):
                return status
            assert self.process is not None
            if self.process.poll() is not None and not condition(self.status()):
                raise RuntimeError(f"{what}: the run ended before\n{self.output()[-3000:]}")
            return None

        found = await eventually(holds, timeout_seconds=self.timeout_seconds / 2, what=what or "the status")
        assert found is not None
        return found

    def left(self) -> list[int]:
        """Processes of this run that still are there."""
        needle = f"\0STOWAGE_TEST_RUN={self.folder}\0".encode()
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and needle in b"\0" + (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
        return found


def undisturbed(steps: int) -> list[Any]:
    """The history that every run has to have, computed in the plainest way."""
    weight, history = 0.0, []
    for step in range(steps):
        samples = range(step * 12, (step + 1) * 12)
        total = 0.0
        for sample in samples:
            feature = (sample * 37 % 101) / 101 + 0.1
            total += feature * (feature * weight - 3.0 * feature)
        weight -= 0.05 * total / 12
        history.append([step, [samples[0], samples[-1]], total * total])
    return history
