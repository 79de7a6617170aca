"""Reflectors, doorbell and lease on a real API server, also behind a connection that breaks."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from harness.waiting import PATIENCE_SECONDS, eventually
from harness.workbench import Workbench
from stowage.demo.local_cluster import LocalCluster
from stowage.observe.store import Store
from stowage.run.doorbell import Doorbell, DoorbellStopped
from stowage.run.lease import Lease
from stowage.transport import Api, paths
from stowage_scheduler.cluster import Workload

Truth = Callable[[], bool]


async def until(truth: Truth, what: str) -> None:
    async def condition() -> bool:
        return truth()

    await eventually(condition, what=what)


@contextlib.asynccontextmanager
async def running(*parts: Any) -> AsyncIterator[None]:
    """Run coroutines beside the block; one that fails fails the block."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(part) for part in parts]
        yield
        for task in tasks:
            task.cancel()


@contextlib.asynccontextmanager
async def followed(api: Api) -> AsyncIterator[Store]:
    """A store, synced with the cluster."""
    store = Store(now=time.time)  # noqa: TID251
    reflectors = store.reflectors(api, clock=time.monotonic, generator=random.Random(1))  # noqa: TID251
    async with running(*(reflector.run() for reflector in reflectors.values())):
        await asyncio.wait_for(store.wait_synced(), PATIENCE_SECONDS)
        yield store


