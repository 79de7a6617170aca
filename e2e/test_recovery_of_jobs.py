"""Whatever happens to a training job on real kubelets, its committed history is the undisturbed run's.

`--faults=all` plays every fault; otherwise a sample. What each cost is kept in `build/e2e/training-faults.md`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest

from harness.waiting import eventually
from programs import ARTIFACTS
from results_table import Table, TrainingRow, answer_of
from stowage.transport import paths
from training_scene import SLOWLY_SECONDS, Job, TrainingScene, brief, milliseconds

STEPS, EVERY, PAUSE = 100, 10, 0.05
LATE_PAUSE = 0.15  # of jobs that a test disturbs from outside: it has ten seconds for that
WRONG_AT = 35  # a step between two checkpoints
LONG = ("250", "0.1")  # steps and pause of jobs whose nodes come back while they run
ASKS = ("--every", "0")  # the program asks whether a checkpoint is due, instead of an interval of its own


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    made = Table("training-faults")
    yield made
    made.write(ARTIFACTS)


def found(
    job: Job, fault: str, status: dict[str, Any], at_ms: int, again: tuple[int, int] | None = None
) -> TrainingRow:
    """A row from what a job did.

    Args:
        job: whose program wrote down what it did.
        fault: its name.
        status: of the job at its end.
        at_ms: when the fault began.
        again: the epoch that followed, and when its last rank was started.
    """
    row = TrainingRow(fault, status["phase"], answer_of(status), steps_lost=job.steps_lost())
    if again is None:
        return row
    epoch, started_ms = again
    step = job.first_step_after(at_ms, epoch)
    return replace(
        row,
        ranks_seconds=(started_ms - at_ms) / 1000,
        step_seconds=(step.at_ms - at_ms) / 1000 if step else None,
    )


# --- what goes wrong within the pods ---

rare = pytest.mark.rare


@pytest.mark.parametrize(
    ("mischief", "event", "container"),
    [
        pytest.param("KILL", "ProcessExited", {}, id="a process gets SIGKILL"),
        pytest.param("TERM", "ProcessExited", {}, id="a process gets SIGTERM", marks=rare),
        pytest.param("exit", "ProcessExited", {}, id="a process ends with code 42", marks=rare),
        pytest.param("raise", "ProcessExited", {}, id="a process raises an exception", marks=rare),
        pytest.param("memory", "", {"memory": "160Mi"}, id="a process eats all memory of its container", marks=rare),
        pytest.param("hang", "Hang", {}, id="a process hangs"),
    ],
)
async def test_a_process(
    training: TrainingScene, table: Table, mischief: str, event: str, container: dict[str, str]
) -> None:
    limits = {"resources": {"limits": container, "requests": {"cpu": "50m"}}} if container else {}
    toy = ("--every", str(EVERY), "--pause", str(PAUSE), "--mischief", f"{mischief}:1:{WRONG_AT}:1")
    job = await training.begin("toy", STEPS, *toy, container=limits)
    status = await job.trained_as_if_nothing_had_happened()
    assert not event or [one["event"] for one in status["recoveries"]] == [event], brief(status)
    started = await job.until_started(epoch=2)
    row = found(job, f"process: {mischief}", status, job.mischief_at_ms(), (2, started))
    detect = status["lastFailure"]["recovery"].get("detect")
    table.add(replace(row, note=f"found after {detect}" if event == "Hang" else ""))
    assert row.steps_lost <= EVERY


@rare
async def test_a_mistake_of_the_program_ends_the_job_with_its_message(training: TrainingScene, table: Table) -> None:
    job = await training.begin("toy", STEPS, "--every", str(EVERY), "--mischief", f"raise:1:{WRONG_AT}:9")
    status = await job.until("Succeeded", "Failed", "Paused")
    assert status["phase"] == "Failed", brief(status)
    assert "sample 35 is broken" in json.dumps(status["conditions"])
    assert status["restartCount"] == 1
    table.add(found(job, "bad user code", status, job.mischief_at_ms()))


@rare
async def test_an_image_that_cannot_be_had(training: TrainingScene, table: Table) -> None:
    begun = milliseconds()
    job = await training.begin("toy", STEPS, container={"image": "registry.invalid/no/such:image"})

    async def told() -> dict[str, Any]:
        status = await job.status()
        assert status.get("recoveries"), brief(status)
        return status

    patience_seconds = 3 * SLOWLY_SECONDS  # registries are often away for a minute
    status = await eventually(told, timeout_seconds=patience_seconds, what="the job says that there is no image")
    assert status["recoveries"][0]["event"] == "ImageUnavailable", brief(status)
    note = f"told after {(milliseconds() - begun) / 1000:.0f} s"
    table.add(replace(found(job, "image that cannot be pulled", status, begun), note=note))


# --- what happens to pods ---


async def test_a_pod_is_deleted(training: TrainingScene, table: Table) -> None:
    job = await training.begin("toy", STEPS, "--every", str(EVERY), "--pause", str(LATE_PAUSE))
    await job.until_step(WRONG_AT)
    at = milliseconds()
    await training.bench.api.delete(paths.pod(training.bench.namespace, await a_seat(job)), {})
    await moved_on(job, table, "pod deleted", at)
    await job.set_spec(ttlAfterFinished="1s")
    await job.until_gone()


@rare
async def test_the_coordinator_is_killed(training: TrainingScene, table: Table) -> None:
    job = await training.begin("toy", STEPS, "--every", str(EVERY), "--pause", "0.2")
    await job.until_step(WRONG_AT)
    at = milliseconds()
    before = (await job.coordinator())["metadata"]["uid"]
    pod = paths.pod(training.bench.namespace, f"{job.name}-coordinator")
    await training.bench.api.delete(pod, {"gracePeriodSeconds": 0})
    status = await job.trained_as_if_nothing_had_happened()
    assert (status["epoch"], job.steps_lost()) == (1, 0), "training does not stop for it"
    assert (await job.coordinator())["metadata"]["uid"] != before
    table.add(found(job, "coordinator killed", status, at))


@rare
async def test_the_operator_is_killed_in_the_middle_of_a_recovery(training: TrainingScene, table: Table) -> None:
    job = await training.begin("toy", STEPS, "--every", str(EVERY), "--pause", str(LATE_PAUSE))
    await job.until_step(WRONG_AT)
    at = milliseconds()
    await training.bench.api.delete(paths.pod(training.bench.namespace, await a_seat(job)), {})

    async def decided() -> bool:
        return bool((await job.status())["epoch"] >= 2)

    await eventually(decided, what="the recovery is decided")
    selector = ("--namespace", training.release.namespace, "--selector", "app.kubernetes.io/component=operator")
    training.cluster.kubectl("delete", "pods", *selector, "--grace-period=0", "--force")
    await moved_on(job, table, "operator killed while a pod is replaced", at)


def assert_nothing_before_is_lost(job: Job, at_ms: int) -> None:
    """Ranks made a checkpoint before their pod went: of what they do after it, some steps may be done again."""
    before = max(one.step for one in job.steps_done() if one.epoch == 1 and one.at_ms <= at_ms)
    assert min(one.step for one in job.steps_done() if one.epoch == 2) > before


async def a_seat(job: Job) -> str:
    """The pod of the job's last seat."""
    seats = await job.seats()
    return str(seats[max(seats)]["metadata"]["name"])


