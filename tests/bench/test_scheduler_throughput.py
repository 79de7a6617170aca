"""What the extender costs an unmodified kube-scheduler: pods bound per second, alone and with the extender.

A real etcd and API server, 1,000 nodes; each round starts a fresh kube-scheduler, in turn for each case, with the same
qps, burst and percentageOfNodesToScore. It does not lead yet: pods are written while it waits, so that writing them is
no part of what is measured, and none is placed before the first look. All processes share the machine, as they would
share the processors of a control plane. What counts is the ratio to the round of the scheduler alone beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import pytest
import yaml

from harness.large_cluster import BareCluster, bare_cluster
from harness.large_objects import Document, LargeCluster
from harness.measurements import Record, at_least
from harness.process_figures import ProcessFigures
from harness.waiting import eventually
from stowage.api.packing_plan import Approval, PackingPlan, PackingPlanSpec, PlanSlot
from stowage.api.resource import Metadata
from stowage.demo.processes import ManagedProcess, free_port
from stowage.demo.second_scheduler import (
    LEASE_NAME,
    SCHEDULER_ENVIRONMENT,
    SCHEDULER_NAME,
    scheduler_configuration,
)
from stowage.transport import paths
from stowage.transport.api import Api
from stowage_scheduler.slots import Slot, SlotClass

NODES = 1_000
PODS = 600
ROUNDS = 5
SLOTS = 64
QPS = 5_000
POLL_SECONDS = 0.2
RETRY_SECONDS = 0.2  # how soon the scheduler sees that it may lead
LONGEST_SECONDS = 300
LEASE = ("kube-system", LEASE_NAME)
OBJECTS = LargeCluster(nodes=NODES, pods=PODS, pending=PODS)
FLOOR = """
import sys
from aiohttp import web
async def answer(request):
    body = await request.json()
    return web.json_response({"NodeNames": body["NodeNames"], "FailedNodes": {}, "Error": ""})
