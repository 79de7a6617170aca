"""Real JAX in several pods with several processes each, on a gang's places, over faults."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.waiting import eventually
from programs import ROOT, run
from scene import GPU, GPUS, Scene
from stowage.transport import paths
from training_scene import SLOWLY_SECONDS, Job, TrainingScene

PROGRAM = ROOT / "tests" / "training" / "programs" / "jax_spmd.py"
IMAGE = "stowage-jax:e2e"
STEPS = 120
KILL_A_RANK = f"""
import os, pathlib, signal
for entry in pathlib.Path("/proc").glob("[0-9]*"):
    words = (entry / "cmdline").read_bytes().split(b"\\0")
    if words[1:2] == [b"/programs/{PROGRAM.name}"]:
        os.kill(int(entry.name), signal.SIGKILL)
        break
else:
    raise SystemExit("no rank is there")
"""


@pytest.fixture(scope="module")
def jax_image() -> str:
    """Python and JAX, nothing of Stowage."""
    folder = Path(__file__).with_name("jax_image")
    build = ("docker", "build", "--network", "host", "--tag", IMAGE, "--file", folder / "Dockerfile")
    run(*build, ROOT / "requirements", timeout_seconds=900)
    return IMAGE


async def begin(training: TrainingScene, scene: Scene, name: str, nodes: int, pause_seconds: float) -> Job:
    """A JAX job on the nodes of the story."""
    job = Job(training, name, STEPS)
    job.make_folder()
    history, pause = f"/shared/{name}/history.json", f"{pause_seconds:g}"
    command = ["python3", f"/programs/{PROGRAM.name}", history, str(STEPS), "--pause", pause]
    spec = {"nodes": {"min": nodes}, "framework": "Jax"}
    document = await training.document(job, PROGRAM, command, spec)
    pod = document["spec"]["template"]["spec"]
    pod["nodeSelector"] = scene.label
    gpus = {GPU: str(GPUS - 2)}  # one pod on each node
    pod["containers"][0] |= {"image": IMAGE, "resources": {"requests": {"cpu": "50m", **gpus}, "limits": gpus}}
    await training.create(document)
    return job


async def test_the_losses_are_those_of_the_undisturbed_run(
    training: TrainingScene, scene: Scene, jax_image: str
) -> None:
    scene.scheduler_name, scene.steering = "default-scheduler", "Bind"
    await scene.label_workers()
    training.cluster.load(jax_image, *scene.nodes)
    await scene.apply_policy(scene.label)
    undisturbed = await begin(training, scene, "undisturbed", 1, 0.01)
    status = await undisturbed.until("Succeeded", "Failed", "Paused", timeout_seconds=2 * SLOWLY_SECONDS)
    assert (status["phase"], status["epoch"]) == ("Succeeded", 1), status

    job = await begin(training, scene, "disturbed", 2, 0.1)  # there is time for the faults
    await reached(job, 30)
    assert len({pod["spec"]["nodeName"] for pod in (await job.seats()).values()}) == 2
    placed = next(one for one in (await job.status())["conditions"] if one["type"] == "Placed")
    assert placed["status"] == "True", placed
    seat = (await job.seats())["s1"]["metadata"]["name"]
    in_it = ("--namespace", training.bench.namespace, seat, "--container", "trainer")
    training.cluster.kubectl("exec", *in_it, "--", "python3", "-c", KILL_A_RANK)
    await job.until("Running", epoch=2)
    await reached(job, 60)
    await training.bench.api.delete(paths.pod(training.bench.namespace, seat), {})
    await job.until("Running", "Succeeded", epoch=3)
    status = await job.until("Succeeded", "Failed", "Paused", timeout_seconds=2 * SLOWLY_SECONDS)
    assert (status["phase"], status["epoch"]) == ("Succeeded", 3), status
    expected, history = (json.loads((one.folder / "history.json").read_text()) for one in (undisturbed, job))
    assert [samples for _, samples, _ in history] == [samples for _, samples, _ in expected]
    assert [loss for *_, loss in history] == pytest.approx([loss for *_, loss in expected], rel=1e-9)


async def reached(job: Job, step: int) -> None:
    """Wait for a step, as the job's status tells it."""

    async def done() -> bool:
        status = await job.status()
        assert status.get("phase") not in {"Succeeded", "Failed", "Paused"}, status
        return bool((status.get("progress") or {}).get("step", -1) >= step)

    await eventually(done, timeout_seconds=2 * SLOWLY_SECONDS, what=f"{job.name} has done step {step}")
