"""Replicas of two pods, and replicas that come to a node which was made ready for them, on real kubelets.

All of them are played with `--faults=all` only. What each cost is kept in `build/e2e/serving.md`.
"""

from __future__ import annotations

import time
from collections import defaultdict

import pytest

from harness.waiting import eventually
from harness.workbench import Document, is_ready
from programs import run
from results_table import Table
from serving_answers import row
from serving_scene import FORGOTTEN_SECONDS, PORT, RESTRICTED, SLOWLY_SECONDS, Service, ServingScene, seconds
from stowage.api.names import PREFETCH_LABEL

pytestmark = pytest.mark.rare

JOINS = f"""
import os, socket, time
while True:
    try:
        socket.create_connection((os.environ["LWS_LEADER_ADDRESS"], {PORT}), timeout=1.0).close()
        break
    except OSError:
        time.sleep(0.2)
"""
"""The second pod of a replica finds the first one by its name, which is there before either of them is ready."""
STAYS = "trap exit TERM; sleep infinity & wait"
FETCHES = "test -e /weights/model && echo found || { sleep 5; touch /weights/model; echo fetched; }"


# --- replicas of two pods ---


def wide(serving: ServingScene, least: int, most: int, *arguments: str) -> Document:
    """A role whose replicas have two pods: an engine, and one that joins it."""
    role = serving.role(least, most, *arguments)
    [variant] = role["variants"]
    engine = variant["template"]["spec"]["containers"][0]
    own = {key: engine[key] for key in ("image", "securityContext")}
    joins = {**own, "name": "joins", "command": ["python", "-c", JOINS]}
    stays = {**own, "name": "stays", "command": ["sh", "-c", STAYS, "$(LWS_LEADER_ADDRESS)"]}
    stays["resources"] = engine["resources"]
    variant["group"] = {"size": 2, "workers": {"spec": {"initContainers": [joins], "containers": [stays]}}}
    return role


async def replicas_of(service: Service) -> dict[str, list[Document]]:
    """Pods that shall stay, the first of a replica first, by the name of the replica: `…-ORDINAL-ATTEMPT`."""
    found = defaultdict(list)
    for pod in sorted(await service.pods(), key=lambda pod: str(pod["metadata"]["name"])):
        found[pod["metadata"]["name"].rpartition("-")[0]].append(pod)
    return dict(found)


def uids(pods: list[Document]) -> set[str]:
    return {pod["metadata"]["uid"] for pod in pods}


async def test_replicas_of_two_pods_grow_and_change_whole(serving: ServingScene, serving_table: Table) -> None:
    """One more by hand, and then a new version: one replica more at a time, and none less."""
    service = await serving.begin("wide", [wide(serving, 1, 3)])
    load = await serving.load(service.url, "steady", seconds=90.0, high=2.0)
    began = seconds()
    await service.scale(2)
    replicas = await replicas_of(service)
    assert [len(pods) for pods in replicas.values()] == [2, 2]
    for name, pods in replicas.items():
        assert len({pod["spec"]["nodeName"] for pod in pods}) == 2, f"{name}: each pod has a node of its own"
    before = uids(await service.pods())
    answering: list[int] = []
    changed = seconds()
    await service.patch({"roles": [wide(serving, 1, 3, "--metric-names", "both")]})

    async def replaced() -> bool:
        found = await replicas_of(service)
        answering.append(sum(len(pods) == 2 and all(map(is_ready, pods)) for pods in found.values()))
        assert not before & uids(await service.pods())
        return answering[-1] == 2

    await eventually(replaced, timeout_seconds=SLOWLY_SECONDS, what="every replica is a new one")
    rolled_out = seconds() - changed
    await service.until_settled(2)
    settled = seconds() - began
    answers = await load.answers()
    story = f"replicas of two pods: one more by hand, then a new version ({rolled_out:.0f} s)"
    serving_table.add(row(story, load.about, "1 → 2", answers, settled))
    assert answers.lost == 0, answers.summary
    assert 2 <= min(answering) <= max(answering) <= 3, answering


