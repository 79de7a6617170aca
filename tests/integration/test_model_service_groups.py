"""Replicas of several pods on a real control plane: they come, fail, change and go as one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from harness.model_service import Service
from harness.story import Story
from harness.waiting import PATIENCE_SECONDS, always, eventually
from harness.workbench import Document, Workbench, is_ready
from stowage.transport import paths

GATE = "stowage.dev/gang"
SOON = {"scaleDown": {"drainDeadline": "5s"}}

pytestmark = pytest.mark.usefixtures("operator")


@pytest.fixture
async def service(workbench: Workbench) -> AsyncIterator[Service]:
    made = Service(workbench)
    yield made
    await made.delete()


def wide(service: Service, *, image: str = "vllm:1", **fields: Any) -> Document:
    """A variant whose replicas have two pods, each of which takes more than half a node."""
    engine = {"name": "engine", "image": image, "resources": {"requests": {"cpu": "5"}}}
    spec = {"containers": [engine], "nodeSelector": {"story": service.bench.namespace}}
    return {"template": {"spec": {**spec, "terminationGracePeriodSeconds": 1}}, "group": {"size": 2}, **fields}


def groups_of(status: Document) -> list[Document]:
    found: list[Document] = status["roles"][0]["variants"][0].get("groups", [])
    return found


async def until_pods(service: Service, *heads: str, within_seconds: float = PATIENCE_SECONDS) -> dict[str, Document]:
    """Wait until there are exactly the pods of these replicas, two each and all ready, and the status says so."""
    names = {f"chat-unified-default-{head}-{index}" for head in heads for index in range(2)}

    async def there() -> dict[str, Document]:
        pods, status = await service.pods(), await service.status()
        assert set(pods) == names, (sorted(pods), status.get("message"))
        assert all(map(is_ready, pods.values())), sorted(pods)
        counts = (status.get("desiredReplicas"), status.get("readyReplicas"))
        assert counts == (len(heads), len(heads)), status
        return pods or {"": {}}

    return await eventually(there, timeout_seconds=within_seconds, what=f"replicas {heads} are there and ready")


async def test_a_replica_over_two_nodes_comes_fails_changes_and_goes_whole(service: Service) -> None:
    bench = service.bench
    await bench.nodes(6, cpu="8", labels={"story": bench.namespace})
    await service.apply(roles=[{"variants": [wide(service)]}], replicas=1, scaling=SOON)
    pods = await until_pods(service, "0-0")
    first, second = pods["chat-unified-default-0-0-0"], pods["chat-unified-default-0-0-1"]
    assert first["spec"]["nodeName"] != second["spec"]["nodeName"]
    env = {one["name"]: one["value"] for one in second["spec"]["containers"][0]["env"]}
    leader = f"{first['spec']['hostname']}.{first['spec']['subdomain']}.{bench.namespace}.svc"
    assert env == {"LWS_LEADER_ADDRESS": leader, "LWS_GROUP_SIZE": "2", "LWS_WORKER_INDEX": "1"}
    headless = await service.child(paths.SERVICES, first["spec"]["subdomain"])
    assert headless["spec"]["publishNotReadyAddresses"] is True
    served = (await service.child(paths.SERVICES, "chat"))["spec"]["selector"].items()
    assert served <= first["metadata"]["labels"].items()
    assert not served <= second["metadata"]["labels"].items(), "the first pod alone takes requests"
    await service.until_condition("Available", "True", "ReplicasReady")
    await service.until_condition("Accepted", "True", "Accepted")

    await service.set_spec(replicas=2)
    await until_pods(service, "0-0", "1-0")

    async def protected() -> bool:
        found = await service.child(paths.DISRUPTION_BUDGETS, "chat-unified.groups")
        assert (found["spec"]["minAvailable"], found["status"]["disruptionsAllowed"]) == (4, 0), found["status"]
        return True

    await eventually(protected, what="no pod that serves may be evicted")
    await bench.api.delete(paths.pod(bench.namespace, "chat-unified-default-0-0-1"))
    await until_pods(service, "0-1", "1-0")

    async def recorded() -> bool:
        broken, sound = groups_of(await service.status())
        assert (broken["restarts"], broken["reason"]) == (1, "PodDeleted"), broken
        assert (sound["restarts"], sound["attempt"]) == (0, 0), sound
        return True

    await eventually(recorded, what="the status tells of the pod that was deleted")

    least: list[int] = []

    async def all_new() -> bool:
        least.append(sum(is_ready(pod) for name, pod in (await service.pods()).items() if name.endswith("-0")))
        pods = await service.pods()
        assert len(pods) == 4, sorted(pods)
        assert {pod["spec"]["containers"][0]["image"] for pod in pods.values()} == {"vllm:2"}
        return all(map(is_ready, pods.values()))

    await service.set_spec(roles=[{"variants": [wide(service, image="vllm:2")]}])
    await eventually(all_new, timeout_seconds=120, what="both replicas have the new template")
    assert min(least) >= 2, "one replica more at a time, and none less"
    assert max(least) <= 3

    await service.set_spec(replicas=1)

    async def one_left() -> bool:
        pods, status = await service.pods(), await service.status()
        assert len(pods) == 2, sorted(pods)
        assert len({name.rpartition("-")[0] for name in pods}) == 1, "both pods of one replica"
        return bool(len(groups_of(status)) == 1)

    await eventually(one_left, what="one replica has drained and gone")


async def test_a_group_is_placed_whole_in_one_rack_or_not_at_all(service: Service) -> None:
    bench, label = service.bench, {"story": service.bench.namespace}
    for rack in ("a", "b"):
        await bench.nodes(1, cpu="8", labels={**label, "rack": rack})
    await Story(bench, scheduler_name="default-scheduler", steering="Bind").apply_policy(label)
    topology = {"pack": "Required", "keys": ["rack"]}
    await service.apply(roles=[{"variants": [wide(service, group={"size": 2, "topology": topology})]}], replicas=1)

    async def both_wait() -> bool:
        pods = await service.pods()
        assert len(pods) == 2, sorted(pods)
        return all(pod["spec"].get("schedulingGates") == [{"name": GATE}] for pod in pods.values())

    await eventually(both_wait, what="both pods are there, behind their gate")
    await always(both_wait, for_seconds=5.0)
    await service.until_condition("Available", "False", "ReplicasUnplaced", "placed together")
    rack = await bench.nodes(1, cpu="8", labels={**label, "rack": "b"})
    pods = await until_pods(service, "0-0")
    assert rack[0] in {pod["spec"]["nodeName"] for pod in pods.values()}