async def moved_on(job: Job, table: Table, fault: str, at_ms: int, note: str = "") -> TrainingRow:
    """The job goes on and ends as if nothing had happened; what that took."""
    started = await job.until_started(epoch=2)
    status = await job.trained_as_if_nothing_had_happened()
    row = replace(found(job, fault, status, at_ms, (2, started)), note=note)
    table.add(row)
    return row


# --- what happens to nodes ---


@contextlib.asynccontextmanager
async def on_two_nodes(training: TrainingScene, *toy: str, **spec: Any) -> AsyncIterator[tuple[Job, list[str]]]:
    """A job that runs on two nodes with nobody else of Stowage on them; other nodes would take it too."""
    cluster, bench = training.cluster, training.bench
    busy = {*training.release.nodes_of("operator").values(), *training.release.nodes_of("scheduler").values()}
    chosen = [node for node in cluster.workers if node not in busy][:2]
    label = {"story": bench.namespace}
    try:
        for node in chosen:  # first closed, so that the coordinator goes elsewhere
            await bench.api.merge_patch(
                paths.node(node), {"metadata": {"labels": label}, "spec": {"unschedulable": True}}
            )
        steps, pause = LONG
        seats = {"matchLabels": {"stowage.dev/job": "toy", "stowage.dev/role": "seat"}}
        apart = {"topologyKey": "kubernetes.io/hostname", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}
        pod = {"nodeSelector": label, "topologySpreadConstraints": [{**apart, "labelSelector": seats}]}
        job = await training.begin("toy", int(steps), "--every", "20", "--pause", pause, *toy, pod=pod, **spec)

        async def coordinator_placed() -> bool:
            return "nodeName" in (await job.coordinator())["spec"]

        await eventually(coordinator_placed, what="the coordinator has a node")
        for node in chosen:
            await bench.api.merge_patch(paths.node(node), {"spec": {"unschedulable": None}})
        await job.until("Running")
        await job.until_step(30)
        for node in cluster.workers:
            await bench.api.merge_patch(paths.node(node), {"metadata": {"labels": label}})
        assert await nodes_of(job) == set(chosen)
        yield job, chosen
    finally:
        for node in cluster.workers:
            await bench.api.merge_patch(
                paths.node(node), {"metadata": {"labels": {"story": None}}, "spec": {"unschedulable": None}}
            )


async def goes_on_elsewhere(job: Job, table: Table, fault: str, at_ms: int, lost: list[str], back: Any) -> None:
    """Ranks run again on other nodes; then the nodes come back, which disturbs nobody."""
    started = await job.until_started(epoch=2)
    before = await job.status()
    assert not await nodes_of(job) & set(lost)
    for node in lost:
        back(node)
    for node in lost:
        job.scene.cluster.wait("condition=Ready", f"node/{node}")
    status = await job.trained_as_if_nothing_had_happened()
    assert status["epoch"] == before["epoch"], "pods that come back take nobody's place"
    table.add(found(job, fault, status, at_ms, (2, started)))


