"""Pods with volumes on a real control plane: zones, limits of drivers, quotas."""

from __future__ import annotations

import msgspec
import pytest

from harness.story import Story
from harness.volume_documents import ZONE, Document, claim, csi_driver, csi_node, volume
from harness.waiting import always, eventually
from harness.workbench import Workbench, pod_template
from stowage.cli.cluster import read_list
from stowage.transport import paths
from stowage_scheduler.cluster import ATTACHMENTS
from stowage_scheduler.kube.dump import read_dump
from stowage_scheduler.kube.redact import redact


async def zonal_claim(bench: Workbench, name: str, zone: str) -> None:
    """A claim that is bound to a volume in a zone; its driver mounts without attaching, for no driver runs here."""
    driver = f"{bench.namespace}.example.com"
    made = volume(f"{bench.namespace}-{name}", zones=(zone,), driver=driver, phase="Available")
    reference = {"namespace": bench.namespace, "name": name}
    made["spec"] |= {"claimRef": reference, "storageClassName": "", "persistentVolumeReclaimPolicy": "Retain"}
    del made["status"]
    await bench.create(paths.PERSISTENT_VOLUMES, made)
    wanted = claim(name, made["metadata"]["name"], bound=False)
    wanted["metadata"] = {"name": name}
    wanted["spec"]["storageClassName"] = ""
    del wanted["status"]
    claims = paths.in_namespace(paths.PERSISTENT_VOLUME_CLAIMS, bench.namespace)
    await bench.create(claims, wanted)

    async def bound() -> bool:
        found: Document = await bench.api.get(paths.named(claims, name))
        return bool(found["status"].get("phase") == "Bound")

    await eventually(bound, what=f"claim {name} is bound")


async def driver_with_limits(bench: Workbench, limits: dict[str, int]) -> None:
    """The driver of this test's volumes, and how many of them each node takes."""
    driver = f"{bench.namespace}.example.com"
    await bench.create(paths.CSI_DRIVERS, csi_driver(driver, attachRequired=False))
    for name, limit in limits.items():
        await bench.create(paths.CSI_NODES, csi_node(name, limit, driver))


