"""A real control plane for the tests: once per session, and one namespace per test.

`cluster`, `scheduler`: of the session. `api`, `workbench`: of the test. `extender`, `operator`: real processes of the
test, started when the test asks for them; `extender_for_all`, `operator_for_all`: the same for all tests of a file, for
each start costs seconds. `service`: a ModelService, its engines and their Prometheus played. `start` and
`start_for_all` start others. The logs of all are shown with a test that fails.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from harness.agreement.report import FILE, REPORT
from harness.control_plane import bench, control_plane, start_stowage
from harness.coordinator import FakeCoordinator, fake_coordinator
from harness.model_service import Service
from harness.played_engines import PlayedEngines
from harness.prometheus_server import FakePrometheus, fake_prometheus
from harness.workbench import Workbench
from stowage.demo import local_cluster
from stowage.demo.local_cluster import LocalCluster
from stowage.demo.processes import ManagedProcess, free_port
from stowage.transport.api import Api

PREFIX = "stowage-test-"
LOGS = pytest.StashKey[list[ManagedProcess]]()
LOG_LINES = 60
SHORT_TERMS = ("--lease-seconds", "6", "--renew-within-seconds", "4", "--lease-retry-seconds", "1")
"""Of a lease that another operator shall soon take over from one that was killed: by default it lasts 15 s."""

Start = Callable[..., ManagedProcess]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("agreement")
    group.addoption(
        "--agreement", choices=("sample", "all"), default="sample", help="states to compare: a sample, or all"
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    report = config.stash.get(REPORT, None)
    if report is not None:
        terminalreporter.section("agreement with kube-scheduler")
        for line in report.table():
            terminalreporter.write_line(line)
        if config.getoption("--agreement") == "all":
            terminalreporter.write_line(f"written to {FILE.relative_to(config.rootpath)}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.control_plane)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.failed:
        for process in (one for node in item.listchain() for one in node.stash.get(LOGS, [])):
            report.sections.append((f"log of {process.name}", process.log_tail(LOG_LINES)))
    return report


@pytest.fixture(scope="session")
def cluster() -> Iterator[LocalCluster]:
    """A control plane for this test run alone, with the custom resources and without nodes."""
    with control_plane(PREFIX) as running:
        yield running


@pytest.fixture(scope="session")
def extender_port() -> int:
    """The port where the scheduler `stowage` expects its extender."""
    return free_port()


@pytest.fixture(scope="session")
def scheduler(cluster: LocalCluster, extender_port: int) -> Iterator[ManagedProcess]:
    """The scheduler `stowage`, an unmodified kube-scheduler with the extender."""
    with local_cluster.start_scheduler(cluster, extender_port) as process:
        yield process


@pytest.fixture
async def api(cluster: LocalCluster) -> AsyncIterator[Api]:
    """The API server, as administrator."""
    async with await Api.connect(kubeconfig=str(cluster.kubeconfig), user_agent="stowage-test") as connected:
        yield connected


@pytest.fixture
async def workbench(api: Api) -> AsyncIterator[Workbench]:
    """A fresh namespace, and short ways to make and read objects."""
    async with bench(api) as made:
        yield made


@pytest.fixture
def start(cluster: LocalCluster, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Start]:
    """Starts `stowage` processes: start("operator", "--flag", ready_url="http://…/readyz", environment={…})."""
    with starter(cluster, request.node, tmp_path) as start_one:
        yield start_one


@pytest.fixture(scope="module")
def start_for_all(
    cluster: LocalCluster, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Start]:
    """As `start`, for processes that all tests of a file share."""
    with starter(cluster, request.node, tmp_path_factory.mktemp("shared")) as start_one:
        yield start_one


@contextlib.contextmanager
def starter(cluster: LocalCluster, node: pytest.Item | pytest.Collector, logs: Path) -> Iterator[Start]:
    """Starts processes of a test, or of a file of tests; they end with the block."""
    started: list[ManagedProcess] = node.stash.setdefault(LOGS, [])

    def start_one(
        command: str, *arguments: str, ready_url: str, environment: Mapping[str, str] | None = None
    ) -> ManagedProcess:
        process = start_stowage(cluster, command, *arguments, logs=logs, environment=environment)
        started.append(process)
        process.wait_until_serving(ready_url, timeout_seconds=60)
        return process

    yield start_one
    for process in reversed(started):
        process.stop()


@pytest.fixture
def extender(start: Start, scheduler: ManagedProcess, extender_port: int) -> ManagedProcess:
    """`stowage extender`, where the scheduler `stowage` asks it; of the test alone."""
    return start_extender(start, scheduler, extender_port)


@pytest.fixture(scope="module")
def extender_for_all(start_for_all: Start, scheduler: ManagedProcess, extender_port: int) -> ManagedProcess:
    """The same for all tests of a file, where each needs it and none ends it."""
    return start_extender(start_for_all, scheduler, extender_port)


def start_extender(start: Start, scheduler: ManagedProcess, port: int) -> ManagedProcess:
    assert scheduler.exit_code is None
    metrics_port = str(free_port())
    arguments = ("--port", str(port), "--metrics-port", metrics_port)
    return start("extender", *arguments, ready_url=f"http://127.0.0.1:{metrics_port}/readyz")


@pytest.fixture(scope="module")
def operator_lease(start_for_all: Start) -> str:
    """The lease, `namespace/name`, of an operator that the tests of a file share."""
    name = f"stowage-operator-{uuid.uuid4().hex[:6]}"  # nobody waits for the lease of the file before
    start_operator(start_for_all, name)
    return f"stowage-system/{name}"


def start_operator(start: Start, lease_name: str) -> ManagedProcess:
    """`stowage operator` with a lease of that name."""
    metrics_port = str(free_port())
    arguments = ("--metrics-port", metrics_port, "--lease-name", lease_name, "--solver-workers", "1")
    return start("operator", *arguments, ready_url=f"http://127.0.0.1:{metrics_port}/readyz")


@pytest.fixture(scope="module")
def operator_for_all(operator_lease: str) -> None:
    """`stowage operator` for all tests of a file, where none ends it or needs it fresh."""


@pytest.fixture
def operator(start: Start) -> ManagedProcess:
    """`stowage operator` of the test alone."""
    return start_operator(start, f"stowage-operator-{uuid.uuid4().hex[:6]}")


@pytest.fixture(scope="module")
def training_operator(start_for_all: Start) -> int:
    """An operator that looks for every job's coordinator at the port that is returned."""
    port, coordinators = str(free_port()), free_port()
    lease = f"stowage-operator-{uuid.uuid4().hex[:6]}"
    arguments = ("--metrics-port", port, "--lease-name", lease, "--solver-workers", "1")
    address = ("--coordinator-address", f"127.0.0.1:{coordinators}")
    start_for_all("operator", *arguments, *address, ready_url=f"http://127.0.0.1:{port}/readyz")
    return coordinators


