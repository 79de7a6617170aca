"""Replicas of several pods that are planned to go, or to be of one pod again: none goes before another one answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, Self

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
    """Looks at a service all the time, as its clients would, until the block ends."""

    def __init__(self, service: Service) -> None:
        self.least = REPLICAS
        self.undrained: set[str] = set()
        self._service = service
        self._before: dict[str, Document] = {}
        self._over = asyncio.Event()
        self._going: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._going = asyncio.create_task(self._go_on())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        assert self._going is not None
        await self._going

    async def _go_on(self) -> None:
        while not self._over.is_set():
            pods = await self._service.pods()
            selector = (await self._service.child(paths.SERVICES, self._service.name))["spec"]["selector"]
            behind = [one for one in pods.values() if selector.items() <= one["metadata"]["labels"].items()]
            self.least = min(self.least, sum(map(is_ready, behind)))
            gone = self._before.keys() - pods.keys()
            self.undrained |= {name for name in gone if _takes_till(self._before[name]) < DRAIN_SECONDS - 1}
            self._before = pods
            await asyncio.sleep(POLL_SECONDS)


def _takes_till(pod: Document) -> float:
    """For how long a pod has been without new requests; workers have none."""
    metadata = pod["metadata"]
    if metadata["labels"].get(INDEX, "0") != "0":
        return DRAIN_SECONDS
    since = seconds_of((metadata.get("annotations") or {}).get(DRAINING_SINCE_ANNOTATION))
    return time.time() - since if since is not None else 0.0  # noqa: TID251 - as the operator's clock has it


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
        await eventually(lambda: rests(2), timeout_seconds=90, what="both replicas are groups")
        await service.until_condition("Available", "True", "ReplicasReady")
        await service.set_spec(roles=[{"variants": [variant(service)]}])
        await eventually(lambda: rests(1), timeout_seconds=90, what="both replicas are the Deployment's")
        await service.until_condition("Available", "True", "ReplicasReady")
    assert (watch.least, watch.undrained) == (REPLICAS, set())
    with pytest.raises(NotFound):
        await service.child(paths.DISRUPTION_BUDGETS, "chat-unified.groups")


async def test_a_drained_node_gives_up_its_replica_once_another_one_answers(service: Service) -> None:
    """As `kubectl drain` does it: a cordon, then evictions again and again until no pod is left there."""
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

    before = await eventually(all_ready, timeout_seconds=60, what="both replicas are there")
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
        await bench.api.merge_patch(paths.node(node), {"spec": {"unschedulable": True}})
        await eventually(is_empty, timeout_seconds=90, what="the node is drained")
        after = await eventually(all_ready, what="both replicas are there")
    assert {*refused} == {"chat-unified-default-0-0-1"}
    assert (watch.least, watch.undrained) == (REPLICAS, set())
    assert {name.split("-")[3] for name in after} == {"1", "2"}, "the other replica stayed as it was"
