"""A packing in a process of its own, for its peak memory: `python -m harness.packing_process DUMP BUDGET PLAN`.

Reads a dump, packs it with a budget as in `harness.grid_runs`, writes the plan's document to PLAN, and prints one line
of JSON with what the packing came to.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from harness.grid_runs import SEED, budget
from stowage.cli.plan import document
from stowage_scheduler.kube.dump import read_dump
from stowage_scheduler.options import PackOptions
from stowage_scheduler.pack import pack

clock = time.perf_counter


def packed(dump: dict[str, Any], budget_text: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The figures of a packing and its plan, from a process of its own."""
    files = folder / "dump.json", folder / "plan.json"
    files[0].write_text(json.dumps(dump))
    tests = str(Path(__file__).parents[1])
    command = [sys.executable, "-m", "harness.packing_process", str(files[0]), budget_text, str(files[1])]
    path = os.pathsep.join(filter(None, (tests, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "PYTHONPATH": path}
    )
    return json.loads(done.stdout), json.loads(files[1].read_text())


def main(dump: str, budget_text: str, plan: str) -> None:
    """Pack a dump and tell."""
    began = clock()
    snapshot = read_dump(Path(dump).read_bytes()).snapshot
    read_seconds = clock() - began
    before_megabytes = peak_megabytes()
    packing = pack(snapshot, PackOptions(), budget(budget_text), SEED, clock)
    figures = {
        "readSeconds": read_seconds,
        "seconds": packing.seconds,
        "stages": dict(packing.stages),
        "beforeMegabytes": before_megabytes,
        "peakMegabytes": peak_megabytes(),
        "faults": list(packing.faults),
        "load": os.getloadavg()[0],
    }
    Path(plan).write_text(json.dumps(document(packing)))
    print(json.dumps(figures))


def peak_megabytes() -> float:
    """Most memory that this process had, in units of 10⁶ bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    main(*sys.argv[1:])
