"""A control plane for a test run alone, a namespace for a test, and `stowage` processes beside them."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

from harness.waiting import eventually
from harness.workbench import Workbench
from stowage.demo import local_cluster
from stowage.demo.local_cluster import LocalCluster
from stowage.demo.processes import ManagedProcess
from stowage.transport import paths
from stowage.transport.api import Api
from stowage.transport.errors import NotFound


@contextlib.contextmanager
def control_plane(
    prefix: str, *, feature_gates: tuple[str, ...] = (), apis: tuple[str, ...] = ()
) -> Iterator[LocalCluster]:
    """A control plane with the custom resources and without nodes; its name is `prefix` and this process's id.

    Clusters of that prefix whose test run is gone are removed first. Gates and API versions are switched on beside
    those that are on by default.
    """
    for name in local_cluster.names():
        run = re.fullmatch(rf"{re.escape(prefix)}(\d+)", name)
        if run and not Path("/proc", run[1]).exists():
            local_cluster.down(name)
    name = f"{prefix}{os.getpid()}"
    try:
        yield local_cluster.up(None, name=name, feature_gates=feature_gates, apis=apis)
    finally:
        local_cluster.down(name)


@contextlib.asynccontextmanager
async def bench(api: Api) -> AsyncIterator[Workbench]:
    """A fresh namespace; what was made in it is gone at the end."""
    made = Workbench(api, namespace=await new_namespace(api))
    yield made
    await made.clear()


async def new_namespace(api: Api) -> str:
    """A namespace that takes pods; its name."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    await api.create(paths.NAMESPACES, {"metadata": {"name": name}})

    async def has_service_account() -> bool:
        try:
            await api.get(f"{paths.named(paths.NAMESPACES, name)}/serviceaccounts/default")
        except NotFound:
            return False
        return True

    # without it the API server refuses pods
    await eventually(has_service_account, what=f"service account in {name}")
    return name


def start_stowage(
    cluster: LocalCluster,
    command: str,
    *arguments: str,
    logs: Path,
    name: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> ManagedProcess:
    """Starts `stowage COMMAND`; its log is `logs`/NAME.log, by default with a name that is used once."""
    return ManagedProcess.start(
        name or f"{command}-{uuid.uuid4().hex[:6]}",
        [sys.executable, "-m", "stowage.cli", command, *arguments],
        folder=cluster.folder,
        logs=logs,
        environment={**cluster.environment, **(environment or {})},
    )
