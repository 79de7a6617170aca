"""Start states of the grid: the emulation of kube-scheduler's default profile against the real one, pod by pod.

A real etcd, API server and kube-scheduler hold one start state of each of the 96 cells at the same time: each cell has
nodes of its own, which a node selector keeps its pods to, and a namespace of its own. Pods come one by one in the order
of the instance. They have no priority: without preemption it would only change that order.

kube-scheduler draws lots among nodes of equal score. Here an extender says which one comes first by name, and the
weights of all plugins are a thousand times what they are by default, so that its word counts among equals alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import sys
from collections.abc import Iterator
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from harness.instances import CREATED, Instance, dump
from harness.large_cluster import BareCluster, bare_cluster
from harness.measurements import Record, at_most
from harness.priority_grid import CELLS, seeds, start
from harness.waiting import eventually
from stowage.demo.processes import ManagedProcess, free_port
from stowage.demo.second_scheduler import SCHEDULER_NAME, scheduler_configuration
from stowage.transport import paths
from stowage.transport.api import Api

CELL_LABEL = "stowage.dev/cell"
LONGEST_SECONDS = 900
WEIGHTS = {
    "TaintToleration": 3,
    "NodeAffinity": 2,
    "NodeResourcesFit": 1,
    "PodTopologySpread": 2,
    "InterPodAffinity": 2,
    "NodeResourcesBalancedAllocation": 1,
    "ImageLocality": 1,
}
FIRST_BY_NAME = """
import sys
from aiohttp import web
async def prioritize(request):
    names = sorted((await request.json())["NodeNames"], reverse=True)
    return web.json_response([{"Host": name, "Score": score} for score, name in enumerate(names)])
