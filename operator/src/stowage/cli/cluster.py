"""A live cluster as commands use it: connected for the time of one command, read as one Kubernetes List."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

from stowage import __version__
from stowage.transport import paths
from stowage.transport.api import Api
from stowage.transport.errors import Forbidden, NotFound

Document = dict[str, Any]
Answer = TypeVar("Answer")

CHUNK = "500"
USER_AGENT = f"stowage-cli/{__version__}"

# kind of each collection whose objects a plan, a dump or an explanation needs
COLLECTIONS = {
    paths.NODES: "Node",
    paths.PODS: "Pod",
    paths.NAMESPACES: "Namespace",
    paths.DISRUPTION_BUDGETS: "PodDisruptionBudget",
    paths.PRIORITY_CLASSES: "PriorityClass",
    paths.REPLICA_SETS: "ReplicaSet",
    paths.DEPLOYMENTS: "Deployment",
    paths.STATEFUL_SETS: "StatefulSet",
    paths.DAEMON_SETS: "DaemonSet",
    paths.JOBS: "Job",
    paths.PERSISTENT_VOLUME_CLAIMS: "PersistentVolumeClaim",
    paths.PERSISTENT_VOLUMES: "PersistentVolume",
    paths.STORAGE_CLASSES: "StorageClass",
    paths.CSI_NODES: "CSINode",
    paths.CSI_DRIVERS: "CSIDriver",
    paths.RESOURCE_QUOTAS: "ResourceQuota",
    paths.POD_GROUPS: "PodGroup",
    paths.COSCHEDULING_POD_GROUPS: "PodGroup",
    paths.PACKING_POLICIES: "PackingPolicy",
    paths.TRAINING_JOBS: "TrainingJob",
    paths.MODEL_SERVICES: "ModelService",
    paths.PERFORMANCE_PROFILES: "PerformanceProfile",
}


# those that not every cluster has: who may not read one is told the same as who may, but there is none
OPTIONAL = frozenset(
    {paths.POD_GROUPS, paths.COSCHEDULING_POD_GROUPS, paths.TRAINING_JOBS}
    | {paths.MODEL_SERVICES, paths.PERFORMANCE_PROFILES}
)


def with_cluster(kubeconfig: str | None, context: str | None, work: Callable[[Api], Awaitable[Answer]]) -> Answer:
    """Runs `work` with a connection to the cluster, from code that is not asynchronous.

    Raises:
        CredentialsError: no cluster is known.
        ApiError: the cluster could not be reached, or refused.
    """

    async def connected() -> Answer:
        async with await Api.connect(kubeconfig=kubeconfig, context=context, user_agent=USER_AGENT) as api:
            return await work(api)

    return asyncio.run(connected())


async def read_list(api: Api) -> Document:
    """Everything that decides about packing, as a Kubernetes List like `kubectl get -o json` prints."""
    items: list[Document] = []
    for path, kind in COLLECTIONS.items():
        api_version = path.removeprefix("/apis/").removeprefix("/api/").rpartition("/")[0]
        try:
            items += [{"apiVersion": api_version, "kind": kind, **item} async for item in each(api, path)]
        except Forbidden:
            if path not in OPTIONAL:
                raise
    return {"apiVersion": "v1", "kind": "List", "items": items}


async def each(api: Api, path: str, selected: Mapping[str, str] | None = None) -> AsyncIterator[Document]:
    """The objects of a collection, fetched in chunks; none when the cluster does not have the resource.

    Args:
        api: the connection.
        path: of the collection.
        selected: selectors of the query; None: all objects.
    """
    query = {**(selected or {}), "limit": CHUNK}
    while True:
        try:
            page = await api.get(path, query)
        except NotFound:
            return
        for item in page.get("items") or ():
            yield item
        token = (page.get("metadata") or {}).get("continue")
        if not token:
            return
        query = {**(selected or {}), "limit": CHUNK, "continue": token}
