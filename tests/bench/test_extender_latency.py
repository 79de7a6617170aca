"""How long kube-scheduler waits for the extender: over HTTP on loopback, with 1,000 node names.

The extender is a process of its own. CPU is what its thread took for a question, by the kernel's account: what else
runs on the machine must not decide.
"""

from __future__ import annotations

import contextlib
import http.client
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import quantiles

import msgspec
import pytest

from harness import extender_process
from harness.extender_process import CLASSES, NODES, SLOTS, pod_document
from harness.measurements import Record, at_most

REQUESTS = 2000
EVENTS_PER_SECOND = 500
P99_MILLISECONDS = 5.0

clock = time.perf_counter


def outsider(number: int) -> tuple[str, str]:
    return f"outsider-{number}", "outsider"


def planned(number: int) -> tuple[str, str]:
    return f"new-{number % SLOTS}", f"new-{number % CLASSES}"


@pytest.mark.parametrize("events_per_second", [0, EVENTS_PER_SECOND], ids=["quiet", "pod events"])
@pytest.mark.parametrize(
    ("case", "plan", "who"),
    [
        pytest.param("no plan", "none", outsider, id="no plan"),
        pytest.param("plan, outsider", "plan", outsider, id="plan, outsider"),
        pytest.param("plan, planned pod", "plan", planned, id="plan, planned pod"),
    ],
)
def test_filter_latency(
    record: Record, case: str, plan: str, who: Callable[[int], tuple[str, str]], events_per_second: int
) -> None:
    bodies = [
        msgspec.json.encode({"Pod": pod_document(*who(number)), "Nodes": None, "NodeNames": NODES})
        for number in range(SLOTS)
    ]
    wall, cpu = [], []
    with extender(plan, events_per_second) as (pid, port):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        for number in range(REQUESTS):
            busy, started = cpu_nanoseconds(pid), clock()
            connection.request("POST", "/filter", bodies[number % SLOTS], {"Content-Type": "application/json"})
            response = connection.getresponse()
            reply = response.read()
            wall.append((clock() - started) * 1e3)
            cpu.append((cpu_nanoseconds(pid) - busy) / 1e6)
            assert response.status == 200, reply
        connection.close()
    wall_percentiles, cpu_percentiles = (quantiles(taken[REQUESTS // 10 :], n=100) for taken in (wall, cpu))
    load = f", {events_per_second} pod events/s" if events_per_second else ""
    bench = f"extender filter, {len(NODES):,} names{load}"
    target = None if events_per_second else at_most(P99_MILLISECONDS)
    record(bench, f"{case}, p50", wall_percentiles[49], "ms")
    record(bench, f"{case}, p99", wall_percentiles[98], "ms", target=target, requestBytes=len(bodies[0]))
    record(bench, f"{case}, CPU p50", cpu_percentiles[49], "ms")
    record(bench, f"{case}, CPU p99", cpu_percentiles[98], "ms", target=at_most(P99_MILLISECONDS))
    assert cpu_percentiles[98] < P99_MILLISECONDS


@contextlib.contextmanager
def extender(plan: str, events_per_second: int) -> Iterator[tuple[int, int]]:
    """An extender with a full table; its process id and port."""
    command = [sys.executable, extender_process.__file__, plan, str(events_per_second)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.pid, int(process.stdout.readline())
        finally:
            process.terminate()


def cpu_nanoseconds(pid: int) -> int:
    """What the first thread of a process has used; its loop is the only one that works."""
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split(maxsplit=1)[0])