app = web.Application(client_max_size=2**26)
app.add_routes([web.post("/prioritize", prioritize)])
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
"""

Document = dict[str, Any]


def test_the_emulation_is_the_real_scheduler(tmp_path: Path, record: Record) -> None:
    states = {f"cell-{number:02d}": start(cell, seeds(cell, 1)[0]) for number, cell in enumerate(CELLS)}
    pods = sum(len(state.pods) for state in states.values())
    with bare_cluster() as bare, scheduler(bare, tmp_path) as port:
        real = asyncio.run(schedule(bare, states, pods, port))
    expected = {
        f"{name}/{pod.name}": f"{name}-{pod.node}" if pod.node else None
        for name, state in states.items()
        for pod in state.pods
    }
    assert real.keys() == expected.keys()
    different = {name.split("/")[0] for name, node in expected.items() if real[name] != node}
    record("start states", "cells that differ", len(different), target=at_most(0), cells=len(states), pods=pods)
    assert {name: str(CELLS[int(name[-2:])]) for name in different} == {}


@contextlib.contextmanager
def scheduler(bare: BareCluster, folder: Path) -> Iterator[int]:
    """kube-scheduler with the default profile but for preemption and ties; its port for metrics."""
    extender_port, port = free_port(), free_port()
    configuration = scheduler_configuration(bare.cluster.kubeconfig, extender_port)
    configuration |= {"parallelism": 1, "percentageOfNodesToScore": 100, "leaderElection": {"leaderElect": False}}
    configuration["clientConnection"] |= {"qps": 5000, "burst": 10000}
    scores = [{"name": name, "weight": 1000 * weight} for name, weight in WEIGHTS.items()]
    configuration["profiles"][0]["plugins"]["score"] = {"enabled": scores}
    configuration["extenders"] = [
        {
            "urlPrefix": f"http://127.0.0.1:{extender_port}",
            "prioritizeVerb": "prioritize",
            "weight": 1,
            "nodeCacheCapable": True,
            "httpTimeout": "30s",
        }
    ]
    file = folder / "scheduler.yaml"
    file.write_text(yaml.safe_dump(configuration, sort_keys=False), encoding="utf-8")
    kubeconfig = bare.cluster.kubeconfig
    command: list[str | Path] = [
        *(bare.cluster.programs / "kube-scheduler", "--config", file),
        *("--bind-address", "127.0.0.1", "--secure-port", str(port)),
        *("--authentication-kubeconfig", kubeconfig, "--authorization-kubeconfig", kubeconfig),
        *("--authorization-always-allow-paths", "/healthz,/readyz,/livez,/metrics"),
    ]
    extender: list[str | Path] = [sys.executable, "-c", FIRST_BY_NAME, str(extender_port)]
    with (
        ManagedProcess.start("first-by-name", extender, folder=bare.cluster.folder, logs=folder),
        ManagedProcess.start("scheduler", command, folder=bare.cluster.folder, logs=folder) as process,
    ):
        process.wait_until_serving(f"https://127.0.0.1:{port}/readyz", timeout_seconds=120)
        yield port


async def schedule(bare: BareCluster, states: dict[str, Instance], pods: int, port: int) -> dict[str, str | None]:
    """Write nodes and owners, then all pods; once each was tried, the node of each by namespace and name."""
    around = [document for name, state in states.items() for document in surroundings(name, state)]
    await bare.load(around, watched=True)
    async with aiohttp.ClientSession() as session:

        async def knows_nodes() -> bool:
            return await metric(session, port, 'scheduler_cache_size{type="nodes"}') == count_of(around, "Node")

        await eventually(knows_nodes, timeout_seconds=120, what="the scheduler knows all nodes")
        # one of each cell in turn: what is written at the same time never belongs to the same cell
        columns = zip_longest(*(pod_documents(name, state) for name, state in states.items()))
        await bare.load((pod for pod in chain.from_iterable(columns) if pod), watched=True)

        async def all_tried() -> bool:
            tried = [
                await metric(session, port, f'{ATTEMPTS}{{profile="{SCHEDULER_NAME}",result="{result}"}}')
                for result in ("scheduled", "unschedulable")
            ]
            return sum(tried) >= pods

        await eventually(all_tried, timeout_seconds=LONGEST_SECONDS, what="each pod was tried")
        api = await Api.connect(kubeconfig=str(bare.cluster.kubeconfig), user_agent="stowage-bench")
        async with api:
            items: list[Document] = []

            async def all_told() -> bool:
                items[:] = (await api.get(paths.PODS))["items"]
                return all(item["spec"].get("nodeName") or item["status"].get("conditions") for item in items)

            await eventually(all_told, timeout_seconds=120, what="each binding and each refusal is written")
    return {
        f"{item['metadata']['namespace']}/{item['metadata']['name']}": item["spec"].get("nodeName") for item in items
    }


ATTEMPTS = "scheduler_schedule_attempts_total"


async def metric(session: aiohttp.ClientSession, port: int, name: str) -> float:
    """The value of a metric of the scheduler; 0 while it has none."""
    context = ssl._create_unverified_context()
    async with session.get(f"https://127.0.0.1:{port}/metrics", ssl=context) as response:
        text = await response.text()
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def count_of(documents: list[Document], kind: str) -> int:
    return sum(document["kind"] == kind for document in documents)


def surroundings(cell: str, state: Instance) -> Iterator[Document]:
    """The namespace, nodes and ReplicaSets of a cell."""
    yield {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": cell, "uid": f"uid-{cell}", "creationTimestamp": CREATED},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }
    for item in dump(state)["items"]:
        name = item["metadata"]["name"]
        if item["kind"] == "Node":
            own = f"{cell}-{name}"
            labels = {"kubernetes.io/hostname": own, CELL_LABEL: cell}
            metadata = {"name": own, "uid": f"uid-{own}", "labels": labels, "creationTimestamp": CREATED}
            yield {**item, "metadata": metadata, "spec": {}}
        elif item["kind"] == "ReplicaSet":
            labels = {"app": name}
            template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "pause"}]}}
            spec = {**item["spec"], "selector": {"matchLabels": labels}, "template": template}
            yield {**item, "metadata": in_cell(cell, item["metadata"]), "spec": spec}


def pod_documents(cell: str, state: Instance) -> Iterator[Document]:
    """The pods of a cell, as nobody has looked at them yet."""
    for item in dump(state)["items"]:
        if item["kind"] == "Pod":
            kept = {key: value for key, value in item["spec"].items() if key not in {"nodeName", "priority"}}
            spec = {**kept, "nodeSelector": {CELL_LABEL: cell}}
            yield {**item, "metadata": in_cell(cell, item["metadata"]), "spec": spec, "status": {"phase": "Pending"}}


def in_cell(cell: str, metadata: Document) -> Document:
    """Metadata with the namespace of a cell, and UIDs that are its own."""
    owners = [{**one, "uid": f"{one['uid']}-{cell}"} for one in metadata.get("ownerReferences", [])]
    found = {**metadata, "namespace": cell, "uid": f"{metadata['uid']}-{cell}"}
    return {**found, "ownerReferences": owners} if owners else found