app = web.Application(client_max_size=2**26)
app.add_routes([web.post("/filter", answer)])
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
"""

clock = time.perf_counter
Configuration = dict[str, Any]


def alone(configuration: Configuration) -> None:
    configuration.pop("extenders")


def asked_for_gpus_only(configuration: Configuration) -> None:
    configuration["extenders"][0]["managedResources"] = [{"name": "nvidia.com/gpu"}]


def as_it_is(_: Configuration) -> None:
    """The configuration of the product."""


@dataclass(frozen=True)
class Case:
    """How the scheduler is configured, who answers it (nobody, `extender` or `floor`), and its environment."""

    change: Callable[[Configuration], None]
    extender: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


CASES = {
    "alone": Case(alone),
    "idle extender": Case(as_it_is, "extender", SCHEDULER_ENVIRONMENT),
    "running plan": Case(as_it_is, "extender", SCHEDULER_ENVIRONMENT),
    "managedResources, pods without": Case(asked_for_gpus_only, "extender", SCHEDULER_ENVIRONMENT),
    "extender of ten lines": Case(as_it_is, "floor", SCHEDULER_ENVIRONMENT),
    # with one environment for both: what the extender costs, apart from what it is given
    "alone, same environment": Case(alone, environment=SCHEDULER_ENVIRONMENT),
    "idle extender, default environment": Case(as_it_is, "extender"),
}


@pytest.fixture(scope="module")
def bare() -> Iterator[BareCluster]:
    """A control plane with nodes and nothing else."""
    with bare_cluster() as found:
        asyncio.run(found.load(chain(OBJECTS.workload_documents(), OBJECTS.node_documents())))
        yield found


def pod(number: int) -> Document:
    """A pod that no scheduler has looked at yet, without GPUs."""
    document = OBJECTS.pod(number)
    document["status"] = {"phase": "Pending", "qosClass": "Guaranteed"}
    resources = document["spec"]["containers"][0]["resources"]
    for kind in resources:
        resources[kind] = {name: amount for name, amount in resources[kind].items() if "/" not in name}
    return document


@dataclass(frozen=True)
class Round:
    """What one round measured; CPU is in milliseconds for each pod."""

    pods_per_second: float
    cpu: dict[str, float]  # of extender, scheduler, kube-apiserver and etcd
    scheduler_mb: float  # its memory at the end

    @property
    def cpu_of_all(self) -> float:
        """Of all four processes."""
        return sum(self.cpu.values())


def test_throughput(bare: BareCluster, record: Record, tmp_path: Path) -> None:
    one_round(bare, tmp_path / "warm-up", "alone")
    rounds: dict[str, list[Round]] = {case: [] for case in CASES}
    for number in range(ROUNDS):
        for case in reversed(CASES) if number % 2 else CASES:  # a slow minute shall not always meet the same case
            rounds[case].append(one_round(bare, tmp_path / f"{number}", case))
    bench = f"kube-scheduler, {NODES:,} nodes"
    for case, taken in rounds.items():
        rates = [one.pods_per_second for one in taken]
        record(bench, case, median(rates), "pods/s", rounds=rates)
        record(bench, f"{case}: memory of scheduler", median(one.scheduler_mb for one in taken), "MB")
        for part in taken[0].cpu:
            record(bench, f"{case}: CPU of {part}", median(one.cpu[part] for one in taken), "ms/pod")
    ratios = {}
    for case, taken in list(rounds.items())[1:]:
        pairs = list(zip(taken, rounds["alone"], strict=True))
        ratio = [one.pods_per_second / base.pods_per_second for one, base in pairs]
        of_cpu = [base.cpu_of_all / one.cpu_of_all for one, base in pairs]
        target = at_least(70) if case == "idle extender" else None
        record(bench, f"{case} / alone", median(ratio) * 100, "%", target=target, rounds=ratio)
        record(bench, f"alone / {case}, by CPU", median(of_cpu) * 100, "%", rounds=of_cpu)
        ratios[case] = median(of_cpu)
    assert ratios["idle extender"] > 0.5  # CPU, and far below: a busy machine fails nobody


def one_round(bare: BareCluster, folder: Path, case: str) -> Round:
    """Schedule all pods once."""
    extender = CASES[case].extender
    folder.mkdir(exist_ok=True)
    asyncio.run(clean(bare))
    port = free_port()
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(start_extender(bare, folder, extender, port)) if extender else None
        if case == "running plan":
            asyncio.run(reserve(bare))
        scheduler, metrics_port = stack.enter_context(start_scheduler(bare, folder, CASES[case], port))
        parts = {"scheduler": scheduler.pid, **{part: bare.pid(part) for part in ("kube-apiserver", "etcd")}}
        if process:
            parts["extender"] = process.pid
        before = {part: cpu_milliseconds(pid) for part, pid in parts.items()}
        rate = asyncio.run(schedule(bare, metrics_port))
        cpu = {part: (cpu_milliseconds(pid) - before[part]) / PODS for part, pid in parts.items()}
        return Round(rate, cpu, ProcessFigures.of(scheduler.pid).resident_mb)


def cpu_milliseconds(pid: int) -> float:
    return ProcessFigures.of(pid).cpu_seconds * 1e3


@contextlib.contextmanager
def start_extender(bare: BareCluster, folder: Path, kind: str, port: int) -> Iterator[ManagedProcess]:
    """`stowage extender`, or the shortest one that aiohttp allows."""
    metrics_port = free_port()
    command: list[str | Path] = [sys.executable, "-c", FLOOR, str(port)]
    ready = f"http://127.0.0.1:{port}/healthz"
    if kind == "extender":
        command = [sys.executable, "-m", "stowage.cli", "extender", "--port", str(port)]
        command += ["--metrics-port", str(metrics_port)]
        ready = f"http://127.0.0.1:{metrics_port}/readyz"
    environment = bare.cluster.environment
    name = f"{kind}-{port}"
    with ManagedProcess.start(name, command, folder=bare.cluster.folder, logs=folder, environment=environment) as one:
        if kind == "extender":
            one.wait_until_serving(ready)
        else:
            asyncio.run(until_listening(port))
        yield one


async def until_listening(port: int) -> None:
    async def listening() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    await eventually(listening, what="the short extender listens")


@contextlib.contextmanager
def start_scheduler(
    bare: BareCluster, folder: Path, case: Case, extender_port: int
) -> Iterator[tuple[ManagedProcess, int]]:
    """kube-scheduler with the product's configuration, changed a little; yields it and its port for metrics."""
    configuration = scheduler_configuration(bare.cluster.kubeconfig, extender_port)
    configuration["leaderElection"] |= {
        "leaseDuration": f"{LONGEST_SECONDS}s",
        "renewDeadline": f"{LONGEST_SECONDS / 2}s",
        "retryPeriod": f"{RETRY_SECONDS}s",
    }
    # so that no case reaches the bound of the client, which would make all of them look alike
    configuration["clientConnection"] |= {"qps": QPS, "burst": 2 * QPS}
    case.change(configuration)
    file = folder / f"scheduler-{extender_port}.yaml"
    file.write_text(yaml.safe_dump(configuration, sort_keys=False), encoding="utf-8")
    port = free_port()
    kubeconfig = bare.cluster.kubeconfig
    command: list[str | Path] = [
        *(bare.cluster.programs / "kube-scheduler", "--config", file),
        *("--bind-address", "127.0.0.1", "--secure-port", str(port)),
        *("--authentication-kubeconfig", kubeconfig, "--authorization-kubeconfig", kubeconfig),
        *("--authorization-always-allow-paths", "/healthz,/readyz,/livez,/metrics"),
    ]
    name = f"scheduler-{extender_port}"
    with ManagedProcess.start(
        name, command, folder=bare.cluster.folder, logs=folder, environment=case.environment
    ) as process:
        process.wait_until_serving(f"https://127.0.0.1:{port}/readyz")
        yield process, port