def mounts(name: str) -> Document:
    return {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": name}}]}


@pytest.mark.usefixtures("operator")
async def test_a_pod_gets_room_in_the_zone_of_its_volume(workbench: Workbench) -> None:
    """Zone a is taken by a small pod, zone b is empty: the small pod moves, for the volume can not."""
    story, label = Story(workbench, scheduler_name="default-scheduler"), {"story": workbench.namespace}
    [in_a] = await workbench.nodes(1, cpu="8", labels=label, zones=("a",))
    pods: Document = {"nodeSelector": label, "scheduler_name": story.scheduler_name}
    await workbench.deployment("small", 1, cpu="3", **pods)
    await workbench.until_ready("small", 1)
    [in_b] = await workbench.nodes(1, cpu="8", labels=label, zones=("b",))
    await zonal_claim(workbench, "data", "a")
    await workbench.replica_set("large", 1, cpu="6", **pods, **mounts("data"))
    await workbench.until_unschedulable("large", 1)
    await story.apply_policy(label, steering="Bind")
    plan = await story.plan_in("Done")
    assert [step["action"] for step in plan["spec"]["steps"]] == ["Evict", "Bind"]
    await workbench.until_ready("large", 1)
    await workbench.until_ready("small", 1)
    assert await workbench.bound("large") == {in_a: 1}
    assert await workbench.bound("small") == {in_b: 1}


@pytest.mark.usefixtures("extender", "operator")
async def test_a_pod_of_a_stateful_set_moves_within_the_zone_of_its_volume(workbench: Workbench) -> None:
    """Zone b has more room. The driver has limits, of which the extender that keeps the slot knows nothing."""
    story, label = Story(workbench), {"story": workbench.namespace}
    [first] = await workbench.nodes(1, cpu="8", labels=label, zones=("a",))
    await zonal_claim(workbench, "data-db-0", "a")
    pods: Document = {"nodeSelector": label, "scheduler_name": story.scheduler_name}
    spec = {
        "replicas": 1,
        "serviceName": "db",
        "selector": {"matchLabels": {"app": "db"}},
        "template": pod_template("db", cpu="3", **pods),
        "volumeClaimTemplates": [
            {
                "metadata": {"name": "data"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            }
        ],
    }
    sets = paths.in_namespace(paths.STATEFUL_SETS, workbench.namespace)
    await workbench.create(sets, {"metadata": {"name": "db"}, "spec": spec})
    await workbench.until_ready("db", 1)
    [second] = await workbench.nodes(1, cpu="4", labels=label, zones=("a",))
    [other] = await workbench.nodes(1, cpu="16", labels=label, zones=("b",))
    await driver_with_limits(workbench, {first: 1, second: 1, other: 9})
    selector = {**label, "kubernetes.io/hostname": first}
    await workbench.replica_set("large", 1, cpu="6", nodeSelector=selector, scheduler_name=story.scheduler_name)
    await workbench.until_unschedulable("large", 1)
    await story.apply_policy(label, steering="Extender")
    plan = await story.plan_in("Done")
    assert {slot["node"] for slot in plan["spec"]["slots"]} == {first, second}
    await workbench.until_ready("db", 1)
    assert await workbench.bound("db") == {second: 1}
    assert await workbench.bound("large") == {first: 1}


@pytest.mark.usefixtures("operator")
async def test_a_pod_that_its_quota_would_not_let_in_again_stays(workbench: Workbench) -> None:
    story = Story(workbench, scheduler_name="default-scheduler")
    quotas = paths.in_namespace(paths.RESOURCE_QUOTAS, workbench.namespace)
    await workbench.create(quotas, {"metadata": {"name": "pods"}, "spec": {"hard": {"pods": "9"}}})
    await story.begin(mode="Recommend", paused=True)

    async def counts(hard: int) -> None:
        await workbench.api.merge_patch(paths.named(quotas, "pods"), {"spec": {"hard": {"pods": str(hard)}}})

        async def counted() -> bool:
            status = (await workbench.api.get(paths.named(quotas, "pods")))["status"]
            return bool(status.get("hard") == {"pods": str(hard)} and status.get("used") == {"pods": "3"})

        await eventually(counted, what=f"the quota counts 3 pods of {hard}")

    async def no_plan() -> bool:
        return not await story.plans()

    await counts(2)
    await workbench.api.merge_patch(paths.packing_policy(story.policy), {"spec": {"paused": False, "mode": "Enforce"}})
    await always(no_plan, for_seconds=4)
    await counts(3)
    await story.plan_in("Done")
    await workbench.until_ready("large", 1)
    await workbench.until_ready("small", 2)


async def test_a_dump_of_the_cluster_knows_its_volumes(workbench: Workbench) -> None:
    label = {"story": workbench.namespace}
    [node] = await workbench.nodes(1, labels=label, zones=("a",))
    await driver_with_limits(workbench, {node: 7})
    await zonal_claim(workbench, "data", "a")
    await workbench.replica_set("web", 1, nodeSelector=label, scheduler_name="default-scheduler", **mounts("data"))
    await workbench.until_ready("web", 1)
    found = read_dump(msgspec.json.encode(redact(await read_list(workbench.api)))).snapshot
    [pod] = [one for one in found.pods if one.namespace == workbench.namespace]
    resource = f"{ATTACHMENTS}{workbench.namespace}.example.com"
    assert pod.requests[resource] == 1
    assert [one.allocatable[resource] for one in found.nodes if one.name == node] == [7]
    assert [term.expressions[0].key for terms in pod.volume_needs.terms for term in terms] == [ZONE]
    assert not pod.volume_obstacle
