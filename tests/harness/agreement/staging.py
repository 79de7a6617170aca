"""A generated state, made real: written by the API server, with its defaults and its admission."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Iterable

from harness.agreement.cases import State
from harness.agreement.residents import Resident
from harness.agreement.vocabulary import (
    NAMESPACES,
    RUNTIME_CLASSES,
    Document,
    namespace,
    runtime_class,
    service_account,
)
from harness.agreement.volumes import Object
from harness.large_cluster import BareCluster
from stowage.transport import paths
from stowage.transport.api import Api

RUNTIME_CLASS_PATH = "/apis/node.k8s.io/v1/runtimeclasses"
_FOLDERS = ("pods", "minions", "events", "persistentvolumeclaims", "persistentvolumes", "storageclasses", "csinodes")
_AT_ONCE = 8
_LONG_SECONDS = 86_400


async def prepare(api: Api) -> None:
    """What all states share: namespaces with their accounts, and RuntimeClasses."""
    await _all(api.create(paths.NAMESPACES, namespace(name)) for name in NAMESPACES)
    accounts = {name: f"{paths.named(paths.NAMESPACES, name)}/serviceaccounts" for name in NAMESPACES}
    await _all(api.create(path, service_account(name)) for name, path in accounts.items())
    await _all(api.create(RUNTIME_CLASS_PATH, runtime_class(name)) for name in RUNTIME_CLASSES)


@contextlib.asynccontextmanager
async def staged(bare: BareCluster, api: Api, state: State) -> AsyncIterator[None]:
    """The state, standing, with the pods to ask about; all of it is gone with the block."""
    try:
        await _all(_add_node(api, node) for node in state.nodes)
        await _all(_add_object(api, made) for made in state.storage)
        await _all(_add_resident(api, resident) for resident in state.residents)
        await _all(_add_pod(api, case.document) for case in state.cases)
        yield
    finally:
        for folder in _FOLDERS:
            await bare.forget(folder)


async def _add_node(api: Api, document: Document) -> None:
    await api.create(paths.NODES, document)
    # the API server taints a new node as not ready; the controller that takes the taint off does not run
    await api.merge_patch(paths.node(document["metadata"]["name"]), {"spec": {"taints": document["spec"]["taints"]}})


async def _add_object(api: Api, made: Object) -> None:
    await api.create(made.collection, made.document)
    if made.status:
        await api.merge_patch(f"{made.path}/status", {"status": made.status})


async def _add_pod(api: Api, document: Document) -> None:
    await api.create(paths.in_namespace(paths.PODS, document["metadata"]["namespace"]), document)


async def _add_resident(api: Api, resident: Resident) -> None:
    await _add_pod(api, resident.document)
    path = paths.pod(resident.document["metadata"]["namespace"], resident.document["metadata"]["name"])
    await api.merge_patch(f"{path}/status", {"status": resident.status})
    if resident.terminating and resident.status["phase"] == "Running":
        await api.delete(path, {"gracePeriodSeconds": _LONG_SECONDS})  # no kubelet ends it


async def _all(calls: Iterable[Awaitable[object]]) -> None:
    """All of them, a few at a time."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(call: Awaitable[object]) -> None:
        async with gate:
            await call

    async with asyncio.TaskGroup() as group:
        for call in calls:
            group.create_task(one(call))