async def nodes_of(job: Job) -> set[str]:
    """Where the members of the current epoch run."""
    status = await job.status()
    return {seat["node"] for seat in status["seats"] if seat["seat"] in status["members"]}


async def test_a_node_is_paused_and_comes_back(training: TrainingScene, table: Table) -> None:
    async with on_two_nodes(training) as (job, nodes):
        at = milliseconds()
        training.cluster.pause(nodes[0])
        try:
            await goes_on_elsewhere(job, table, "node paused", at, nodes[:1], training.cluster.unpause)
        except BaseException:
            with contextlib.suppress(AssertionError):  # it may run already
                training.cluster.unpause(nodes[0])
            raise


@rare
@pytest.mark.parametrize("count", [pytest.param(1, id="one"), pytest.param(2, id="two")])
async def test_nodes_are_stopped_and_come_back(training: TrainingScene, table: Table, count: int) -> None:
    cluster = training.cluster
    async with on_two_nodes(training) as (job, nodes):
        at = milliseconds()
        lost = nodes[:count]
        for node in lost:
            cluster.stop(node)
        try:
            await goes_on_elsewhere(job, table, f"{count} of 2 nodes stopped", at, lost, cluster.start)
        finally:
            for node in lost:
                cluster.start(node)  # does nothing where it runs
                cluster.wait("condition=Ready", f"node/{node}")


@rare
async def test_a_node_is_lost_while_a_spare_waits(training: TrainingScene, table: Table) -> None:
    async with on_two_nodes(training, recovery={"spares": 1}) as (job, nodes):

        async def spare() -> bool:
            return bool((await job.status())["nodes"].get("spares"))

        await eventually(spare, timeout_seconds=SLOWLY_SECONDS, what="the spare waits")
        at = milliseconds()
        training.cluster.pause(nodes[0])
        try:
            await goes_on_elsewhere(job, table, "node paused, with a spare", at, nodes[:1], training.cluster.unpause)
        except BaseException:
            with contextlib.suppress(AssertionError):
                training.cluster.unpause(nodes[0])
            raise


@rare
async def test_a_drain(training: TrainingScene, table: Table) -> None:
    async with on_two_nodes(training, *ASKS) as (job, nodes):
        at = milliseconds()
        training.cluster.kubectl("drain", nodes[0], "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=60s")
        await moved_on(job, table, "kubectl drain", at)
        assert_nothing_before_is_lost(job, at)
        assert nodes[0] not in await nodes_of(job)


@rare
async def test_an_eviction_by_priority(training: TrainingScene, table: Table) -> None:
    bench = training.bench
    high = await bench.priority_class(f"high-{bench.namespace}", 1000)
    gpus = {"nvidia.com/gpu": "8"}
    container = {"resources": {"requests": {"cpu": "50m", **gpus}, "limits": gpus}}
    async with on_two_nodes(training, *ASKS, container=container) as (job, nodes):
        at = milliseconds()
        pod = {
            "metadata": {"name": "urgent"},
            "spec": {
                "priorityClassName": high,
                "nodeSelector": {"kubernetes.io/hostname": nodes[0]},
                "terminationGracePeriodSeconds": 1,
                "containers": [
                    {"name": "main", "image": training.cluster.pause_image(), "resources": {"limits": gpus}}
                ],
            },
        }
        await bench.api.create(paths.in_namespace(paths.PODS, bench.namespace), pod)
        await moved_on(job, table, "eviction by priority", at)
        assert_nothing_before_is_lost(job, at)
        assert nodes[0] not in await nodes_of(job)


@rare
async def test_what_kubernetes_does_by_itself(training: TrainingScene, table: Table) -> None:
    """A Job with its defaults, when one of its nodes is lost: for the ratio."""
    cluster, bench = training.cluster, training.bench
    busy = {*training.release.nodes_of("operator").values(), *training.release.nodes_of("scheduler").values()}
    await bench.job("stock", 2, cpu="10m", image=cluster.pause_image(), scheduler_name="default-scheduler")
    pods = await bench.until_ready("stock", 2, timeout_seconds=SLOWLY_SECONDS)
    lost = next((pod["spec"]["nodeName"] for pod in pods if pod["spec"]["nodeName"] not in busy), None)
    assert lost, "a pod stands beside nobody of Stowage"
    at = milliseconds()
    cluster.pause(lost)
    try:

        async def elsewhere() -> bool:
            nodes = [
                pod["spec"].get("nodeName")
                for pod in await bench.pods("stock")
                if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
            ]
            return len(nodes) == 2 and lost not in nodes

        await eventually(elsewhere, timeout_seconds=900, what="the Job runs on other nodes")
        seconds = (milliseconds() - at) / 1000
        table.add(
            TrainingRow(
                "node paused, a Job with Kubernetes' defaults", "Running", "replaced by its controller", seconds
            )
        )
    finally:
        cluster.unpause(lost)
        cluster.wait("condition=Ready", f"node/{lost}")
