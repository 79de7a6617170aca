"""A TrainingJob with real supervisors and a real coordinator: only the kubelets are played, by this test."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.kubelets import Kubelets
from harness.waiting import eventually
from harness.workbench import Document, Workbench
from integration.conftest import Start
from stowage.demo.local_cluster import LocalCluster
from stowage.demo.processes import free_port
from stowage.transport import paths

BEAT_MILLISECONDS = 1000
"""Ranks are asked for a common checkpoint once their supervisors have told that they take part."""
TOY = Path(__file__).parents[1] / "harness" / "toy_training.py"
PROGRAM = """\
import os, sys
line = " ".join(os.environ[name] for name in ("STOWAGE_ATTEMPT", "RANK", "WORLD_SIZE", "STOWAGE_SEAT"))
with open(os.environ["RUNS"], "a") as file:
    file.write(line + "\\n")
sys.exit(3 if os.environ["STOWAGE_ATTEMPT"] == "1" and os.environ["RANK"] == "0" else 0)
"""


@pytest.fixture
async def kubelets(workbench: Workbench, start: Start, tmp_path: Path) -> AsyncIterator[Kubelets]:
    played = Kubelets(workbench, tmp_path, free_port())
    metrics = str(free_port())
    lease = f"stowage-operator-{uuid.uuid4().hex[:6]}"
    arguments = ("--metrics-port", metrics, "--lease-name", lease, "--solver-workers", "1")
    address = ("--coordinator-address", f"127.0.0.1:{played.port}")
    start("operator", *arguments, *address, ready_url=f"http://127.0.0.1:{metrics}/readyz")
    yield played
    await played.end()
    await workbench.api.delete(paths.training_job(workbench.namespace, "tiny"))

    async def let_go() -> bool:
        """The garbage collector deletes them, at its own pace: half a minute where it does not know jobs yet."""
        return not any(pod["metadata"].get("finalizers") for pod in await workbench.pods())

    await eventually(let_go, what="the operator lets the pods go")


async def test_from_apply_to_success_over_a_rank_that_fails(
    workbench: Workbench, kubelets: Kubelets, cluster: LocalCluster
) -> None:
    label = {"story": workbench.namespace}
    await workbench.nodes(2, cpu="8", labels=label)
    runs = kubelets.folder / "runs"
    container = {
        "name": "trainer",
        "image": "train:1",
        "command": ["python3", "-c", PROGRAM],
        "env": [{"name": "RUNS", "value": str(runs)}],
    }
    spec = {"nodes": {"min": 2}, "template": {"spec": {"containers": [container], "nodeSelector": label}}}
    document = {
        "apiVersion": "stowage.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": "tiny"},
        "spec": spec,
    }
    await workbench.api.create(paths.in_namespace(paths.TRAINING_JOBS, workbench.namespace), document)

    async def placed() -> list[Document]:
        pods = await workbench.pods()
        assert len(pods) == 3, [pod["metadata"]["name"] for pod in pods]
        assert all(pod["spec"].get("nodeName") for pod in pods)
        return pods

    await eventually(placed, what="the coordinator and two seats have nodes")
    await kubelets.start_all("tiny")

    async def succeeded() -> Document:
        found = await workbench.api.get(paths.training_job(workbench.namespace, "tiny"))
        status: Document = found["status"]
        assert status["phase"] == "Succeeded", status
        return status

    status = await eventually(succeeded, what="the job has succeeded")
    assert (status["epoch"], status["attempt"]) == (2, 2)
    assert (status["lastFailure"]["event"], status["lastFailure"]["code"]) == ("ProcessExited", 3)
    seats = dict(enumerate(status["members"]))
    lines = sorted(runs.read_text().splitlines())
    assert [line for line in lines if line.startswith("2 ")] == [f"2 {rank} 2 {seats[rank]}" for rank in (0, 1)]
    assert f"1 0 2 {seats[0]}" in lines

    async def counted() -> bool:
        seats = [pod for pod in await workbench.pods() if "stowage.dev/seat" in pod["metadata"]["labels"]]
        return all(pod["status"]["phase"] == "Succeeded" and not pod["metadata"].get("finalizers") for pod in seats)

    await eventually(counted, what="supervisors ended with code 0, and their pods are counted")

    async def all_told() -> dict[str, str]:  # after all else that follows from a status
        events = (await workbench.api.get(paths.events(workbench.namespace)))["items"]
        told = {one["reason"]: one["note"] for one in events if one["regarding"]["name"] == "tiny"}
        assert told.keys() >= {"Created", "FailureSeen", "Succeeded"}, told
        return told

    told = await eventually(all_told, what="events tell the job's story")
    assert told["FailureSeen"].startswith("ProcessExited on rank 0, seat ")
    assert "the processes start again" in told["FailureSeen"]
    story = await why(cluster, f"tj/{workbench.namespace}/tiny")
    assert story[0].startswith(f"trainingjob {workbench.namespace}/tiny: Succeeded for ")
    wanted = (
        "last failure, ",
        "  whose fault: ",
        "  decided: RestartProcesses",
        "    rule: no rule of the job",
        "    budget: 1 of 10",
        "  it took ",
    )
    assert [line for line in wanted if not any(one.startswith(line) for one in story)] == []
    (seen,) = [line for line in story if " by coordinator: " in line]
    assert "ProcessExited on rank 0" in seen
    assert "(code 3)" in seen


async def why(cluster: LocalCluster, what: str) -> list[str]:
    """The lines that `stowage why` answers with; its exit code is 0."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "stowage.cli", "why", what),
        env={**os.environ, **cluster.environment},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out
    return out.decode().splitlines()


