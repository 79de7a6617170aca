"""TrainingJobs on real kubelets, with a folder that their pods and the tests share."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.local_training import TOY, undisturbed
from harness.waiting import eventually
from harness.workbench import Document, Workbench
from kind_cluster import KindCluster
from release import Release
from stowage.api.names import JOB_LABEL
from stowage.transport import paths
from stowage.transport.errors import NotFound

SHARED_ON_NODES = "/stowage-shared"
SLOWLY_SECONDS = 120.0
JobDocument = dict[str, Any]


def milliseconds() -> int:
    return time.time_ns() // 10**6


@dataclass(frozen=True)
class Started:
    """One start of a rank."""

    epoch: int
    rank: int
    world_size: int
    at_ms: int


@dataclass(frozen=True)
class StepDone:
    """A step, as rank 0 did it."""

    epoch: int
    step: int
    at_ms: int


@dataclass
class TrainingScene:
    """A namespace with jobs; `folder` is on this machine what the pods have as `/shared`."""

    bench: Workbench
    release: Release
    folder: Path
    image: str
    programs: set[str] = field(default_factory=set)

    @property
    def cluster(self) -> KindCluster:
        """Where it is played."""
        return self.release.cluster

    async def begin(self, name: str, steps: int, *toy: str, nodes: int = 2, **spec: Any) -> Job:
        """Apply a job of the toy training: two ranks on each node.

        Args:
            name: of the job.
            steps: of the training.
            toy: options of the program.
            nodes: of the job.
            spec: fields of the job, which win; `pod` is merged into the pod's spec, `container` into the trainer.
        """
        pod, container = spec.pop("pod", {}), spec.pop("container", {})
        job = Job(self, name, steps)
        job.make_folder()
        command = ["python3", f"/programs/{TOY.name}", f"/shared/{name}/history.json", str(steps), *toy]
        document = await self.document(job, TOY, command, {"nodes": {"min": nodes}, **spec})
        document["spec"]["template"]["spec"] |= pod
        document["spec"]["template"]["spec"]["containers"][0] |= container
        await self.create(document)
        return job

    async def document(self, job: Job, program: Path, command: list[str], spec: JobDocument) -> JobDocument:
        """A job that runs a program of this repository; the program travels as a ConfigMap."""
        await self.bring(program)
        amounts = {"cpu": "50m", "memory": "64Mi"}
        container = {
            "name": "trainer",
            "image": self.image,
            "command": command,
            "resources": {"requests": amounts},
            "volumeMounts": [
                {"name": "programs", "mountPath": "/programs", "readOnly": True},
                {"name": "shared", "mountPath": "/shared"},
            ],
        }
        shared = {"path": f"{SHARED_ON_NODES}/{self.folder.name}", "type": "Directory"}
        pod = {
            "containers": [container],
            "terminationGracePeriodSeconds": 10,
            "volumes": [
                {"name": "programs", "configMap": {"name": program.stem.replace("_", "-")}},
                {"name": "shared", "hostPath": shared},
            ],
        }
        checkpoint = {"volume": {"hostPath": shared}, "directory": "/checkpoints"}
        return {
            "apiVersion": "stowage.dev/v1alpha1",
            "kind": "TrainingJob",
            "metadata": {"name": job.name},
            "spec": {"processesPerNode": 2, "checkpoint": checkpoint, "template": {"spec": pod}, **spec},
        }

    async def create(self, document: JobDocument) -> None:
        """Apply it."""
        await self.bench.api.create(paths.in_namespace(paths.TRAINING_JOBS, self.bench.namespace), document)

    async def bring(self, program: Path) -> None:
        """Make a ConfigMap of a program, once."""
        if program.name in self.programs:
            return
        self.programs.add(program.name)
        name = program.stem.replace("_", "-")
        data = {program.name: program.read_text(encoding="utf-8")}  # noqa: ASYNC240 - a small file
        config_maps = f"/api/v1/namespaces/{self.bench.namespace}/configmaps"
        await self.bench.api.create(config_maps, {"metadata": {"name": name}, "data": data})

    async def end(self) -> None:
        """Delete all jobs while the operator lets their pods go."""
        self.cluster.kubectl(
            *("delete", "trainingjobs", "--all", "--namespace", self.bench.namespace, "--wait=false"),
        )
        await self.until_no_pods()

    async def until_no_pods(self) -> None:
        """Wait until the last pod of a job is gone."""

        async def gone() -> bool:
            pods = (pod["metadata"] for pod in await self.bench.pods())
            left = [pod["name"] for pod in pods if JOB_LABEL in pod.get("labels", {})]
            assert not left, left
            return True

        await eventually(gone, timeout_seconds=SLOWLY_SECONDS, what="no pod of a job is left")


@dataclass
class Job:
    """One TrainingJob of the toy training."""

    scene: TrainingScene
    name: str
    steps: int

    @property
    def _path(self) -> str:
        return paths.training_job(self.scene.bench.namespace, self.name)

    @property
    def folder(self) -> Path:
        """Where its program writes."""
        return self.scene.folder / self.name

    def make_folder(self) -> None:
        """Let the pods' user write there."""
        self.folder.mkdir(parents=True)
        for folder in (self.scene.folder, self.folder):
            folder.chmod(0o777)

    async def status(self) -> Document:
        """As the API server has it."""
        found: Document = (await self.scene.bench.api.get(self._path)).get("status", {})
        return found

    async def set_spec(self, **spec: Any) -> None:
        """Change some fields."""
        await self.scene.bench.api.merge_patch(self._path, {"spec": spec})

    async def until_gone(self) -> None:
        """Wait until nobody has it any more."""

        async def gone() -> bool:
            try:
                await self.status()
            except NotFound:
                return True
            return False

        await eventually(gone, timeout_seconds=SLOWLY_SECONDS, what=f"{self.name} is removed")

    async def until(self, *phases: str, epoch: int = 0, timeout_seconds: float = SLOWLY_SECONDS) -> Document:
        """The status, once it is in one of the phases, in this epoch or a later one."""

        async def there() -> Document:
            status = await self.status()
            assert status.get("phase") in phases, brief(status)
            assert status["epoch"] >= epoch, brief(status)
            return status

        return await eventually(there, timeout_seconds=timeout_seconds, what=f"{self.name} is {' or '.join(phases)}")

    async def until_step(self, step: int) -> None:
        """Wait until a step is done."""

        async def done() -> bool:
            steps = self.steps_done()
            assert steps, "no step yet"
            return steps[-1].step >= step

        await eventually(done, timeout_seconds=SLOWLY_SECONDS, what=f"{self.name} has done step {step}")

    async def until_started(self, epoch: int, timeout_seconds: float = SLOWLY_SECONDS) -> int:
        """When the last rank of an epoch, or of the first one after it, was started, in milliseconds."""

        async def all_started() -> int:
            starts = [one for one in self.started() if one.epoch >= epoch]
            for at in sorted({one.epoch for one in starts}):
                ranks = {one.rank: one for one in starts if one.epoch == at}
                if ranks and len(ranks) == next(iter(ranks.values())).world_size:
                    return max(one.at_ms for one in ranks.values())
            raise AssertionError(f"{len(starts)} ranks; {brief(await self.status())}")

        return await eventually(
            all_started, timeout_seconds=timeout_seconds, what=f"{self.name}: every rank of epoch {epoch} was started"
        )

    def started(self) -> list[Started]:
        """Starts of ranks, in order."""
        found = (list(map(int, line.split())) for line in self._lines("started"))
        return [Started(epoch, rank, world, at) for epoch, rank, world, _, at in found]

    def steps_done(self) -> list[StepDone]:
        """Steps, in order."""
        return [StepDone(*map(int, line.split())) for line in self._lines("steps")]

    def mischief_at_ms(self) -> int:
        """When the program went wrong for the first time."""
        return int((self.folder / "mischief-0").read_text())

    def steps_lost(self) -> int:
        """Steps that were done again in later epochs.

        What ranks on a node that comes back still do, before they are told to end, costs nothing.
        """
        counted: list[StepDone] = []
        for one in sorted(self.steps_done(), key=lambda step: step.at_ms):
            if not counted or one.epoch >= max(step.epoch for step in counted):
                counted.append(one)
        return len(counted) - len({one.step for one in counted})

    def first_step_after(self, at_ms: int, epoch: int) -> StepDone | None:
        """The first step of this epoch or a later one."""
        return next((one for one in self.steps_done() if one.epoch >= epoch and one.at_ms >= at_ms), None)

    async def trained_as_if_nothing_had_happened(self) -> Document:
        """Wait for success; the committed history is the undisturbed run's."""
        status = await self.until("Succeeded", "Failed", "Paused")
        assert status["phase"] == "Succeeded", brief(status)
        history = json.loads((self.folder / "history.json").read_text())
        assert history == undisturbed(self.steps)
        return status

    async def seats(self) -> dict[str, Document]:
        """Pods of seats by the seat's name, the newest of each."""
        pods = [pod for pod in await self.scene.bench.pods() if self._is_seat(pod)]
        newest = sorted(pods, key=lambda pod: int(pod["metadata"]["labels"]["stowage.dev/attempt"]))
        return {pod["metadata"]["labels"]["stowage.dev/seat"]: pod for pod in newest}

    async def coordinator(self) -> Document:
        """Its coordinator's pod."""
        name = f"{self.name}-coordinator"
        found = [pod for pod in await self.scene.bench.pods() if pod["metadata"]["name"] == name]
        assert found, f"there is no {name}"
        return found[0]

    def _is_seat(self, pod: Document) -> bool:
        labels = pod["metadata"].get("labels", {})
        return labels.get(JOB_LABEL) == self.name and "stowage.dev/seat" in labels

    def _lines(self, name: str) -> list[str]:
        try:
            text = (self.folder / name).read_text()
        except FileNotFoundError:
            return []
        return text.splitlines() if text.endswith("\n") else text.splitlines()[:-1]


def brief(status: Document) -> str:
    """What one wants to know of a job that is not as it should be."""
    kept = ("phase", "reason", "message", "epoch", "attempt", "members", "nodes", "progress", "lastFailure", "seats")
    return json.dumps({key: status.get(key) for key in kept})
