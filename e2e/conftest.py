"""Real clusters for the tests: image built once, at most two clusters for all of them.

`STOWAGE_IMAGE`: an image that is there already. `STOWAGE_E2E_NAME`: what the names of the clusters begin with.
`STOWAGE_E2E_KEEP=1`: leave the clusters for a look.
Logs, events, plans and pods of a test that failed are kept in `build/e2e/`.
"""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path

import pytest

import prometheus_scene
from harness.waiting import eventually
from harness.workbench import Workbench
from kind_cluster import KindCluster
from programs import ARTIFACTS, ROOT, missing, run
from release import NAMESPACE, STANDARD, Release
from results_table import Table
from scene import Scene, give_gpus
from serving_scene import ServingScene
from stowage.transport import paths
from stowage.transport.api import Api
from stowage.transport.errors import NotFound
from training_scene import SHARED_ON_NODES, TrainingScene

BUILT_IMAGE = "stowage:e2e"
STAND_IN_IMAGE = "stowage-e2e-stand-in:1"


def pytest_addoption(parser: pytest.Parser) -> None:
    with contextlib.suppress(ValueError):  # tests/faults has it too, when both are asked for
        parser.addoption(
            "--faults", choices=("sample", "all"), default="sample", help="faults to play: a sample, or all"
        )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.kind)
    if config.getoption("--faults") == "all":
        return
    rare = [item for item in items if "rare" in item.keywords]
    config.hook.pytest_deselected(items=rare)
    items[:] = [item for item in items if item not in rare]


@pytest.fixture(scope="session", autouse=True)
def programs() -> None:
    if reasons := missing():
        pytest.exit("end-to-end tests need more: " + "; ".join(reasons), returncode=3)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    release = item.funcargs.get("installed")
    if report.failed and isinstance(release, Release):
        keep_artifacts(release, re.sub(r"\W+", "-", item.name))
    return report


def keep_artifacts(release: Release, name: str) -> None:
    """What one wants to see of a cluster in which something went wrong."""
    folder = ARTIFACTS / name
    folder.mkdir(parents=True, exist_ok=True)
    cluster = release.cluster
    views: dict[str, Callable[[], str]] = {
        "stowage.log": release.logs,
        "events.txt": lambda: cluster.kubectl("get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"),
        "plans.yaml": lambda: cluster.kubectl("get", "packingplans,packingpolicies", "--output", "yaml"),
        "services.yaml": lambda: cluster.kubectl("get", "modelservices", "--all-namespaces", "--output", "yaml"),
        "jobs.yaml": lambda: cluster.kubectl("get", "trainingjobs", "--all-namespaces", "--output", "yaml"),
        "pods.txt": lambda: cluster.kubectl("get", "pods", "--all-namespaces", "--output", "wide"),
        "stowage-pods.txt": lambda: cluster.kubectl("describe", "pods", "--namespace", release.namespace),
    }
    for file, view in views.items():
        try:
            text = view()
        except AssertionError as error:  # a cluster that does not answer shall not hide why the test failed
            text = str(error)
        (folder / file).write_text(text, encoding="utf-8")


@pytest.fixture(scope="session")
def image() -> str:
    """The image under test."""
    given = os.environ.get("STOWAGE_IMAGE")
    if given is None:
        run("make", "image", f"IMAGE={BUILT_IMAGE}", timeout_seconds=900)
    return given or BUILT_IMAGE


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this machine that every node has."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="session")
def start_cluster(
    image: str, shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], KindCluster]]:
    """Start a cluster by the name of its configuration, with the image loaded and GPUs on its workers."""
    started: list[KindCluster] = []

    def start(configuration: str) -> KindCluster:
        name = os.environ.get("STOWAGE_E2E_NAME", f"stowage-e2e-{os.getpid()}")
        cluster = KindCluster(f"{name}-{configuration}", tmp_path_factory.mktemp("kind") / "kubeconfig")
        started.append(cluster)
        cluster.create(configuration, shared, SHARED_ON_NODES)
        cluster.load(image)
        give_gpus(cluster)
        return cluster

    yield start
    for cluster in started:
        if os.environ.get("STOWAGE_E2E_KEEP"):
            print(f"kept: kubectl --kubeconfig {cluster.kubeconfig}; kind delete cluster --name {cluster.name}")
        else:
            cluster.delete()