class CuttableProxy:
    """Forwards TCP to the API server until it is cut: then connections break and new ones are refused."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Transport] = set()
        self.port = 0

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for transport in list(self._open):
            transport.abort()
        await self._server.wait_closed()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self._target)
        writers = (writer, there_writer)
        self._open |= {one.transport for one in writers}

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            sink.transport.abort()

        await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))
        self._open -= {one.transport for one in writers}


def read_kubeconfig(cluster: LocalCluster) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(cluster.kubeconfig.read_text())
    return document


@pytest.fixture
async def proxy(cluster: LocalCluster) -> AsyncIterator[CuttableProxy]:
    kubeconfig = read_kubeconfig(cluster)
    server = urlsplit(kubeconfig["clusters"][0]["cluster"]["server"])
    assert server.hostname is not None
    assert server.port is not None
    one = CuttableProxy(server.hostname, server.port)
    await one.mend()
    yield one
    await one.cut()


@pytest.fixture
async def proxied(proxy: CuttableProxy, cluster: LocalCluster, tmp_path: Path) -> AsyncIterator[Api]:
    """The API server, through the proxy."""
    kubeconfig = read_kubeconfig(cluster)
    for entry in kubeconfig["clusters"]:
        scheme = urlsplit(entry["cluster"]["server"]).scheme
        entry["cluster"]["server"] = f"{scheme}://127.0.0.1:{proxy.port}"
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(kubeconfig))
    async with await Api.connect(kubeconfig=str(path), user_agent="stowage-test") as api:
        yield api


async def test_the_store_follows_what_is_made_changed_and_deleted(api: Api, workbench: Workbench) -> None:
    async with followed(api) as store:
        (node,) = await workbench.nodes(1, cpu="8")
        await until(lambda: node in store.nodes and store.nodes[node].ready, "the node is known and ready")
        assert store.nodes[node].allocatable["cpu"] == 8000

        name = await workbench.replica_set("web", 2, cpu="500m", scheduler_name="default-scheduler")
        await workbench.until_ready("web", 2)

        def bound() -> list[str]:
            return [key for key, pod in store.pods.items() if pod.namespace == workbench.namespace and pod.node]

        await until(lambda: len(bound()) == 2, "both pods are known to be bound")
        pod = store.pods[bound()[0]]
        assert (pod.requests["cpu"], pod.owner and pod.owner.name, pod.node) == (500, name, node)

        async def owner_of(replicas: int) -> Workload:  # each kind has a watch of its own
            found = store.workload("ReplicaSet", workbench.namespace, name)
            assert found is not None
            assert found.replicas == replicas
            return found

        before = await eventually(lambda: owner_of(2), what="their owner is known")
        assert before.replicas_changed_at is None
        scaled_at = time.time()  # noqa: TID251
        await workbench.scale(paths.REPLICA_SETS, name, 1)
        await until(lambda: len(bound()) == 1, "the pod that was deleted is gone")
        after = await eventually(lambda: owner_of(1), what="their owner's new size is known")
        assert after.replicas_changed_at is not None
        assert scaled_at <= after.replicas_changed_at <= time.time()  # noqa: TID251

        snapshot = store.snapshot(time.time())  # noqa: TID251
        assert {one.key for one in snapshot.pods} >= set(bound())
        assert workbench.namespace in snapshot.namespace_labels
        assert max(store.ages_seconds(time.monotonic()).values()) < 70  # noqa: TID251


async def test_changes_during_a_broken_connection_are_not_missed(
    api: Api, workbench: Workbench, proxy: CuttableProxy, proxied: Api
) -> None:
    old = await workbench.priority_class(f"old-{workbench.namespace}", 1)
    async with followed(proxied) as store:

        def names() -> set[str]:
            return {one.name for one in store.snapshot(0.0).priority_classes}

        assert old in names()
        await proxy.cut()
        new = await workbench.priority_class(f"new-{workbench.namespace}", 2)
        await api.delete(paths.named(paths.PRIORITY_CLASSES, old))
        await proxy.mend()
        await until(lambda: new in names() and old not in names(), "both changes are seen")
        assert store.lists()["PriorityClass"] == 1  # the watch was resumed: no list was needed


async def test_a_list_in_small_chunks_equals_the_cluster(
    api: Api, workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stowage.observe.reflector.CHUNK", 2)
    made = {await workbench.priority_class(f"p{number}-{workbench.namespace}", number) for number in range(7)}
    async with followed(api) as store:
        assert made <= {one.name for one in store.snapshot(0.0).priority_classes}


async def test_the_doorbell_rings_for_policies_and_writes_nothing(api: Api, workbench: Workbench) -> None:
    rung: list[tuple[str, str, bool]] = []
    name = f"p-{workbench.namespace}"
    async with running(Doorbell(api, lambda *ring: rung.append(ring)).run()):
        await workbench.create(paths.PACKING_POLICIES, {**policy(name), "spec": {"paused": True}})
        await until(lambda: ("policy", name, False) in rung, "a ring for the new policy")
        before = await api.get(paths.packing_policy(name))
        await api.merge_patch(paths.packing_policy(name), {"spec": {"paused": False}})
        await until(lambda: rung.count(("policy", name, False)) >= 2, "a ring for the change")
        after = await api.get(paths.packing_policy(name))
        await api.delete(paths.packing_policy(name))
        await until(lambda: ("policy", name, True) in rung, "a ring for the deletion")
    assert "finalizers" not in before["metadata"]
    assert "annotations" not in before["metadata"]
    assert {entry["manager"] for entry in after["metadata"]["managedFields"]} == {"stowage-test"}


def policy(name: str) -> dict[str, Any]:
    return {"apiVersion": "stowage.dev/v1alpha1", "kind": "PackingPolicy", "metadata": {"name": name}}


async def test_a_doorbell_whose_kopf_ends_says_so(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ends(**_: Any) -> None:
        return

    monkeypatch.setattr("kopf.operator", ends)
    with pytest.raises(DoorbellStopped, match="kopf ended"):
        await Doorbell(api, lambda *_: None).run()


async def test_the_lease_passes_on_with_a_higher_epoch(api: Api) -> None:
    name = f"stowage-test-{uuid.uuid4().hex[:8]}"

    def candidate(identity: str) -> Lease:
        return Lease(
            api,
            namespace="kube-system",
            name=name,
            identity=identity,
            clock=time.monotonic,  # noqa: TID251
            now=time.time,  # noqa: TID251
            generator=random.Random(1),
        )

    first, second = candidate("a"), candidate("b")
    async with running(first.run()):
        await asyncio.wait_for(first.wait_leading(), PATIENCE_SECONDS)
        async with running(second.run()):
            assert not second.leading
            spec = (await api.get(paths.lease("kube-system", name)))["spec"]
            assert (spec["holderIdentity"], spec["leaseTransitions"]) == (first.identity, 1)
    released = (await api.get(paths.lease("kube-system", name)))["spec"]
    assert not released.get("holderIdentity")
    third = candidate("a")
    async with running(third.run()):
        await asyncio.wait_for(third.wait_leading(), PATIENCE_SECONDS)
        assert third.epoch == 2
    await api.delete(paths.lease("kube-system", name))