async def test_one_of_two_pods_fails(serving: ServingScene, serving_table: Table) -> None:
    """A process of the second pod ends: both pods are made anew, and the other replica goes on."""
    service = await serving.begin("wide", [wide(serving, 2, 2)])
    load = await serving.load(service.url, "steady", seconds=45.0, high=2.0, patience_seconds="30")
    (name, broken), (other, sound) = (await replicas_of(service)).items()
    began = seconds()
    first, second = broken
    host = f"{first['spec']['hostname']}.{first['spec']['subdomain']}.{serving.bench.namespace}"
    serving.cluster.kill(second["spec"]["nodeName"], f"{STAYS} {host}")

    async def gone() -> bool:
        assert not uids(broken) & uids(await service.pods())
        return True

    await eventually(gone, what="both of its pods go")
    forgotten_at = time.time() + FORGOTTEN_SECONDS  # noqa: TID251
    await service.until_settled(2)
    settled = seconds() - began
    answers = await load.answers()
    after = await replicas_of(service)
    assert uids(after[other]) == uids(sound)
    assert set(after) == {other, f"{name.rpartition('-')[0]}-1"}, "its second attempt"
    records = {one["ordinal"]: one for one in (await service.role())["variants"][0]["groups"]}
    assert [(one["attempt"], one["restarts"]) for one in records.values()] == [(1, 1), (0, 0)], records
    assert records[0]["reason"] == "ContainerRestarted", records
    assert second["metadata"]["name"] in records[0]["message"], records
    story = "replicas of two pods: a process of one pod ends"
    serving_table.add(row(story, load.about, "2", answers, settled))
    assert all(at < forgotten_at for at in answers.lost_at()), (forgotten_at, answers.lost_at())
    assert answers.lost <= answers.summary["requests"] / 5, answers.summary


# --- warm nodes ---


async def claim_of_weights(serving: ServingScene) -> Document:
    """A volume of a template: a folder of whatever node a pod stands on, as namespaces of restricted pods have it."""
    bench, name = serving.bench, "weights"
    folder = f"/var/lib/{name}-{bench.namespace}"
    for node in serving.cluster.workers:
        run("docker", "exec", node, "mkdir", "--mode", "777", folder)
    common = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    volume = {
        "metadata": {"name": f"{name}-{bench.namespace}"},
        "spec": {
            **common,
            "capacity": {"storage": "1Gi"},
            "hostPath": {"path": folder, "type": "Directory"},
            "claimRef": {"namespace": bench.namespace, "name": name},
        },
    }
    volumes = "/api/v1/persistentvolumes"
    claims = f"/api/v1/namespaces/{bench.namespace}/persistentvolumeclaims"
    await bench.create(volumes, volume)
    asked = {"resources": {"requests": {"storage": "1Gi"}}, "volumeName": volume["metadata"]["name"]}
    await bench.create(claims, {"metadata": {"name": name}, "spec": {**common, **asked}})
    return {"name": name, "persistentVolumeClaim": {"claimName": name}}


async def test_a_replica_comes_to_a_warm_node(serving: ServingScene, serving_table: Table) -> None:
    """Its weights are there before it is; then another node is made warm."""
    role = {**serving.role(1, 3), "warm": {"nodes": 1}}
    spec = role["variants"][0]["template"]["spec"]
    fetches = {
        "name": "fetches",
        "image": serving.image,
        "command": ["sh", "-c", FETCHES],
        "securityContext": RESTRICTED,
        "volumeMounts": [{"name": "weights", "mountPath": "/weights"}],
    }
    spec["initContainers"] = [fetches]
    spec["volumes"] = [*spec["volumes"], await claim_of_weights(serving)]
    service = await serving.begin("chat", [role], model={"name": "stand-in", "uri": "pvc://weights"})

    async def warm_node() -> str:
        found = [one for one in await serving.bench.pods() if PREFETCH_LABEL in one["metadata"].get("labels", {})]
        assert len(found) == 1, [one["metadata"]["name"] for one in found]
        [pod] = found
        assert is_ready(pod), pod["status"]
        assert pod["spec"]["nodeName"] not in await service.nodes()
        assert (await service.role()).get("cachedNodes") == 1
        return str(pod["spec"]["nodeName"])

    node = await eventually(warm_node, timeout_seconds=SLOWLY_SECONDS, what="a node without a replica is warm")
    accepted = await service.condition("Accepted")
    assert accepted["reason"] == "Accepted", accepted
    first = uids(await service.pods())
    load = await serving.load(service.url, "steady", seconds=40.0, high=3.0)
    began = seconds()
    await service.scale(2)
    settled = seconds() - began
    [new] = [pod for pod in await service.pods() if pod["metadata"]["uid"] not in first]
    assert new["spec"]["nodeName"] == node
    of_it = (new["metadata"]["name"], "--container", "fetches", "--namespace", serving.bench.namespace)
    assert serving.cluster.kubectl("logs", *of_it).strip() == "found"
    await eventually(warm_node, timeout_seconds=SLOWLY_SECONDS, what="a third node is warm")
    answers = await load.answers()
    serving_table.add(row("a replica comes to a warm node", load.about, "1 → 2", answers, settled))
    assert answers.lost == 0, answers.summary
