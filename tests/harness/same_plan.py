"""Plans in deterministic mode, each from a process of its own: they must be the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any


def plan_bytes(dump: dict[str, Any], folder: Path, *, units: float, runs: int, at_once: int) -> set[bytes]:
    """Distinct answers of `stowage plan --deterministic-budget`, without `seconds`.

    Args:
        dump: a Kubernetes List.
        folder: for the file.
        units: deterministic budget.
        runs: how many processes answer.
        at_once: how many of them at the same time: more than there are CPUs is a load that changes timing.
    """
    file = folder / "dump.json"
    file.write_text(json.dumps(dump))
    command = [sys.executable, "-m", "stowage.cli", "plan", "-f", str(file), "--seed", "7", "-o", "json"]
    command += ["--deterministic-budget", str(units)]

    def run(number: int) -> bytes:
        environment = {**os.environ, "PYTHONHASHSEED": str(number)}
        done = subprocess.run(command, capture_output=True, check=False, env=environment)
        if done.returncode not in {0, 1}:
            raise AssertionError(done.stderr.decode())
        kept = [line for line in done.stdout.splitlines() if not line.lstrip().startswith(b'"seconds":')]
        assert len(kept) == len(done.stdout.splitlines()) - 1, "the document has one line with seconds"
        return b"\n".join(kept)

    with ThreadPoolExecutor(at_once) as threads:
        return set(threads.map(run, range(runs)))
