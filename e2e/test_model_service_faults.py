"""Nodes, signals, images and quotas fail under a service on real kubelets: nothing falls for that, and it is told.

All of them are played with `--faults=all` only. What each cost is kept in `build/e2e/serving.md`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import prometheus_scene
from harness.waiting import always, eventually
from harness.workbench import is_ready
from kind_cluster import KindCluster
from results_table import Table
from serving_answers import row
from serving_scene import FORGOTTEN_SECONDS, SLOWLY_SECONDS, Service, ServingScene, brief, seconds
from serving_watch import watched
from stowage.transport import paths

pytestmark = pytest.mark.rare


async def told(service: Service, kind: str, reasons: set[str], *words: str) -> str:
    """Wait until a condition has one of the reasons, and these words in its message; the message."""

    async def there() -> str:
        found = await service.condition(kind)
        assert found.get("reason") in reasons, brief(await service.status())
        assert all(word in found["message"] for word in words), found
        return str(found["message"]) or "none"

    what = f"{service.name}: {kind} is {' or '.join(sorted(reasons))}"
    return await eventually(there, timeout_seconds=SLOWLY_SECONDS, what=what)


# --- nodes ---


async def test_a_node_is_lost(serving: ServingScene, serving_table: Table) -> None:
    """Replicas there are replaced; what its proxies' peers still send there is lost, and nothing after that."""
    cluster = serving.cluster
    service = await serving.begin("chat", [serving.role(4, 8)])
    node = await serving.a_node_of(service)
    load = await serving.load(service.url, "steady", seconds=120.0, high=4.0, patience_seconds="30")
    await told(service, "Observed", {"SignalsFresh"})
    async with watched(service) as seen:
        began = seconds()
        with paused(cluster, node):
            away = [pod["metadata"]["name"] for pod in await service.pods() if pod["spec"]["nodeName"] == node]
            await told(service, "Observed", {"SignalsMissing", "SignalsStale"}, away[0])
            await service.until(lambda role: role["ready"] < 4, "its loss is seen")
            forgotten_at = time.time() + FORGOTTEN_SECONDS  # noqa: TID251

            async def elsewhere() -> bool:
                role = await service.role()
                assert role["ready"] >= 4, role
                assert node not in {pod["spec"].get("nodeName") for pod in await service.pods() if is_ready(pod)}
                return True

            await eventually(elsewhere, timeout_seconds=SLOWLY_SECONDS, what="four replicas answer on other nodes")
            settled = seconds() - began
            answers = await load.answers()
        cluster.wait("condition=Ready", f"node/{node}")
        await service.until(lambda role: role["ready"] == role["desired"], "has all its replicas")
    serving_table.add(row("a node is lost", load.about, "4, on other nodes", answers, settled))
    assert not seen.falls("unified"), seen.counts
    assert seen.most("unified") <= 6, seen.counts
    assert all(at < forgotten_at for at in answers.lost_at()), (forgotten_at, answers.lost_at())
    assert answers.lost <= answers.summary["requests"] / 5, answers.summary


@contextlib.contextmanager
def paused(cluster: KindCluster, node: str) -> Iterator[None]:
    cluster.pause(node)
    try:
        yield
    finally:
        cluster.unpause(node)


# --- signals ---


async def test_prometheus_hangs_while_the_load_ends(serving: ServingScene, serving_table: Table) -> None:
    """Replicas stay as long as nobody knows; once somebody does, they go."""
    service = await serving.begin("chat", [serving.role(1, 6)])
    load = await serving.load(service.url, "steady", seconds=45.0, high=8.0)
    await service.until(lambda role: role.get("ready", 0) >= 2, "has grown")
    async with watched(service) as seen:
        with prometheus_hangs(serving.cluster):
            await told(service, "Observed", {"PrometheusUnreachable", "SignalsStale"})
            answers = await load.answers()
            held = await stays(service)
            assert not seen.falls("unified"), seen.counts
        settled = await until_fewer(service, held)
    story = "Prometheus hangs while the load ends"
    serving_table.add(row(story, load.about, f"1 → {held}, and fewer after it", answers, settled))
    assert answers.lost == 0, answers.summary
    assert seen.is_one_hill("unified"), seen.counts


async def test_half_of_the_targets_are_gone_while_the_load_ends(serving: ServingScene, serving_table: Table) -> None:
    """What is left to see looks like half of the load, and then like none. Long enough, so that it could fall."""
    service = await serving.begin("chat", [serving.role(4, 6)])
    await service.patch({"roles": [serving.role(1, 6)]})
    first = await serving.load(service.url, "steady", seconds=190.0, high=8.0)
    before = await first.answers()
    load = await serving.load(service.url, "steady", seconds=30.0, high=8.0, seed="2")
    ready = [pod["metadata"]["name"] for pod in await service.pods() if is_ready(pod)]
    async with not_scraped(serving, ready[::2]):
        await told(service, "Observed", {"SignalsMissing", "SignalsStale"})
        async with watched(service) as seen:
            answers = before.beside(await load.answers())
            held = await stays(service)
        assert not seen.falls("unified"), seen.counts
    settled = await until_fewer(service, held)
    story = "half of the targets are gone while the load ends"
    serving_table.add(row(story, load.about, f"{held}, and fewer after it", answers, settled))
    assert answers.lost == 0, answers.summary
    assert held >= 2, seen.counts


