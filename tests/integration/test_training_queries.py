"""A PromQL rule pauses the job that names it: on a real control plane, with a real Prometheus where there is one."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from harness.coordinator import FakeCoordinator, fake_coordinator
from harness.prometheus_server import fake_prometheus, vector
from harness.training_job import Job
from harness.waiting import eventually
from harness.workbench import Document, Workbench
from stowage.demo.processes import ManagedProcess, free_port

SPIKE = {"when": {"promql": {"rule": "spike"}}, "do": "Pause", "message": "look at the data"}
Loss = Callable[[str, str, float], None]
"""Sets the loss of a job: namespace, name, number."""


@contextmanager
def real_prometheus(folder: Path, exporter_port: int) -> Iterator[int]:
    """A Prometheus that scrapes one address; its port."""
    port = free_port()
    scrape = {
        "job_name": "trainers",
        "scrape_interval": "1s",
        "honor_labels": True,  # the exporter of this test speaks for all pods
        "static_configs": [{"targets": [f"127.0.0.1:{exporter_port}"]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": [scrape]}))
    command = [
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    process = ManagedProcess.start("prometheus", command, folder=folder, logs=folder)
    try:
        process.wait_until_serving(f"http://127.0.0.1:{port}/-/ready", timeout_seconds=60)
        yield port
    finally:
        process.stop()


class Losses:
    """What trainers expose."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], float] = {}
        self.runner: web.AppRunner | None = None

    async def serve(self) -> int:
        app = web.Application()
        app.add_routes([web.get("/metrics", self._metrics)])
        self.runner = web.AppRunner(app, access_log=None)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        return int(self.runner.addresses[0][1])

    async def _metrics(self, _: web.Request) -> web.Response:
        lines = [
            f'loss{{namespace="{namespace}",stowage_dev_job="{name}"}} {value}'
            for (namespace, name), value in self.known.items()
        ]
        return web.Response(text="\n".join([*lines, ""]))


@pytest.fixture(params=["spoken by a test", "a real Prometheus"])
async def prometheus(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[int, Loss]]:
    async with AsyncExitStack() as stack:
        if request.param == "spoken by a test":
            fake = await stack.enter_async_context(fake_prometheus())

            def tell(namespace: str, name: str, value: float) -> None:
                fake.behaviour = vector(({"namespace": namespace, "stowage_dev_job": name}, value))

            yield fake.port, tell
            return
        if shutil.which("prometheus") is None:
            pytest.skip("there is no prometheus on PATH")
        losses = Losses()
        port = stack.enter_context(real_prometheus(tmp_path, await losses.serve()))
        assert losses.runner is not None
        stack.push_async_callback(losses.runner.cleanup)
        yield port, lambda namespace, name, value: losses.known.__setitem__((namespace, name), value)


@pytest.fixture
async def coordinator(
    start: Callable[..., ManagedProcess], prometheus: tuple[int, Loss], tmp_path: Path
) -> AsyncIterator[FakeCoordinator]:
    """A coordinator, and an operator that knows one rule."""
    settings = {
        "endpoints": [{"url": f"http://127.0.0.1:{prometheus[0]}"}],
        "rules": [{"name": "spike", "query": "loss > 10", "for": "1s", "every": "5s"}],
    }
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(settings))
    port, coordinators = str(free_port()), free_port()
    start(
        "operator",
        *("--metrics-port", port, "--lease-name", f"stowage-operator-{uuid.uuid4().hex[:6]}"),
        *("--solver-workers", "1", "--coordinator-address", f"127.0.0.1:{coordinators}"),
        *("--prometheus-config", str(tmp_path / "prometheus.yaml")),
        ready_url=f"http://127.0.0.1:{port}/readyz",
    )
    async with fake_coordinator(coordinators) as running:
        yield running


def observed(status: Document) -> tuple[str, str]:
    (found,) = [one for one in status["conditions"] if one["type"] == "Observed"]
    return found["status"], found["reason"]


async def test_a_rule_that_fires_pauses_its_job_and_no_other(
    workbench: Workbench, coordinator: FakeCoordinator, prometheus: tuple[int, Loss]
) -> None:
    _, tell = prometheus
    await workbench.nodes(2, cpu="8", labels={"story": workbench.namespace})
    mine, other = Job(workbench), Job(workbench, "other")
    await mine.apply(nodes=1, recovery={"rules": [SPIKE]})
    await other.apply(nodes=1, recovery={"rules": [{**SPIKE, "when": {"promql": {"rule": "spkie"}}}]})
    assert observed(await mine.until("Running")) == ("True", "QueriesAnswered")
    assert observed(await other.until("Running")) == ("False", "UnknownRule")
    tell(workbench.namespace, "tiny", 99.0)
    status = await mine.until("Paused")
    assert status["lastFailure"]["evidence"][0]["source"] == "prometheus"
    assert (status["lastFailure"]["event"], status["lastFailure"]["action"]) == ("Promql", "Pause")
    assert "look at the data" in status["message"]
    assert (await other.status())["phase"] == "Running"

    async def gone() -> bool:
        return not await mine.pods()

    await eventually(gone, what="the paused job has no pods")
    for job in (mine, other):
        await job.delete()
    assert coordinator.begun