async def test_an_evicted_seat_costs_nothing_but_its_move(workbench: Workbench, kubelets: Kubelets) -> None:
    label = {"story": workbench.namespace}
    await workbench.nodes(3, cpu="8", labels=label)
    program = [sys.executable, str(TOY), str(kubelets.folder / "history"), "1000000", "--every", "0", "--pause", "0.02"]
    container = {"name": "trainer", "image": "train:1", "command": program}
    spec = {"nodes": {"min": 2}, "template": {"spec": {"containers": [container], "nodeSelector": label}}}
    document = {
        "apiVersion": "stowage.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": "tiny"},
        "spec": spec,
    }
    await workbench.api.create(paths.in_namespace(paths.TRAINING_JOBS, workbench.namespace), document)
    path = paths.training_job(workbench.namespace, "tiny")

    async def status() -> Document:
        found: Document = (await workbench.api.get(path))["status"]
        return found

    async def placed() -> bool:
        pods = await workbench.pods()
        assert len([one for one in pods if not one["metadata"].get("deletionTimestamp")]) == 3
        return all(pod["spec"].get("nodeName") for pod in pods)

    async def trains() -> bool:
        found = await status()
        return found["phase"] == "Running" and found["progress"].get("step", -1) >= 0

    await eventually(placed, what="the coordinator and two seats have nodes")
    await kubelets.start_all("tiny")
    await eventually(trains, what="all ranks train")
    assert "lastCheckpoint" not in (await status())["progress"]

    pod = next(one for one in await workbench.pods() if one["metadata"]["labels"].get("stowage.dev/seat") == "s1")
    name = pod["metadata"]["name"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    await workbench.api.create(paths.eviction(workbench.namespace, name), eviction)
    assert await kubelets.stop(pod) == 0
    checkpoints = kubelets.folder / "checkpoints"
    (saved,) = checkpoints.glob("attempt-1/step-*/COMMITTED")
    step = int(saved.parent.name.removeprefix("step-"))

    async def runs_again() -> Document:
        found = await status()
        assert (found["phase"], found["epoch"]) == ("Running", 2), found
        return found

    await eventually(placed, what="the seat has another pod")
    await kubelets.start_all("tiny")
    found = await eventually(runs_again, what="the job runs again")
    failure = found["lastFailure"]
    assert (failure["event"], failure["action"], failure["seat"]) == ("Disruption", "ReplaceNode", "s1")
    assert found["recoveries"][-1]["blameless"]
    assert found["progress"]["lastCheckpoint"]["step"] == step
    attempt = found["attempt"]
    origin = checkpoints / f"attempt-{attempt}" / "RESUMED_FROM"

    async def resumed() -> bool:
        return origin.exists()

    await eventually(resumed, what="the ranks ask where to go on from")
    assert json.loads(origin.read_text()) == {"attempt": 1, "step": step}

    await workbench.api.merge_patch(path, {"spec": {"checkpoint": {"interval": "1s"}}})

    async def saves_at_the_interval() -> bool:
        return any(checkpoints.glob(f"attempt-{attempt}/step-*/COMMITTED"))

    await eventually(saves_at_the_interval, what="an interval that is changed counts for ranks that run")
    due = [tuple(map(int, line.split())) for line in (kubelets.folder / "due").read_text().splitlines()]
    assert {rank for epoch, rank, at in due if (epoch, at) == (1, step)} == {0, 1}, "both ranks save at the same step"


async def test_a_node_joins_and_leaves_at_a_step_and_nothing_is_trained_twice(
    workbench: Workbench, kubelets: Kubelets
) -> None:
    label = {"story": workbench.namespace}
    await workbench.nodes(3, cpu="8", labels=label)
    program = [sys.executable, str(TOY), str(kubelets.folder / "history"), "1000000", "--every", "0", "--pause", "0.02"]
    container = {"name": "trainer", "image": "train:1", "command": program}
    document = {
        "apiVersion": "stowage.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": "tiny"},
        "spec": {
            "nodes": {"min": 2, "max": 3, "target": 2},
            "elastic": {"cooldown": "0s"},
            "template": {"spec": {"containers": [container], "nodeSelector": label}},
        },
    }
    await workbench.api.create(paths.in_namespace(paths.TRAINING_JOBS, workbench.namespace), document)
    path = paths.training_job(workbench.namespace, "tiny")

    async def has_pods(count: int) -> bool:
        pods = [one for one in await workbench.pods() if not one["metadata"].get("deletionTimestamp")]
        assert len(pods) == count, [pod["metadata"]["name"] for pod in pods]
        return all(pod["spec"].get("nodeName") for pod in pods)

    async def trains(epoch: int) -> Document:
        found: Document = (await workbench.api.get(path))["status"]
        assert (found["phase"], found["epoch"]) == ("Running", epoch), found
        assert found["progress"].get("step", -1) >= 0
        return found

    def told(file: str) -> list[tuple[int, ...]]:
        """Whole lines of what the program noted."""
        lines = (kubelets.folder / file).read_text().split("\n")[:-1]
        return [tuple(map(int, line.split())) for line in lines]

    async def steps_of(epoch: int, ranks: int) -> bool:
        assert {(one[0], one[2]) for one in told("started") if one[0] == epoch} == {(epoch, ranks)}
        times = [one[2] for one in told("steps") if one[0] == epoch]
        return bool(times) and times[-1] - times[0] > 2 * BEAT_MILLISECONDS

    await eventually(lambda: has_pods(3), what="the coordinator and two seats have nodes")
    await kubelets.start_all("tiny")
    await eventually(lambda: trains(1), what="two ranks train")

    await workbench.api.merge_patch(f"{path}/scale", {"spec": {"replicas": 3}})
    await eventually(lambda: has_pods(4), what="a third seat has a node")
    assert (await trains(1))["nodes"]["desired"] == 3, "two train on until it is there"
    await kubelets.start_all("tiny")
    larger = await eventually(lambda: trains(2), what="three ranks train")
    await eventually(lambda: steps_of(2, ranks=3), what="their supervisors have told of steps")
    assert not larger.get("restarts"), "nothing failed"

    await workbench.api.merge_patch(f"{path}/scale", {"spec": {"replicas": 2}})
    smaller = await eventually(lambda: trains(3), what="two ranks train again")
    await eventually(lambda: steps_of(3, ranks=2), what="they make steps")
    for found, before in ((larger, 1), (smaller, larger["attempt"])):
        origin = kubelets.folder / "checkpoints" / f"attempt-{found['attempt']}" / "RESUMED_FROM"
        assert json.loads(origin.read_text())["attempt"] == before, "from where the ones before had stopped"
    done = [one[1] for one in told("steps")]
    assert len(done) == len(set(done)), "no step is done twice"
