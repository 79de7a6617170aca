"""What tests with faults share: a control plane once per test run, and the fault proxy in front of it.

`cluster`: of the test run. `api`, `workbench`: of the test, straight at the API server. `proxy`: of the test, between
the API server and the processes that `start` starts. Logs of processes are shown with a test that fails.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest

from faults.proxy import FaultProxy
from harness.control_plane import bench, control_plane, start_stowage
from harness.workbench import Workbench
from stowage.demo.local_cluster import LocalCluster
from stowage.demo.processes import ManagedProcess
from stowage.transport.api import Api

LOGS = pytest.StashKey[list[ManagedProcess]]()
LOG_LINES = 60

Start = Callable[..., ManagedProcess]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and "cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.control_plane)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.failed:
        for process in item.stash.get(LOGS, []):
            report.sections.append((f"log of {process.name}", process.log_tail(LOG_LINES)))
    return report


@pytest.fixture(scope="session")
def cluster() -> Iterator[LocalCluster]:
    """A control plane for the tests with faults alone, with the custom resources and without nodes."""
    with control_plane("stowage-faults-") as running:
        yield running


@pytest.fixture
def proxy(cluster: LocalCluster) -> Iterator[FaultProxy]:
    """The fault proxy in front of the API server, with an empty script."""
    with FaultProxy.for_kubeconfig(cluster.kubeconfig) as running:
        yield running


@pytest.fixture
async def api(cluster: LocalCluster) -> AsyncIterator[Api]:
    """The API server, as administrator, not by the proxy."""
    async with await Api.connect(kubeconfig=str(cluster.kubeconfig), user_agent="stowage-test") as connected:
        yield connected


@pytest.fixture
async def workbench(api: Api) -> AsyncIterator[Workbench]:
    """A fresh namespace, and short ways to make and read objects."""
    async with bench(api) as made:
        yield made


@pytest.fixture
def start(cluster: LocalCluster, proxy: FaultProxy, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Start]:
    """Starts `stowage` processes that reach the API server by the proxy alone.

    start("operator", "--flag", ready_url="http://…/readyz", environment={…}); without a ready_url it does not wait.
    """
    started: list[ManagedProcess] = request.node.stash.setdefault(LOGS, [])
    kubeconfig = str(proxy.kubeconfig(tmp_path))

    def start_one(
        command: str, *arguments: str, ready_url: str | None = None, environment: Mapping[str, str] | None = None
    ) -> ManagedProcess:
        process = start_stowage(
            cluster, command, *arguments, logs=tmp_path, environment={"KUBECONFIG": kubeconfig, **(environment or {})}
        )
        started.append(process)
        if ready_url is not None:
            process.wait_until_serving(ready_url, timeout_seconds=60)
        return process

    yield start_one
    for process in reversed(started):
        process.stop()
