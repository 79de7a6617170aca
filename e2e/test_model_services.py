"""Services under load on real kubelets: replicas follow it, and no planned change loses a request.

`--faults=all` plays every story; otherwise a sample. What each cost is kept in `build/e2e/serving.md`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Iterator

import pytest

import prometheus_scene
from harness.waiting import always, eventually
from harness.workbench import Workbench
from kind_cluster import KindCluster
from programs import ARTIFACTS, ROOT, run
from release import STANDARD, Release
from serving_scene import SLOWLY_SECONDS, Answers, Load, Service, ServingScene
from serving_table import Row, Table

STAND_IN_IMAGE = "stowage-e2e-stand-in:1"
rare = pytest.mark.rare


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    made = Table()
    yield made
    made.write(ARTIFACTS)


@pytest.fixture(scope="module")
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
    made = ServingScene(workbench, asking, stand_in_image, prometheus_scene.node(asking.cluster))
    yield made
    await made.end()


def seconds() -> float:
    return time.monotonic()  # noqa: TID251


def row(story: str, load: Load, replicas: str, answers: Answers, settled: float | None, end: str = "settled") -> Row:
    return Row(
        story=story,
        load=load.about,
        replicas=replicas,
        requests=answers.summary["requests"],
        lost=answers.lost,
        ttft_p99_seconds=answers.p99("ttft_seconds"),
        itl_p99_seconds=answers.p99("itl_seconds"),
        attainment=answers.summary["attainment"],
        settled_seconds=settled,
        end=end,
    )


async def most_desired(service: Service, load: Load) -> int:
    """The most replicas that the service shall have while a load lasts."""
    most = 0

    async def ended() -> bool:
        nonlocal most
        most = max(most, (await service.role()).get("desired", 0))
        await load.until("Succeeded", "Failed", timeout_seconds=0.0)
        return True

    await eventually(ended, timeout_seconds=3 * SLOWLY_SECONDS, what=f"{load.name} has ended")
    return most


# --- the load changes ---


@pytest.mark.parametrize(
    ("shape", "length", "low", "high", "falls"),
    [
        pytest.param("ramp", 45.0, 1.0, 10.0, False, id="a ramp"),
        pytest.param("ramp", 120.0, 1.0, 12.0, True, id="a ramp, and then nothing", marks=rare),
        pytest.param("spike", 150.0, 1.0, 12.0, True, id="a spike, and then nothing", marks=rare),
    ],
)
async def test_replicas_follow_the_load(
    serving: ServingScene, table: Table, shape: str, length: float, low: float, high: float, falls: bool
) -> None:
    service = await serving.begin("chat", [serving.role(1, 6)])
    load = await serving.load(service.url, shape, seconds=length, low=low, high=high)
    most = await most_desired(service, load)
    ended = seconds()
    answers = await load.answers()
    assert most >= 2, answers.summary
    assert answers.lost == 0, answers.summary
    if falls:  # a service is young for three minutes, and what it needs little known
        await service.until_settled(1, timeout_seconds=2 * SLOWLY_SECONDS)
    replicas = f"1 → {most} → 1" if falls else f"1 → {most}"
    table.add(row(shape, load, replicas, answers, seconds() - ended if falls else None))


# --- people change the service ---


async def test_planned_changes_under_load_lose_no_request(serving: ServingScene, table: Table) -> None:
    """A new version, and replicas set by hand: more, fewer, and not any more."""
    service = await serving.begin("chat", [serving.role(2, 4)])
    load = await serving.load(service.url, "steady", seconds=75.0, high=2.0)
    before = {pod["metadata"]["uid"] for pod in await service.pods()}
    began = seconds()
    await service.patch({"roles": [serving.role(2, 4, "--metric-names", "both")]})

    async def replaced() -> bool:
        assert not before & {pod["metadata"]["uid"] for pod in await service.pods()}
        return True

    await eventually(replaced, timeout_seconds=SLOWLY_SECONDS, what="every replica is a new one")
    rolled_out = seconds() - began
    for count in (4, 2):
        serving.cluster.kubectl(
            "scale", "modelservice/chat", f"--replicas={count}", "--namespace", serving.bench.namespace
        )
        await service.until_settled(count)
        assert (await service.condition("Scaling"))["reason"] == "ManualOverride"
    settled = seconds() - began
    answers = await load.answers()
    await service.patch({"replicas": None})

    async def follows() -> bool:
        scaling = await service.condition("Scaling")
        assert scaling["reason"] != "ManualOverride", scaling
        return True

    await eventually(follows, what="replicas follow the load again")
    note = f"a new version ({rolled_out:.0f} s), then replicas by hand"
    table.add(row(note, load, "2 → 4 → 2", answers, settled))
    assert answers.lost == 0, answers.summary


# --- nodes ---


async def a_node_of(service: Service) -> str:
    """One with a replica, and with nobody whom the story needs."""
    scene = service.scene
    needed = {
        scene.load_node,
        prometheus_scene.node(scene.cluster),
        *scene.release.nodes_of("operator").values(),
    }
    free = sorted(await service.nodes() - needed)
    assert free, "every replica stands beside somebody who is needed"
    return free[0]


@rare
async def test_a_node_is_drained_under_load(serving: ServingScene, table: Table) -> None:
    service = await serving.begin("chat", [serving.role(4, 6)])
    load = await serving.load(service.url, "steady", seconds=60.0, high=4.0)
    node = await a_node_of(service)
    began = seconds()
    try:
        serving.cluster.kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s")
        await service.until_settled(4)
        settled = seconds() - began
        assert node not in await service.nodes()
        answers = await load.answers()
    finally:
        serving.cluster.kubectl("uncordon", node)
    table.add(row("kubectl drain", load, "4", answers, settled))
    assert answers.lost == 0, answers.summary


@rare
async def test_a_node_is_lost(serving: ServingScene, table: Table) -> None:
    cluster = serving.cluster
    service = await serving.begin("chat", [serving.role(4, 6)])
    node = await a_node_of(service)
    load = await serving.load(service.url, "steady", seconds=150.0, high=4.0, patience_seconds="30")
    began = seconds()
    with paused(cluster, node):

        async def elsewhere() -> bool:
            role = await service.role()
            assert role.get("ready", 0) >= 4, role
            ready = {pod["spec"]["nodeName"] for pod in await service.pods() if pod["status"]["phase"] == "Running"}
            assert node not in ready, ready
            return True

        await eventually(elsewhere, timeout_seconds=2 * SLOWLY_SECONDS, what="four replicas answer on other nodes")
        settled = seconds() - began
        after = await serving.load(service.url, "steady", seconds=10.0, high=4.0)
        assert (await after.answers()).lost == 0
        answers = await load.answers()
    cluster.wait("condition=Ready", f"node/{node}")
    await service.until_settled(4)
    table.add(row("node lost", load, "4", answers, settled, "as many replicas, on other nodes"))


@contextlib.contextmanager
def paused(cluster: KindCluster, node: str) -> Iterator[None]:
    cluster.pause(node)
    try:
        yield
    finally:
        cluster.unpause(node)


# --- signals ---


@rare
async def test_metrics_are_away_while_the_load_falls(serving: ServingScene, table: Table) -> None:
    """Replicas stay as long as nobody knows; with the first samples they go."""
    service = await serving.begin("chat", [serving.role(1, 6)])
    load = await serving.load(service.url, "steady", seconds=45.0, high=8.0)
    role = await service.until(lambda role: role.get("ready", 0) >= 2, "has grown")
    with prometheus_away(serving.cluster):

        async def told() -> bool:
            observed = await service.condition("Observed")
            assert observed.get("status") == "False", observed
            assert observed["reason"] in {"PrometheusUnreachable", "SignalsStale"}, observed
            return True

        await eventually(told, timeout_seconds=SLOWLY_SECONDS, what="the service says that it sees nothing")
        held = (await service.role())["desired"]
        answers = await load.answers()

        async def stays() -> bool:
            return bool((await service.role())["desired"] >= held)

        await always(stays, for_seconds=30.0)
    began = seconds()
    await service.until_settled(1, timeout_seconds=2 * SLOWLY_SECONDS)
    story = "Prometheus away, then nothing to do"
    table.add(row(story, load, f"1 → {max(held, role['desired'])} → 1", answers, seconds() - began))
    assert answers.lost == 0, answers.summary


@contextlib.contextmanager
def prometheus_away(cluster: KindCluster) -> Iterator[None]:
    """It hangs, as in a stall of its node's disk, and goes on with what it knew."""
    node = prometheus_scene.node(cluster)
    cluster.signal(node, "STOP", prometheus_scene.PROCESS)
    try:
        yield
    finally:
        cluster.signal(node, "CONT", prometheus_scene.PROCESS)
        cluster.wait("condition=Ready", "pod/prometheus")


# --- prefill and decode apart ---


@rare
async def test_a_pair_follows_the_load_together(serving: ServingScene, table: Table) -> None:
    roles = [
        serving.role(1, 3, "--role", "prefill", name="prefill"),
        serving.role(1, 6, "--role", "decode", name="decode"),
    ]
    service = await serving.begin("pair", roles, ratio={"prefill": 1, "decode": 2, "tolerance": "0.5"})
    load = await serving.load(
        service.role_url("decode"), "ramp", seconds=90.0, low=1.0, high=10.0, prefill_url=service.role_url("prefill")
    )
    await service.until(lambda role: role.get("ready", 0) >= 2, "decode has grown", role="decode")
    counts = {name: (await service.role(name))["desired"] for name in ("prefill", "decode")}
    assert 1.0 <= counts["decode"] / counts["prefill"] <= 3.0, counts
    answers = await load.answers()
    ended = seconds()
    for name in ("prefill", "decode"):
        await service.until_settled(1, name, timeout_seconds=2 * SLOWLY_SECONDS)
    grown = f"{counts['prefill']}+{counts['decode']}"
    table.add(row("prefill and decode", load, f"1+1 → {grown} → 1+1", answers, seconds() - ended))
    assert answers.lost == 0, answers.summary