@pytest.fixture
async def coordinator(training_operator: int) -> AsyncIterator[FakeCoordinator]:
    """What that operator finds there: a coordinator that does as it is told."""
    async with fake_coordinator(training_operator) as running:
        yield running


@pytest.fixture
async def prometheus() -> AsyncIterator[FakePrometheus]:
    async with fake_prometheus() as fake:
        yield fake


@pytest.fixture
def engines(prometheus: FakePrometheus) -> PlayedEngines:
    played = PlayedEngines(time.time)  # noqa: TID251 - as the operator's clock has it
    prometheus.behaviour = played.behave
    return played


@pytest.fixture
def status_port() -> int:
    """Where the operator looks for the activator of each service: pods of this control plane do not run."""
    return free_port()


@pytest.fixture
def arguments(prometheus: FakePrometheus, status_port: int, tmp_path: Path) -> tuple[str, ...]:
    """Of an operator that asks that Prometheus; with the same lease each time."""
    settings = {"endpoints": [{"url": f"http://127.0.0.1:{prometheus.port}"}]}
    file = tmp_path / "prometheus.yaml"
    file.write_text(yaml.safe_dump(settings))
    lease = ("--lease-name", f"stowage-operator-{uuid.uuid4().hex[:6]}", *SHORT_TERMS)
    activator = ("--activator-address", f"127.0.0.1:{status_port}")
    return (*lease, *activator, "--solver-workers", "1", "--prometheus-config", str(file))


@pytest.fixture
def begin(start: Start, arguments: tuple[str, ...]) -> Callable[[], ManagedProcess]:
    """Starts an operator."""

    def begin_one() -> ManagedProcess:
        port = str(free_port())
        url = f"http://127.0.0.1:{port}/readyz"
        return start("operator", "--metrics-port", port, *arguments, ready_url=url)

    return begin_one


@pytest.fixture
async def service(
    workbench: Workbench, engines: PlayedEngines, begin: Callable[[], ManagedProcess]
) -> AsyncIterator[Service]:
    """A ModelService that is made when the test says what it shall be, with room for it and an operator."""
    assert engines.tokens == 0
    await workbench.nodes(2, cpu="16", labels={"story": workbench.namespace})
    begin()
    made = Service(workbench)
    yield made
    await made.delete()
