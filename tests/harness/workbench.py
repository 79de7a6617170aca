"""One test's corner of the cluster: its namespace, its nodes, and short ways to make and read objects."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.waiting import PATIENCE_SECONDS, eventually
from stowage.demo.simulated_nodes import NodeGroup
from stowage.transport import paths
from stowage.transport.api import Api
from stowage.transport.errors import NotFound

Document = dict[str, Any]


@dataclass
class Workbench:
    """A namespace of a test's own, on a cluster where no other test runs at the same time.

    What a method creates in the cluster's scope (nodes, priority classes, policies, plans) goes with the test.
    """

    api: Api
    namespace: str
    _made: list[str] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def nodes(
        self, count: int = 1, *, prefix: str | None = None, cpu: str = "8", memory: str = "64Gi", **fields: Any
    ) -> list[str]:
        """Adds simulated nodes (fields as in a node file) and waits until they are Ready; their names."""
        prefix = prefix or f"{self.namespace}-{next(self._numbers)}-"
        group = NodeGroup(name_prefix=prefix, count=count, cpu=cpu, memory=memory, **fields)
        names = []
        for document in group.documents():
            name = document["metadata"]["name"]
            self._made.append(paths.node(name))
            await self.api.create(paths.NODES, document)
            names.append(name)
        for name in names:
            await eventually(lambda name=name: self._node_is_ready(name), what=f"node {name} is Ready")
        return names

    async def _node_is_ready(self, name: str) -> bool:
        node = await self.api.get(paths.node(name))
        conditions = {item["type"]: item["status"] for item in node["status"].get("conditions", [])}
        # the controller takes the not-ready taint off a moment after the kubelet reports Ready
        return conditions.get("Ready") == "True" and not any(
            taint["key"] == "node.kubernetes.io/not-ready" for taint in node["spec"].get("taints", [])
        )

    async def priority_class(self, name: str, value: int) -> str:
        """Creates a PriorityClass."""
        document = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}}
        return await self.create(paths.PRIORITY_CLASSES, {**document, "value": value})

    async def create(self, collection: str, document: Mapping[str, Any]) -> str:
        """Creates an object: a namespaced one in the test's namespace, another one until the test's end; its name."""
        if "/namespaces/" in collection:
            await self.api.create(collection, document)
        else:
            self._made.append(paths.named(collection, document["metadata"]["name"]))
            await self.api.create(collection, document)
        return str(document["metadata"]["name"])

    async def replica_set(self, name: str, replicas: int, **template: Any) -> str:
        """Creates a ReplicaSet whose pods carry the label app=`name`; keywords as for `pod_template`."""
        spec = {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": pod_template(name, **template),
        }
        document = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name}, "spec": spec}
        return await self.create(paths.in_namespace(paths.REPLICA_SETS, self.namespace), document)

    async def deployment(self, name: str, replicas: int, **template: Any) -> str:
        """Creates a Deployment whose pods carry the label app=`name`; keywords as for `pod_template`."""
        spec = {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": pod_template(name, **template),
        }
        document = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}
        return await self.create(paths.in_namespace(paths.DEPLOYMENTS, self.namespace), document)

    async def job(self, name: str, parallelism: int = 1, **template: Any) -> str:
        """Creates a Job whose pods run until they are deleted; keywords as for `pod_template`."""
        pod = pod_template(name, **template)
        pod["spec"]["restartPolicy"] = "Never"
        spec = {"parallelism": parallelism, "completions": parallelism, "template": pod}
        document = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}
        return await self.create(paths.in_namespace(paths.JOBS, self.namespace), document)

    async def disruption_budget(self, app: str, **spec: Any) -> str:
        """Creates a PodDisruptionBudget for the pods of `app`; keywords are its spec, such as minAvailable=1."""
        spec = {"selector": {"matchLabels": {"app": app}}, **spec}
        document = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": app}, "spec": spec}
        return await self.create(paths.in_namespace(paths.DISRUPTION_BUDGETS, self.namespace), document)

    async def scale(self, collection: str, name: str, replicas: int) -> None:
        """Sets spec.replicas of an object of the test's namespace, such as scale(paths.DEPLOYMENTS, "web", 3)."""
        path = paths.named(paths.in_namespace(collection, self.namespace), name)
        await self.api.merge_patch(path, {"spec": {"replicas": replicas}})

    async def pods(self, app: str | None = None) -> list[Document]:
        """The pods of the namespace, or those of one app."""
        query = {"labelSelector": f"app={app}"} if app else None
        answer = await self.api.get(paths.in_namespace(paths.PODS, self.namespace), query)
        items: list[Document] = answer["items"]
        return items

    async def bound(self, app: str) -> Counter[str]:
        """How many pods of an app are bound to each node; terminating ones are left out."""
        return Counter(
            pod["spec"]["nodeName"]
            for pod in await self.pods(app)
            if "nodeName" in pod["spec"] and "deletionTimestamp" not in pod["metadata"]
        )

    async def until_ready(self, app: str, count: int, *, timeout_seconds: float = PATIENCE_SECONDS) -> list[Document]:
        """Waits until an app has exactly `count` Ready pods, none of them terminating."""

        async def ready() -> list[Document]:
            pods = [pod for pod in await self.pods(app) if is_ready(pod)]
            assert len(pods) == count, f"{len(pods)} of {count} pods Ready"
            return pods

        return await eventually(ready, timeout_seconds=timeout_seconds, what=f"{count} pods of {app} are Ready")

    async def until_unschedulable(
        self, app: str, count: int, *, timeout_seconds: float = PATIENCE_SECONDS
    ) -> list[Document]:
        """Waits until exactly `count` pods of an app are marked Unschedulable."""

        async def unschedulable() -> list[Document]:
            pods = [pod for pod in await self.pods(app) if is_unschedulable(pod)]
            assert len(pods) == count, f"{len(pods)} of {count} pods Unschedulable"
            return pods

        what = f"{count} pods of {app} are Unschedulable"
        return await eventually(unschedulable, timeout_seconds=timeout_seconds, what=what)

    async def clear(self) -> None:
        """Removes what the test made, and waits until none of its pods and nodes is left."""
        # owners first, then pods, then the namespace: a namespace with pods in it takes 5 s to go
        for owners in (paths.DEPLOYMENTS, paths.REPLICA_SETS, paths.STATEFUL_SETS, paths.DAEMON_SETS, paths.JOBS):
            await self._remove(paths.in_namespace(owners, self.namespace))
        for path in [*paths_of_plans(await self._plans()), *reversed(self._made)]:
            if not path.startswith(paths.NODES):
                await self._remove(path)
        await eventually(self._no_pods, what=f"no pods left in {self.namespace}")
        await self._remove(paths.named(paths.NAMESPACES, self.namespace))
        for path in self._made:
            if path.startswith(paths.NODES):
                await self._remove(path)

    async def _plans(self) -> list[Document]:
        items: list[Document] = (await self.api.get(paths.PACKING_PLANS))["items"]
        return items

    async def _no_pods(self) -> bool:
        # a Job's pod has a finalizer until the Job's controller has seen it go
        await self._remove(paths.in_namespace(paths.PODS, self.namespace), grace_period_seconds=0)
        return not await self.pods()

    async def _remove(self, path: str, *, grace_period_seconds: int | None = None) -> None:
        options: Document = {"propagationPolicy": "Background"}
        if grace_period_seconds is not None:
            options["gracePeriodSeconds"] = grace_period_seconds
        try:
            await self.api.delete(path, options)
        except NotFound:
            return