@pytest.fixture(scope="session")
def cluster(start_cluster: Callable[[str], KindCluster]) -> KindCluster:
    """Four workers, an untouched scheduler, an audit log."""
    cluster = start_cluster("main")
    cluster.scheduler_image_everywhere()
    return cluster


@pytest.fixture(scope="session")
def restricted_namespace(cluster: KindCluster) -> str:
    """The release's namespace, which admits restricted pods only."""
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    return NAMESPACE


@pytest.fixture(scope="session")
def installed(cluster: KindCluster, image: str, restricted_namespace: str) -> Release:
    """The chart with a second scheduler, installed once."""
    release = Release(cluster, image, namespace=restricted_namespace)
    try:
        release.install(**STANDARD)
    except AssertionError:
        keep_artifacts(release, "install")
        raise
    return release


@pytest.fixture
def release(installed: Release) -> Release:
    """The release, as it was installed or as the test before it left it."""
    return installed


@pytest.fixture(scope="module")
def prometheus(cluster: KindCluster) -> Iterator[KindCluster]:
    """The cluster, with a Prometheus in it."""
    prometheus_scene.start(cluster)
    yield cluster
    prometheus_scene.end(cluster)


@pytest.fixture
async def api(cluster: KindCluster) -> AsyncIterator[Api]:
    """An administrator's connection."""
    async with await Api.connect(kubeconfig=str(cluster.kubeconfig), user_agent="stowage-e2e") as connected:
        yield connected


@pytest.fixture
async def workbench(api: Api) -> AsyncIterator[Workbench]:
    """A namespace of the test's own."""
    namespace = f"t-{uuid.uuid4().hex[:6]}"
    await api.create(paths.NAMESPACES, {"metadata": {"name": namespace}})

    async def account() -> bool:  # without it no pod is admitted
        try:
            await api.get(f"/api/v1/namespaces/{namespace}/serviceaccounts/default")
        except NotFound:
            return False
        return True

    await eventually(account, what="the namespace has its service account")
    bench = Workbench(api, namespace)
    yield bench
    await bench.clear()


@pytest.fixture
async def scene(cluster: KindCluster, workbench: Workbench) -> AsyncIterator[Scene]:
    """A story on the workers, told under the scheduler `stowage` unless the test says otherwise."""
    made = Scene(workbench, cluster)
    yield made
    await made.end()


@pytest.fixture
async def training(release: Release, workbench: Workbench, shared: Path, image: str) -> AsyncIterator[TrainingScene]:
    """A namespace for training jobs, with a folder that their pods share."""
    folder = shared / workbench.namespace
    folder.mkdir()
    made = TrainingScene(workbench, release, folder, image)
    yield made
    await made.end()


@pytest.fixture(scope="session")
def serving_table() -> Iterator[Table]:
    """What stories of services cost."""
    made = Table("serving")
    yield made
    made.write(ARTIFACTS)


@pytest.fixture(scope="session")
def stand_in_image(cluster: KindCluster, image: str) -> str:
    """Engines without a model, and clients."""
    build = ("--build-arg", f"BASE_IMAGE={image}", "--file", ROOT / "e2e" / "stand_in_image" / "Dockerfile")
    run("docker", "build", "--network", "host", "--tag", STAND_IN_IMAGE, *build, ROOT / "e2e", timeout_seconds=900)
    cluster.load(STAND_IN_IMAGE)
    return STAND_IN_IMAGE


@pytest.fixture(scope="module")
def asking(installed: Release, prometheus: KindCluster) -> Iterator[Release]:
    """The release, which asks the cluster's Prometheus."""
    endpoints = [{"name": "default", "url": prometheus_scene.URL}]
    installed.install(**STANDARD, prometheus__endpoints=endpoints)
    yield installed
    installed.install(**STANDARD, prometheus__endpoints=[])
    assert prometheus is installed.cluster


@pytest.fixture
async def serving(asking: Release, workbench: Workbench, stand_in_image: str) -> AsyncIterator[ServingScene]:
    """A namespace for model services."""
    made = ServingScene(workbench, asking, stand_in_image, prometheus_scene.node(asking.cluster))
    yield made
    await made.end()
