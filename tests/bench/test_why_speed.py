"""How long `stowage why` takes on a dump of 1,000 nodes and 8,000 pods, as a user calls it, and where the time goes.

The whole process: Python, imports, the dump, the answer. CPU seconds are told beside wall seconds, for whoever else
works on the machine does not count in them.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from harness.instances import dump
from harness.measurements import Record, at_most
from harness.scale_instances import instance

NODES = 1_000
ROUNDS = 3
TARGET_SECONDS = 2.0
Document = dict[str, Any]

clock = time.perf_counter


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A full cluster with pods that wait for different reasons."""
    document = dump(instance(NODES, 100, 1, running=True))
    waits = next(item for item in document["items"] if item["kind"] == "Pod" and "nodeName" not in item["spec"])
    add = document["items"].append
    add(asking(waits, "moves-help", {"cpu": "2700m"}))
    add(asking(waits, "nothing-helps", {"cpu": "4300m"}))
    add(asking(waits, "lost", {"cpu": "100m"}, nodeSelector={"disk": "ssd"}))
    for number in range(8):
        member = asking(waits, f"ring-{number}", {"cpu": "3"}, schedulingGates=[{"name": "stowage.dev/gang"}])
        member["metadata"]["labels"] |= {"stowage.dev/gang": "ring", "stowage.dev/gang-size": "8"}
        add(member)
    file = tmp_path_factory.mktemp("why") / "dump.json"
    file.write_text(json.dumps(document))
    return file


def asking(like: Document, name: str, requests: dict[str, str], **spec: Any) -> Document:
    pod = deepcopy(like)
    pod["metadata"] |= {"name": name, "uid": f"uid-{name}"}
    pod["spec"] |= spec
    pod["spec"]["containers"][0]["resources"]["requests"] = {"memory": "100Mi", **requests}
    return pod


@pytest.mark.parametrize(
    ("name", "state"),
    [("moves-help", "Placeable"), ("nothing-helps", "Pending"), ("lost", "Pending"), ("ring-3", "Pending")],
)
def test_why_in_a_large_cluster(file: Path, record: Record, name: str, state: str) -> None:
    command = [sys.executable, "-m", "stowage.cli", "why", f"pod/{name}", "-n", "paper", "-f", str(file), "-o", "json"]
    wall: list[float] = []
    cpu: list[float] = []
    answer: Document = {}
    for _ in range(ROUNDS):
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), clock()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wall.append(clock() - started)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
        answer = json.loads(done.stdout)
    bench = "stowage why, 1,000 nodes and 8,000 pods"
    record(bench, f"{name}: wall", min(wall), "s", target=at_most(TARGET_SECONDS), nodes=NODES)
    record(bench, f"{name}: CPU", min(cpu), "s", target=at_most(TARGET_SECONDS), rules=len(answer["conflict"]))
    assert answer["state"] == state