def paths_of_plans(plans: list[Document]) -> list[str]:
    """Where the PackingPlans are."""
    return [paths.named(paths.PACKING_PLANS, plan["metadata"]["name"]) for plan in plans]


def pod_template(
    app: str,
    *,
    cpu: str = "1",
    memory: str = "64Mi",
    gpus: int = 0,
    image: str = "simulated",
    scheduler_name: str = "stowage",
    priority_class: str | None = None,
    annotations: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    **spec: Any,
) -> Document:
    """A pod template with one container; further keywords are fields of the pod's spec, such as nodeSelector={…}."""
    requests = {"cpu": cpu, "memory": memory, **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
    limits = {"nvidia.com/gpu": str(gpus)} if gpus else {}
    container = {"name": "main", "image": image, "resources": {"requests": requests, "limits": limits}}
    spec = {"schedulerName": scheduler_name, "containers": [container], **spec}
    if priority_class is not None:
        spec["priorityClassName"] = priority_class
    metadata = {"labels": {"app": app, **(labels or {})}, "annotations": dict(annotations or {})}
    return {"metadata": metadata, "spec": spec}


def condition(document: Document, kind: str) -> Document:
    """The condition of that type, {} if there is none."""
    conditions: list[Document] = document.get("status", {}).get("conditions", [])
    return next((item for item in conditions if item["type"] == kind), {})


def is_ready(pod: Document) -> bool:
    """Whether a pod is Running and Ready and shall stay."""
    running = pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
    return running and condition(pod, "Ready").get("status") == "True"


def is_unschedulable(pod: Document) -> bool:
    """Whether its scheduler gave up on a pod."""
    scheduled = condition(pod, "PodScheduled")
    return scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"
