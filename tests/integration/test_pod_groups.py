"""PodGroups on a real control plane: of kube-scheduler, with its alpha gates on, and of the coscheduling plugin."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from harness.control_plane import control_plane
from harness.story import Story
from harness.waiting import always, eventually
from harness.workbench import Document, Workbench, pod_template
from stowage.cli.cluster import read_list
from stowage.demo import local_cluster
from stowage.demo.local_cluster import LocalCluster
from stowage.demo.processes import ManagedProcess, free_port
from stowage.transport import paths
from stowage_scheduler.kube.dump import read_dump
from stowage_scheduler.kube.redact import redact

GATES = ("GenericWorkload", "GangScheduling", "TopologyAwareWorkloadScheduling")
APIS = ("scheduling.k8s.io/v1alpha2",)
RACK = "topology.kubernetes.io/rack"
COSCHEDULING_DEFINITION: Document = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": "podgroups.scheduling.x-k8s.io",
        "annotations": {"api-approved.kubernetes.io": "unapproved, a stand-in for tests"},
    },
    "spec": {
        "group": "scheduling.x-k8s.io",
        "names": {"kind": "PodGroup", "plural": "podgroups", "singular": "podgroup", "listKind": "PodGroupList"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                },
            }
        ],
    },
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """A control plane of its own, with pod groups of both kinds."""
    with control_plane("stowage-groups-", feature_gates=GATES, apis=APIS) as made:
        made.apply([COSCHEDULING_DEFINITION])
        made.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd/podgroups.scheduling.x-k8s.io")
        yield made


@pytest.fixture(scope="module")
def extender_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def scheduler(cluster: LocalCluster, extender_port: int) -> Iterator[ManagedProcess]:
    with local_cluster.start_scheduler(cluster, extender_port) as process:
        yield process


@pytest.fixture
async def story(workbench: Workbench) -> Story:
    return Story(workbench)


async def native(bench: Workbench, least: int | None, name: str = "ring", **spec: Any) -> None:
    """A PodGroup of kube-scheduler: a gang, or pods one by one when `least` is None."""
    policy: Document = {"basic": {}} if least is None else {"gang": {"minCount": least}}
    document = {
        "apiVersion": APIS[0],
        "kind": "PodGroup",
        "metadata": {"name": name},
        "spec": {"schedulingPolicy": policy, **spec},
    }
    await bench.create(paths.in_namespace(paths.POD_GROUPS, bench.namespace), document)


async def coscheduling(bench: Workbench, least: int, name: str = "ring") -> None:
    document = {
        "apiVersion": "scheduling.x-k8s.io/v1alpha1",
        "kind": "PodGroup",
        "metadata": {"name": name},
        "spec": {"minMember": least, "scheduleTimeoutSeconds": 30},
    }
    await bench.create(paths.in_namespace(paths.COSCHEDULING_POD_GROUPS, bench.namespace), document)


async def pods_of_group(story: Story, replicas: int, *, cpu: str = "6", name: str = "ring", **more: Any) -> None:
    """A ReplicaSet whose pods are of the PodGroup of the same name."""
    await story.bench.replica_set(
        name,
        replicas,
        cpu=cpu,
        nodeSelector={"story": story.bench.namespace},
        scheduler_name=story.scheduler_name,
        schedulingGroup={"podGroupName": name},
        **more,
    )


async def in_the_way(story: Story, count: int, **labels: str) -> None:
    """Nodes of 8 CPUs with a pod of 3 on each."""
    label = {"story": story.bench.namespace, **labels}
    await story.bench.nodes(count, cpu="8", labels=label)
    app = f"small{''.join(labels.values())}"
    await story.bench.deployment(app, count, cpu="3", nodeSelector=label, scheduler_name=story.scheduler_name)
    await story.bench.until_ready(app, count)
    assert set((await story.bench.bound(app)).values()) == {1}, "the scheduler spreads pods over empty nodes"


@pytest.mark.usefixtures("operator", "extender")
async def test_others_make_room_for_a_group_and_kube_scheduler_places_it_whole(story: Story) -> None:
    label = {"story": story.bench.namespace}
    await in_the_way(story, 2)
    await native(story.bench, 2)
    await pods_of_group(story, 2)
    await story.bench.until_unschedulable("ring", 2)
    await story.apply_policy(label, steering="Extender")
    await story.bench.nodes(1, cpu="8", labels=label)
    await story.bench.until_ready("ring", 2)
    await story.bench.until_ready("small", 2)
    plan = await story.plan_in("Done")
    arrivals = [step for step in plan["spec"]["steps"] if step["action"] == "Place"]
    assert {step["gang"] for step in arrivals} == {"podgroups.scheduling.k8s.io/ring"}
    planned = {step["pod"]["uid"]: step["node"] for step in arrivals}
    pods = await story.bench.pods("ring")
    assert {pod["spec"]["nodeName"] for pod in pods} == set(planned.values())


@pytest.mark.usefixtures("operator", "extender")
async def test_a_group_that_asks_for_one_rack_gets_one(story: Story) -> None:
    """Rack a has more free room, rack b has enough once its pods stand together."""
    label = {"story": story.bench.namespace}
    await story.bench.nodes(1, cpu="8", labels={**label, RACK: "a"})
    await in_the_way(story, 2, **{RACK: "b"})
    await story.bench.nodes(1, cpu="3", labels={**label, RACK: "b"})
    await native(story.bench, 2, schedulingConstraints={"topology": [{"key": RACK}]})
    await pods_of_group(story, 2)
    await story.bench.until_unschedulable("ring", 2)
    await story.apply_policy(label, steering="Extender")
    await story.bench.until_ready("ring", 2)
    racks = set()
    for name in await story.bench.bound("ring"):
        node = await story.bench.api.get(paths.node(name))
        racks.add(node["metadata"]["labels"][RACK])
    assert racks == {"b"}


@pytest.mark.usefixtures("operator", "extender")
async def test_enough_of_a_group_start_and_neighbours_in_rank_stand_together(story: Story) -> None:
    """Six pods, of which four must start; room for three, and for two by two once the small pods have moved."""
    bench, label = story.bench, {"story": story.bench.namespace}
    await in_the_way(story, 2)
    await native(bench, 4)
    for rank in (4, 2, 0, 5, 3, 1):
        pod = pod_template(
            "ring",
            cpu="4",
            annotations={"stowage.dev/rank-order": str(rank)},
            nodeSelector=label,
            schedulingGroup={"podGroupName": "ring"},
        )
        pod["metadata"]["name"] = f"rank-{rank}"
        await bench.create(paths.in_namespace(paths.PODS, bench.namespace), {"apiVersion": "v1", "kind": "Pod", **pod})
    await bench.until_unschedulable("ring", 6)
    await bench.nodes(1, cpu="6", labels=label)
    await story.apply_policy(label, steering="Extender")
    await bench.until_ready("ring", 4)
    at = {pod["metadata"]["name"]: pod["spec"].get("nodeName") for pod in await bench.pods("ring")}
    assert at["rank-0"] == at["rank-1"] != at["rank-2"] == at["rank-3"]
    assert (at["rank-4"], at["rank-5"]) == (None, None)


@pytest.mark.usefixtures("operator")
async def test_bind_leaves_a_group_to_kube_scheduler_and_says_so(workbench: Workbench) -> None:
    story = Story(workbench, scheduler_name="default-scheduler")
    label = {"story": workbench.namespace}
    await in_the_way(story, 2)
    await native(workbench, 2)
    await pods_of_group(story, 2)
    await workbench.until_unschedulable("ring", 2)
    await story.apply_policy(label, steering="Bind")
    await workbench.nodes(1, cpu="4", labels=label)

    async def told() -> bool:
        events = await workbench.api.get(paths.events(workbench.namespace))
        notes = [one["note"] for one in events["items"] if one["reason"] == "StaysPending"]
        return any("SchedulingGroup" in note for note in notes)

    await eventually(told, what="Stowage says why it leaves the group alone")
    await story.untouched("small", for_seconds=3)
    assert not await workbench.bound("ring")


@pytest.mark.usefixtures("operator", "extender")
async def test_pods_of_a_group_without_a_gang_move_like_others(story: Story) -> None:
    """Two pods of a basic group stand in the way of a large one, as in the story of a pod."""
    label = {"story": story.bench.namespace}
    await story.bench.nodes(2, cpu="8", labels=label)
    await native(story.bench, None, name="small")
    await pods_of_group(story, 2, cpu="3", name="small")
    await story.bench.until_ready("small", 2)
    assert set((await story.bench.bound("small")).values()) == {1}
    await story.bench.replica_set("large", 1, cpu="6", nodeSelector=label, scheduler_name=story.scheduler_name)
    await story.bench.until_unschedulable("large", 1)
    await story.apply_policy(label, steering="Extender")
    await story.bench.until_ready("large", 1)
    await story.bench.until_ready("small", 2)


@pytest.mark.usefixtures("operator")
async def test_pods_of_a_coscheduling_group_wait_behind_the_gate_for_it(workbench: Workbench) -> None:
    """Three pods, and a group that needs two of them: nobody is let go before the group is there."""
    story = Story(workbench, scheduler_name="default-scheduler")
    label = {"story": workbench.namespace}
    await workbench.nodes(1, cpu="8", labels=label)
    await story.apply_policy(label, steering="Bind")
    await workbench.replica_set(
        "ring",
        3,
        cpu="3",
        labels={"scheduling.x-k8s.io/pod-group": "ring"},
        nodeSelector=label,
        scheduler_name="default-scheduler",
        schedulingGates=[{"name": "stowage.dev/gang"}],
    )

    async def all_wait() -> bool:
        pods = await workbench.pods("ring")
        return len(pods) == 3 and all(pod["spec"].get("schedulingGates") for pod in pods)

    await eventually(all_wait, what="three pods wait behind their gate")
    await always(all_wait, for_seconds=3)
    await coscheduling(workbench, 2)
    await workbench.until_ready("ring", 2)
    plan = await story.plan_in("Done")
    assert [step["gang"] for step in plan["spec"]["steps"]] == ["podgroups.scheduling.x-k8s.io/ring"] * 2
    await workbench.nodes(1, cpu="8", labels=label)
    await workbench.until_ready("ring", 3)


async def test_a_dump_of_the_cluster_knows_groups_of_both_kinds(story: Story) -> None:
    await native(story.bench, 3, name="native")
    await coscheduling(story.bench, 4, name="plugin")
    await story.bench.replica_set(
        "one", 1, labels={"scheduling.x-k8s.io/pod-group": "plugin"}, schedulingGates=[{"name": "x/wait"}]
    )
    await story.bench.replica_set(
        "two", 1, schedulingGroup={"podGroupName": "native"}, schedulingGates=[{"name": "x/wait"}]
    )

    async def sizes() -> dict[str, int]:
        document = redact(await read_list(story.bench.api))
        pods = read_dump(json.dumps(document).encode()).snapshot.pods
        found = {pod.gang.name: pod.gang.size for pod in pods if pod.gang and pod.namespace == story.bench.namespace}
        assert len(found) == 2
        return found

    assert await eventually(sizes, what="two pods of groups") == {
        "podgroups.scheduling.k8s.io/native": 3,
        "podgroups.scheduling.x-k8s.io/plugin": 4,
    }