async def stays(service: Service) -> int:
    """Replicas that the service goes on asking for, at least."""
    held = int((await service.role())["desired"])

    async def at_least() -> bool:
        return bool((await service.role())["desired"] >= held)

    await always(at_least, for_seconds=30.0)
    return held


async def until_fewer(service: Service, held: int) -> float:
    """Seconds until it asks for fewer."""
    began = seconds()
    await service.until(lambda role: role["desired"] < held, "asks for fewer")
    return seconds() - began


@contextlib.contextmanager
def prometheus_hangs(cluster: KindCluster) -> Iterator[None]:
    """As in a stall of its node's disk; it goes on with what it knew."""
    node = prometheus_scene.node(cluster)
    cluster.signal(node, "STOP", prometheus_scene.PROCESS)
    try:
        yield
    finally:
        cluster.signal(node, "CONT", prometheus_scene.PROCESS)
        cluster.wait("condition=Ready", "pod/prometheus")


@contextlib.asynccontextmanager
async def not_scraped(serving: ServingScene, names: list[str]) -> AsyncIterator[None]:
    """Prometheus does not find some pods any more, and then it does."""

    async def write(value: str) -> None:
        for name in names:
            annotation = {"metadata": {"annotations": {"prometheus.io/scrape": value}}}
            await serving.bench.api.merge_patch(paths.pod(serving.bench.namespace, name), annotation)

    await write("false")
    try:
        yield
    finally:
        await write("true")


# --- replicas that can not start ---


@pytest.mark.parametrize(
    ("arguments", "more", "words"),
    [
        pytest.param((), {"image": "stowage-e2e-stand-in:missing"}, ("ImagePull",), id="its image is missing"),
        pytest.param(("--profile", "/nowhere"), {}, ("CrashLoopBackOff", "restarts"), id="it crashes"),
    ],
)
async def test_a_version_that_can_not_start(
    serving: ServingScene,
    serving_table: Table,
    request: pytest.FixtureRequest,
    arguments: tuple[str, ...],
    more: dict[str, Any],
    words: tuple[str, ...],
) -> None:
    """The old one answers on, and the service says what is wrong; a version that starts ends it."""
    service = await serving.begin("chat", [serving.role(2, 2)])
    old = {pod["metadata"]["uid"] for pod in await service.pods()}
    load = await serving.load(service.url, "steady", seconds=75.0, high=3.0)
    async with watched(service) as seen:
        await service.patch({"roles": [serving.role(2, 2, *arguments, **more)]})
        message = await told(service, "Available", {"ReplicasFailing"})
        assert any(word in message for word in words), message
        assert (await service.condition("Available"))["status"] == "True"
        assert (await service.status())["reason"] == "ReplicasFailing"
        assert old <= {pod["metadata"]["uid"] for pod in await service.pods() if is_ready(pod)}
        began = seconds()
        await service.patch({"roles": [serving.role(2, 2, "--metric-names", "both")]})
        await service.until_settled(2)
        settled = seconds() - began
        await told(service, "Available", {"ReplicasReady"})
        answers = await load.answers()
    story = f"a new version: {request.node.callspec.id}, then one that starts"
    serving_table.add(row(story, load.about, "2", answers, settled))
    assert answers.lost == 0, answers.summary
    assert seen.of("unified") == [2], seen.counts


async def test_a_quota_is_full(serving: ServingScene, serving_table: Table) -> None:
    """The load asks for more than the namespace may have: it says so, and grows once there is room."""
    quotas = f"/api/v1/namespaces/{serving.bench.namespace}/resourcequotas"
    hard = {"spec": {"hard": {"requests.nvidia.com/gpu": "2"}}}
    await serving.bench.api.create(quotas, {"metadata": {"name": "gpus"}, **hard})
    service = await serving.begin("chat", [serving.role(2, 6)])
    load = await serving.load(service.url, "steady", seconds=60.0, high=10.0)
    async with watched(service) as seen:
        await told(service, "Available", {"QuotaFull"}, "exceeded quota: gpus")
        await service.until(lambda role: role["reason"] == "QuotaReached", "asks for no more than the quota allows")
        began = seconds()
        await serving.bench.api.merge_patch(f"{quotas}/gpus", {"spec": {"hard": {"requests.nvidia.com/gpu": "8"}}})
        role = await service.until(lambda role: role["ready"] >= 3, "has grown")
        settled = seconds() - began
        answers = await load.answers()
    counts = f"2 → {max(role['ready'], seen.most('unified'))}"
    serving_table.add(row("a quota is full, then not any more", load.about, counts, answers, settled))
    assert answers.lost == 0, answers.summary
    assert not seen.falls("unified"), seen.counts
