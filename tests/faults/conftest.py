"""What tests with faults share: a control plane, and the fault proxy in front of it.

`cluster`: of all of them. `api`, `workbench`: of the test, straight at the API server. `proxy`: of the test, between
the API server and the processes that `start` starts. Logs of processes are shown with a test that fails.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest

from faults.proxy import FaultProxy
from faults.report import Report
from harness.control_plane import bench, control_plane, start_stowage
from harness.workbench import Workbench
from stowage.demo.local_cluster import LocalCluster
from stowage.demo.processes import ManagedProcess
from stowage.transport.api import Api

LOGS = pytest.StashKey[list[ManagedProcess]]()
REPORT = pytest.StashKey[Report]()
LOG_LINES = 60

Start = Callable[..., ManagedProcess]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--faults", choices=("sample", "all"), default="sample", help="kill points: a sample, or all")
    group.addoption("--faults-fixed", type=int, default=1, help="of a sample: points of each kind, always the same")
    group.addoption("--faults-rotating", type=int, default=1, help="of a sample: points of each kind, by the seed")
    group.addoption("--faults-seed", default="", help="of the rotating sample; default: the commit")
    group.addoption("--faults-points", default="", help="ids of kill points, with commas: these alone")
    group.addoption("--faults-report", default="build/faults.json", help="file for what was run")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and "cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.control_plane)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("long_fault") is not None and item.config.getoption("--faults") != "all":
        pytest.skip("takes long: make faults plays it")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.failed:
        for process in item.stash.get(LOGS, []):
            report.sections.append((f"log of {process.name}", process.log_tail(LOG_LINES)))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    report = config.stash.get(REPORT, None)
    if report is not None:
        terminalreporter.section("kill points")
        for line in report.table():
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def fault_report(pytestconfig: pytest.Config) -> Report:
    """Where the outcomes of kill points go."""
    seed = pytestconfig.getoption("--faults-seed") or _commit(pytestconfig.rootpath)
    report = Report(
        seed=str(seed),
        chosen=pytestconfig.getoption("--faults"),
        fixed=pytestconfig.getoption("--faults-fixed"),
        rotating=pytestconfig.getoption("--faults-rotating"),
        file=pytestconfig.rootpath / pytestconfig.getoption("--faults-report"),
    )
    pytestconfig.stash[REPORT] = report
    return report


def _commit(folder: Path) -> str:
    """The commit that is tested: each one draws other points, and the same ones again."""
    git = shutil.which("git")
    if git is None:
        return "0"
    asked = [git, "-C", str(folder), "rev-parse", "--short=12", "HEAD"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "0"


@pytest.fixture(scope="session")
def fault_points(pytestconfig: pytest.Config) -> frozenset[str]:
    """Kill points that were asked for by name."""
    return frozenset(part for part in pytestconfig.getoption("--faults-points").split(",") if part)


@pytest.fixture(scope="package")
def cluster() -> Iterator[LocalCluster]:
    """A control plane for the tests with faults alone, with the custom resources and without nodes.

    It ends with them: it would cost the tests after them some of the processors.
    """
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