async def schedule(bare: BareCluster, port: int) -> float:
    """Write all pods, let the scheduler lead until they are placed; pods per second from first to last tenth."""
    seen: list[tuple[float, float]] = []
    async with aiohttp.ClientSession() as session, connection(bare) as api:
        await bare.load((pod(number) for number in range(PODS)), watched=True)
        assert await scheduled(session, port) == 0
        await api.merge_patch(paths.lease(*LEASE), {"spec": {"holderIdentity": ""}})
        deadline = clock() + LONGEST_SECONDS
        while not seen or seen[-1][1] < PODS:
            seen.append((clock(), await scheduled(session, port)))
            assert clock() < deadline, f"{seen[-1][1]:g} of {PODS} pods are bound"
            await asyncio.sleep(POLL_SECONDS)
    first, last = reached(seen, PODS * 0.1), reached(seen, PODS * 0.9)
    return 0.8 * PODS / (last - first)


def reached(seen: list[tuple[float, float]], count: float) -> float:
    """When so many pods were scheduled, between two looks on a straight line."""
    for (before, low), (after, high) in zip([(seen[0][0] - POLL_SECONDS, 0.0), *seen], seen, strict=False):
        if high >= count:
            return before + (after - before) * (count - low) / (high - low)
    raise AssertionError(f"never {count:g} pods")


async def scheduled(session: aiohttp.ClientSession, port: int) -> float:
    """How many pods the scheduler says it has placed."""
    context = ssl._create_unverified_context()
    async with session.get(f"https://127.0.0.1:{port}/metrics", ssl=context) as response:
        text = await response.text()
    pattern = rf'^scheduler_schedule_attempts_total{{profile="{SCHEDULER_NAME}",result="scheduled"}} (\S+)$'
    found = re.search(pattern, text, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def reserve(bare: BareCluster) -> None:
    """Approve a plan for pods that are not there: its nodes are refused to all others."""
    kept = SlotClass("some-controller", "somerevision", "somerequests")
    slots = [Slot(f"k{number:03}", kept, OBJECTS.node_name(number * 7)) for number in range(SLOTS)]
    spec = PackingPlanSpec(
        policy="by-hand", approval=Approval.APPROVED, slots=tuple(PlanSlot.of(slot) for slot in slots)
    )
    plan = PackingPlan(metadata=Metadata(name="by-hand-20260101-101500-0001"), spec=spec)
    async with connection(bare) as api:
        await api.create(paths.PACKING_PLANS, plan.to_document())

        async def acknowledged() -> bool:
            found = await api.get(paths.packing_plan(plan.name))
            return bool(found.get("status", {}).get("extenders"))

        await eventually(acknowledged, what="the extender knows the plan")


async def clean(bare: BareCluster) -> None:
    """Forget all pods, events and plans; somebody else leads."""
    for folder in ("pods", "events", "stowage.dev/packingplans", "leases"):
        await bare.forget(folder)
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    spec = {"holderIdentity": "the bench", "leaseDurationSeconds": LONGEST_SECONDS, "renewTime": now}
    namespace, name = LEASE
    async with connection(bare) as api:
        await api.create(paths.leases(namespace), {"metadata": {"name": name, "namespace": namespace}, "spec": spec})


@contextlib.asynccontextmanager
async def connection(bare: BareCluster) -> AsyncIterator[Api]:
    """As administrator."""
    async with await Api.connect(kubeconfig=str(bare.cluster.kubeconfig), user_agent="stowage-bench") as api:
        yield api
