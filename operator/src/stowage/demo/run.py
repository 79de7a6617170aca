"""The demo from start to end: cluster, workload, plan, pictures, numbers; everything started is ended."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
from rich.console import Console

from stowage.demo import local_cluster
from stowage.demo.live import Display
from stowage.demo.local_cluster import LocalCluster
from stowage.demo.pictures import draw, picture
from stowage.demo.processes import ManagedProcess, free_port, stop_recorded
from stowage.demo.report import Report, report
from stowage.demo.watching import DemoError, Sight, wait_until_packed, wait_until_scheduled
from stowage.demo.workload import (
    DEMO_LABEL,
    NAMESPACE,
    Document,
    ReplicaSetShape,
    Scenario,
    node_document,
    policy_document,
    priority_class_documents,
    replica_set_document,
)
from stowage.transport import paths
from stowage.transport.api import Api
from stowage_scheduler.cluster import Snapshot
from stowage_scheduler.counted import counted
from stowage_scheduler.kube.dump import read_dump

POLICY = "demo"
SCHEDULER = "stowage"
SCHEDULE_TIMEOUT_SECONDS = 120.0
PACK_TIMEOUT_SECONDS = 300.0
TOO_LARGE = "too-large"
USER_AGENT = "stowage-demo"
_WIDTH_OF_A_FILE = 160


def run_demo(scenario: Scenario, *, folder: Path, keep: bool) -> int:
    """Runs the demo and returns its exit code: 0 when every pod that the plan placed runs at the end, else 1.

    Args:
        scenario: nodes and workload.
        folder: where pictures, logs, result.json and the cluster's state before the plan go; made when missing.
        keep: leave the cluster up.

    Raises:
        DemoError: the cluster did not do what the demo waits for.
        LocalClusterError: the cluster could not be started.
        ProcessError: a process of the demo ended or does not answer.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    width = None if sys.stdout.isatty() else _WIDTH_OF_A_FILE
    out = Console(highlight=False, emoji=False, markup=False, width=width)
    name = f"{local_cluster.cluster_name()}-demo"
    out.print(scenario.title, style="bold")
    with _alone(name), _ended_by_signals():
        try:
            out.print(f"starting cluster {name}")
            cluster = local_cluster.up(None, name=name)
            finished = asyncio.run(_Demo(cluster, scenario, folder, out).run())
        finally:
            if not keep:
                local_cluster.down(name)
    if keep:
        out.print(f"the cluster is still up: export KUBECONFIG={cluster.kubeconfig}")
    return 0 if finished.kept else 1


