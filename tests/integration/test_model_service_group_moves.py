"""Replicas of several pods that are planned to go, or to be of one pod again: none goes before another one answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Self

import msgspec
import pytest

from harness.model_service import Service
from harness.waiting import POLL_SECONDS, eventually
from harness.workbench import Document, Workbench, is_ready
from stowage.decide.serving.service_facts import DRAINING_SINCE_ANNOTATION, seconds_of
from stowage.transport import NotFound, TooManyRequests, paths

TAKES = "stowage.dev/takes-requests"
INDEX = "stowage.dev/group-index"
DRAIN_SECONDS = 4.0
REPLICAS = 2

pytestmark = pytest.mark.usefixtures("operator_for_all")


@pytest.fixture
async def service(workbench: Workbench) -> AsyncIterator[Service]:
    made = Service(workbench)
    yield made
    await made.delete()


def variant(service: Service, **fields: Any) -> Document:
    """Each pod takes more than half a node."""
    engine = {"name": "engine", "image": "vllm:1", "resources": {"requests": {"cpu": "5"}}}
    spec = {"containers": [engine], "nodeSelector": {"story": service.bench.namespace}}
    return {"template": {"spec": {**spec, "terminationGracePeriodSeconds": 1}}, **fields}


class Watch:
    """Looks at a service all the time, as its clients would, until the block ends.

    Attributes:
        least: pods behind its Service that were ready, at the look that saw fewest.
        undrained: pods that were deleted while they took requests; by events, for a look may come too late for some.
    """

    def __init__(self, service: Service) -> None:
        self.least = REPLICAS
        self.undrained: set[str] = set()
        self._service = service
        self._stay: set[str] = set()
        self._over = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._look()), asyncio.create_task(self._follow())]
        return self

    async def __aexit__(self, *_: object) -> None:
        look, follow = self._tasks
        self._over.set()
        await look

        async def all_seen() -> bool:
            assert not follow.done(), follow
            return self._stay == set(await self._service.pods())

        await eventually(all_seen, what="the watch has told of all pods")
        follow.cancel()
        await asyncio.gather(follow, return_exceptions=True)

    async def _look(self) -> None:
        while not self._over.is_set():
            pods = await self._service.pods()
            selector = (await self._service.child(paths.SERVICES, self._service.name))["spec"]["selector"]
            behind = [one for one in pods.values() if selector.items() <= one["metadata"]["labels"].items()]
            self.least = min(self.least, sum(map(is_ready, behind)))
            await asyncio.sleep(POLL_SECONDS)

    async def _follow(self) -> None:
        bench = self._service.bench
        query = {"labelSelector": f"stowage.dev/service={self._service.name},stowage.dev/variant"}
        pods = bench.api.watch(paths.in_namespace(paths.PODS, bench.namespace), {**query, "timeoutSeconds": "900"})
        async with contextlib.aclosing(pods) as lines:
            async for line in lines:
                event = msgspec.json.decode(line)
                if event["type"] in {"ADDED", "MODIFIED", "DELETED"}:
                    self._see(event["object"], is_gone=event["type"] == "DELETED")

    def _see(self, pod: Document, *, is_gone: bool) -> None:
        name = pod["metadata"]["name"]
        if not is_gone and "deletionTimestamp" not in pod["metadata"]:
            self._stay.add(name)
        elif name in self._stay:
            self._stay.remove(name)
            if _drained_seconds(pod) < DRAIN_SECONDS - 1:
                self.undrained.add(name)


def _drained_seconds(pod: Document) -> float:
    """For how long a pod had been without new requests when it was deleted; workers have none. In whole seconds."""
    metadata = pod["metadata"]
    if metadata["labels"].get(INDEX, "0") != "0":
        return DRAIN_SECONDS
    since = seconds_of((metadata.get("annotations") or {}).get(DRAINING_SINCE_ANNOTATION))
    ends = seconds_of(metadata.get("deletionTimestamp"))
    if since is None or ends is None:
        return 0.0
    return ends - metadata["deletionGracePeriodSeconds"] - since


async def test_a_variant_that_becomes_groups_and_back_always_answers(service: Service) -> None:
    bench = service.bench
    await bench.nodes(REPLICAS + 3, cpu="8", labels={"story": bench.namespace})
    scaling = {"scaleDown": {"drainDeadline": f"{DRAIN_SECONDS:g}s"}}
    await service.apply(roles=[{"variants": [variant(service)]}], replicas=REPLICAS, scaling=scaling)
    await service.until_ready(REPLICAS)

    async def rests(pods_each: int) -> bool:
        pods, status = await service.pods(), await service.status()
        assert len(pods) == REPLICAS * pods_each, (sorted(pods), status)
        assert all(map(is_ready, pods.values())), sorted(pods)
        assert (status["desiredReplicas"], status["readyReplicas"]) == (REPLICAS, REPLICAS), status
        (told,) = status["roles"][0]["variants"]
        assert (told["desired"], told["ready"], len(told.get("groups", []))) == (
            REPLICAS,
            REPLICAS,
            REPLICAS if pods_each > 1 else 0,
        ), told
        names = {name.rpartition("/")[2] for name in await service.versions() if "/pods/" not in name}
        of_groups = {"chat--groups", "chat-unified.groups"}
        assert of_groups & names == (of_groups if pods_each > 1 else set()), names
        assert ("chat-unified-default" in names) == (pods_each == 1), names
        return True

    async with Watch(service) as watch:
        await service.set_spec(roles=[{"variants": [variant(service, group={"size": 2})]}])
        await eventually(lambda: rests(2), timeout_seconds=150, what="both replicas are groups")
        await service.until_condition("Available", "True", "ReplicasReady")
        await service.set_spec(roles=[{"variants": [variant(service)]}])
        await eventually(lambda: rests(1), timeout_seconds=150, what="both replicas are the Deployment's")
        await service.until_condition("Available", "True", "ReplicasReady")
    assert (watch.least, watch.undrained) == (REPLICAS, set())
    with pytest.raises(NotFound):
        await service.child(paths.DISRUPTION_BUDGETS, "chat-unified.groups")


async def test_a_drained_node_gives_up_its_replica_once_another_one_answers(service: Service) -> None:
    """As `kubectl drain` does it: a cordon, and evictions again and again until no pod is left there."""
    bench = service.bench
    await bench.nodes(2 * (REPLICAS + 1), cpu="8", labels={"story": bench.namespace})
    scaling = {"scaleDown": {"drainDeadline": f"{DRAIN_SECONDS:g}s"}}
    roles = [{"variants": [variant(service, group={"size": 2})]}]
    await service.apply(roles=roles, replicas=REPLICAS, scaling=scaling)

    async def all_ready() -> dict[str, Document]:
        pods = await service.pods()
        assert len(pods) == 2 * REPLICAS, sorted(pods)
        assert all(map(is_ready, pods.values())), sorted(pods)
        budget = await service.child(paths.DISRUPTION_BUDGETS, "chat-unified.groups")
        assert budget["status"]["currentHealthy"] == len(pods), budget["status"]
        return pods

    before = await eventually(all_ready, what="both replicas are there")
    node = before["chat-unified-default-0-0-1"]["spec"]["nodeName"]
    refused: list[str] = []

    async def is_empty() -> bool:
        found = await bench.api.get(paths.PODS, {"fieldSelector": f"spec.nodeName={node}"})
        for one in found["items"]:
            name = one["metadata"]["name"]
            metadata = {"name": name, "namespace": bench.namespace}
            eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
            try:
                await bench.api.create(paths.eviction(bench.namespace, name), eviction)
            except TooManyRequests:
                refused.append(name)
            except NotFound:  # gone meanwhile
                continue
        return not found["items"]

    async with Watch(service) as watch:
        assert not await is_empty(), "who serves is not evicted"  # before anything moves, however long that takes
        await bench.api.merge_patch(paths.node(node), {"spec": {"unschedulable": True}})
        await eventually(is_empty, timeout_seconds=120, what="the node is drained")
        after = await eventually(all_ready, what="both replicas are there")
    assert {*refused} == {"chat-unified-default-0-0-1"}
    assert (watch.least, watch.undrained) == (REPLICAS, set())
    assert {name.split("-")[3] for name in after} == {"1", "2"}, "the other replica stayed as it was"
