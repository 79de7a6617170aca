"""A TrainingJob with real supervisors and a real coordinator: only the kubelets are played, by this test."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import stowage_worker
from harness.waiting import eventually
from harness.workbench import Document, Workbench
from integration.conftest import Start
from stowage.demo.local_cluster import LocalCluster
from stowage.demo.processes import free_port
from stowage.transport import paths

PROGRAM = """\
import os, sys
line = " ".join(os.environ[name] for name in ("STOWAGE_ATTEMPT", "RANK", "WORLD_SIZE", "STOWAGE_SEAT"))
with open(os.environ["RUNS"], "a") as file:
    file.write(line + "\\n")
sys.exit(3 if os.environ["STOWAGE_ATTEMPT"] == "1" and os.environ["RANK"] == "0" else 0)
"""


class Kubelets:
    """Starts the programs of a job's pods as their specs say, on this machine."""

    def __init__(self, bench: Workbench, folder: Path, port: int) -> None:
        self.bench = bench
        self.folder = folder
        self.port = port
        self._started: list[asyncio.subprocess.Process] = []
        self._ends: list[asyncio.Task[None]] = []

    async def coordinator(self, pod: Document) -> None:
        arguments = [one for one in pod["spec"]["containers"][0]["args"] if not one.startswith(("--host", "--port"))]
        command = [*pod["spec"]["containers"][0]["command"][1:], *arguments, "--host=127.0.0.1", f"--port={self.port}"]
        await self._start(
            pod, [sys.executable, *(part.replace("/stowage/secret", str(self.folder)) for part in command)], {}
        )

    async def seat(self, pod: Document) -> None:
        [container] = pod["spec"]["containers"]
        fields = {"metadata.uid": pod["metadata"]["uid"], "status.podIP": "127.0.0.1"}
        fields["spec.nodeName"] = pod["spec"]["nodeName"]
        given = {
            one["name"]: one["value"] if "value" in one else fields[one["valueFrom"]["fieldRef"]["fieldPath"]]
            for one in container["env"]
        }
        own = {
            "STOWAGE_COORDINATOR": f"127.0.0.1:{self.port}",
            "STOWAGE_TOKEN_FILE": str(self.folder / "token"),
            "STOWAGE_CHECKPOINT_DIR": str(self.folder / "checkpoints"),
        }
        assert container["command"][:2] == ["python3", "/stowage/worker/stowage_worker"]
        worker = str(Path(stowage_worker.__file__).parent)
        await self._start(pod, [sys.executable, worker, *container["command"][2:]], {**given, **own})

    async def _start(self, pod: Document, command: list[str], environment: dict[str, str]) -> None:
        with (self.folder / f"{pod['metadata']['name']}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *command, env={**os.environ, **environment}, stdout=log, stderr=asyncio.subprocess.STDOUT
            )
        self._started.append(process)
        self._ends.append(asyncio.create_task(self._report(pod["metadata"]["name"], process)))

    async def _report(self, name: str, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        if code == 0:
            path = paths.pod(self.bench.namespace, name) + "/status"
            await self.bench.api.merge_patch(path, {"status": {"phase": "Succeeded"}})

    async def end(self) -> None:
        for task in self._ends:
            task.cancel()
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        for process in self._started:
            await process.wait()


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

    async def gone() -> bool:
        return not await workbench.pods()

    await eventually(gone, what="the operator lets the pods go")


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

    pods = await eventually(placed, what="the coordinator and two seats have nodes")
    secret = paths.named(paths.in_namespace(paths.SECRETS, workbench.namespace), "tiny-token")
    token = (await workbench.api.get(secret))["data"]["token"]
    (kubelets.folder / "token").write_bytes(base64.b64decode(token))
    for pod in pods:
        is_seat = "stowage.dev/seat" in pod["metadata"]["labels"]
        await (kubelets.seat(pod) if is_seat else kubelets.coordinator(pod))

    async def succeeded() -> Document:
        found = await workbench.api.get(paths.training_job(workbench.namespace, "tiny"))
        status: Document = found["status"]
        assert status["phase"] == "Succeeded", status
        return status

    status = await eventually(succeeded, timeout_seconds=60, what="the job has succeeded")
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

    events = (await workbench.api.get(paths.events(workbench.namespace)))["items"]
    told = {one["reason"]: one["note"] for one in events if one["regarding"]["name"] == "tiny"}
    assert told.keys() >= {"Created", "FailureSeen", "Succeeded"}
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