@contextlib.contextmanager
def _alone(name: str) -> Iterator[None]:
    """One demo at a time on a cluster: a second one would clear away what the first one applied.

    Raises:
        DemoError: another demo is running there.
    """
    workdir = local_cluster.clusters_folder()
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / f"{name}.demo.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            hint = "wait for its end, or set STOWAGE_CLUSTER to another name"
            raise DemoError(f"another demo is running on cluster {name}: {hint}") from error
        yield


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Makes SIGINT and SIGTERM raise KeyboardInterrupt at once, also where asyncio would wait for the next await.

    A second signal is ignored: by then everything that was started is being ended.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)

    def interrupt(*_: object) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = [(number, signal.signal(number, interrupt)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


class _Demo:
    """One run on one cluster."""

    def __init__(self, cluster: LocalCluster, scenario: Scenario, folder: Path, out: Console) -> None:
        self._cluster = cluster
        self._scenario = scenario
        self._folder = folder
        self._out = out
        self._processes: list[ManagedProcess] = []

    async def run(self) -> Report:
        """Workload first, so that kube-scheduler does what it can; then the policy, and Stowage does the rest."""
        started = _now()
        self._remove_leftovers()
        self._say(f"applying {len(self._scenario.nodes)} nodes")
        self._cluster.add_nodes([node_document(shape) for shape in self._scenario.nodes])
        with contextlib.ExitStack() as processes:
            processes.callback(stop_recorded, self._folder)  # for one that was started and not yet entered below
            self._start_processes(processes)
            async with await Api.connect(kubeconfig=str(self._cluster.kubeconfig), user_agent=USER_AGENT) as api:
                return await self._story(api, started)

    def _start_processes(self, processes: contextlib.ExitStack) -> None:
        """Extender, scheduler and operator, as a user would run them; logs go to the demo's folder."""
        self._say("starting extender, scheduler and operator")
        for log in (self._folder / "logs").glob("*.log"):
            log.unlink()
        extender_port, extender_metrics, operator_metrics = free_port(), free_port(), free_port()
        lines = {
            "extender": ["extender", "--port", str(extender_port), "--metrics-port", str(extender_metrics)],
            "operator": ["operator", "--metrics-port", str(operator_metrics)],
        }
        ready = {"extender": extender_metrics, "operator": operator_metrics}
        for name, arguments in lines.items():
            process = processes.enter_context(
                ManagedProcess.start(
                    name,
                    [sys.executable, "-m", "stowage.cli", *arguments],
                    folder=self._folder,
                    environment=self._cluster.environment,
                )
            )
            self._processes.append(process)
            process.wait_until_serving(f"http://127.0.0.1:{ready[name]}/readyz")
            if name == "extender":
                scheduler = local_cluster.start_scheduler(self._cluster, extender_port)
                self._processes.append(processes.enter_context(scheduler))

    def _shown(self, display: Display) -> Callable[[Sight], None]:
        """Shows each sight; fails as soon as a process of the demo has ended by itself."""

        def show(sight: Sight) -> None:
            for process in self._processes:
                if process.exit_code is not None:
                    raise DemoError(f"{process.name} ended with exit code {process.exit_code}: {process.log_file}")
            display.show(sight)

        return show

    async def _story(self, api: Api, started: float) -> Report:
        scenario = self._scenario
        self._say(f"applying {len(scenario.replica_sets)} ReplicaSets with {scenario.pod_count} pods")
        self._cluster.apply(priority_class_documents(scenario))
        await self._make_namespace(api)
        self._cluster.apply(replica_set_document(shape, scheduler_name=SCHEDULER) for shape in scenario.replica_sets)
        with Display(self._out, scenario.pod_count) as display:
            before = await wait_until_scheduled(
                api, scenario.pod_count, timeout_seconds=SCHEDULE_TIMEOUT_SECONDS, show=self._shown(display)
            )
        snapshot_before = await self._snapshot(api, save_as="before.json")
        pending = sum(before.pending.values())
        self._say(f"kube-scheduler is done: {pending} of {scenario.pod_count} pods are pending")

        self._say("applying the policy: Stowage may act from now on")
        self._cluster.apply([policy_document(POLICY, scheduler_name=SCHEDULER)])
        with Display(self._out, scenario.pod_count) as display:
            after = await wait_until_packed(
                api, POLICY, scenario.pod_count, timeout_seconds=PACK_TIMEOUT_SECONDS, show=self._shown(display)
            )
        snapshot_after = await self._snapshot(api, save_as="after.json")
        finished = report(scenario.title, before, after, total_seconds=_now() - started)
        finished.write(self._folder / "result.json")
        self._draw(snapshot_before, snapshot_after, finished)
        await self._explain(api, snapshot_after)
        self._out.print()
        self._out.print(finished.table())
        for line in finished.lines():
            self._out.print(line)
        self._out.print(f"numbers, pictures and logs: {self._folder}")
        return finished

    async def _make_namespace(self, api: Api) -> None:
        """Pods are admitted only once the namespace has its service account."""
        self._cluster.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}])
        accounts = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts"
        for _ in range(300):
            listed = await api.get(accounts)
            if listed["items"]:
                return
            await asyncio.sleep(0.1)
        raise DemoError(f"namespace {NAMESPACE} got no service account: does kube-controller-manager run?")

    async def _snapshot(self, api: Api, *, save_as: str) -> Snapshot:
        """The cluster as facts; also written down, so that `stowage plan -f` can be tried on it."""
        items: list[Document] = []
        for path, kind in _kinds():
            listed = await api.get(path)
            items.extend({"apiVersion": listed["apiVersion"], "kind": kind, **item} for item in listed["items"])
        data = msgspec.json.encode({"apiVersion": "v1", "kind": "List", "items": items})
        await asyncio.to_thread((self._folder / save_as).write_bytes, data)
        return read_dump(data).snapshot

    def _draw(self, before: Snapshot, after: Snapshot, finished: Report) -> None:
        resource = self._scenario.shown_resource
        left = finished.pending_before
        first = picture(
            before,
            title=f"Before: kube-scheduler leaves {counted(left, 'pod')} pending",
            subtitle=self._scenario.title,
            resource=resource,
        )
        second = picture(
            after,
            title=f"After Stowage: {counted(finished.pending_after, 'pod')} pending, {counted(finished.moves, 'move')}",
            subtitle=self._scenario.title,
            resource=resource,
            earlier=before,
        )
        draw(first, self._folder / "before.png")
        draw(second, self._folder / "after.png")

    async def _explain(self, api: Api, after: Snapshot) -> None:
        """Shows `stowage why` of a pod that stays pending; one that never fits is made when all have a place."""
        pending = [pod for pod in after.pods if pod.node is None and pod.namespace == NAMESPACE]
        if pending:
            name = min(pod.name for pod in pending)
        else:
            name = await self._pod_that_never_fits(api)
        arguments = ["why", f"pod/{name}", "--namespace", NAMESPACE, "--policy", POLICY]
        self._out.print()
        self._out.print(f"$ stowage {' '.join(arguments)}", style="bold")
        answer = await asyncio.to_thread(
            subprocess.run,  # the command as a user would type it
            [sys.executable, "-m", "stowage.cli", *arguments],
            env={**os.environ, **self._cluster.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self._out.print(answer.stdout.rstrip())

    async def _pod_that_never_fits(self, api: Api) -> str:
        largest = max(self._scenario.nodes, key=lambda shape: shape.cpu_milli)
        shape = ReplicaSetShape(
            name=TOO_LARGE,
            replicas=1,
            priority_class=min(self._scenario.priority_classes, key=self._scenario.priority_classes.__getitem__),
            cpu_milli=2 * largest.cpu_milli,
            memory_bytes=largest.memory_bytes // 2,
        )
        self._say("all pods run; adding one that asks for more CPU than any node has")
        self._cluster.apply([replica_set_document(shape, scheduler_name=SCHEDULER)])
        wanted = self._scenario.pod_count + 1
        await wait_until_scheduled(api, wanted, timeout_seconds=SCHEDULE_TIMEOUT_SECONDS, show=lambda _: None)
        listed = await api.get(paths.in_namespace(paths.PODS, NAMESPACE), {"labelSelector": f"app={TOO_LARGE}"})
        return str(listed["items"][0]["metadata"]["name"])

    def _remove_leftovers(self) -> None:
        """Of an earlier demo whose cluster was kept."""
        flags = ("--ignore-not-found", "--wait", "--timeout=60s")
        self._cluster.kubectl("delete", "packingpolicies", POLICY, *flags)
        self._cluster.kubectl("delete", "packingplans", "-l", f"stowage.dev/policy={POLICY}", *flags)
        self._cluster.kubectl("delete", "namespace", NAMESPACE, *flags)
        self._cluster.kubectl("delete", "nodes,priorityclasses", "-l", DEMO_LABEL, *flags)

    def _say(self, text: str) -> None:
        self._out.print(text)


def _kinds() -> Iterable[tuple[str, str]]:
    return (
        (paths.NODES, "Node"),
        (paths.PODS, "Pod"),
        (paths.PRIORITY_CLASSES, "PriorityClass"),
        (paths.REPLICA_SETS, "ReplicaSet"),
        (paths.DISRUPTION_BUDGETS, "PodDisruptionBudget"),
    )


def _now() -> float:
    return time.monotonic()  # noqa: TID251 - the edge of the process: how long the demo took
