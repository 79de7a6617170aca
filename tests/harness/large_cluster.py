"""A real etcd and a real API server that hold a large cluster within seconds.

Objects are written into etcd directly, as the JSON that an API server reads there too: 50,000 pods made through the
API would take minutes. Nothing else runs: no controller and no scheduler changes what was written.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from harness.large_objects import Document
from stowage.api import crd
from stowage.demo import local_cluster
from stowage.demo.local_cluster import LocalCluster
from stowage.demo.processes import ManagedProcess, free_port

_FOLDERS = {
    "Node": "minions",
    "Pod": "pods",
    "Namespace": "namespaces",
    "Deployment": "deployments",
    "ReplicaSet": "replicasets",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "Secret": "secrets",
    "TrainingJob": "stowage.dev/trainingjobs",
}
_IN_ONE_TRANSACTION = 100  # etcd takes 128 operations and 1.5 MiB
_AT_ONCE = 4
START_SECONDS = 120.0
PREFIX = "stowage-bench-"


@dataclass(frozen=True)
class BareCluster:
    """An API server with its etcd and nothing else.

    Attributes:
        cluster: with the kubeconfig of an administrator.
        etcd_port: of 127.0.0.1, without TLS.
    """

    cluster: LocalCluster
    etcd_port: int

    def pid(self, component: str) -> int:
        """The process id of `etcd` or `kube-apiserver`."""
        return int((self.cluster.folder / "pids" / f"{component}.pid").read_text(encoding="utf-8"))

    async def load(self, documents: Iterable[Document], *, watched: bool = False) -> int:
        """Write objects into etcd, as they are; returns their number.

        Args:
            documents: new or changed objects.
            watched: somebody watches already. Then each object gets a version of its own, as an API server would give
                it: of several with the same version a watch may pass over all but the first.
        """
        remaining, count = iter(documents), 0
        url = f"http://127.0.0.1:{self.etcd_port}/v3/kv/txn"
        async with aiohttp.ClientSession() as session:

            async def write(batch: list[Document]) -> None:
                puts = [{"requestPut": {"key": _key(one), "value": _coded(msgspec.json.encode(one))}} for one in batch]
                async with session.post(url, data=msgspec.json.encode({"success": puts})) as response:
                    assert response.status == 200, await response.text()

            while True:
                batches = [list(islice(remaining, 1 if watched else _IN_ONE_TRANSACTION)) for _ in range(_AT_ONCE)]
                await asyncio.gather(*(write(batch) for batch in batches if batch))
                count += sum(map(len, batches))
                if not batches[-1]:
                    return count

    async def forget(self, folder: str) -> None:
        """Delete from etcd all objects of a folder, such as `pods`."""
        first = f"/registry/{folder}/"
        last = first[:-1] + chr(ord("/") + 1)
        body = {"key": _coded(first.encode()), "range_end": _coded(last.encode())}
        url = f"http://127.0.0.1:{self.etcd_port}/v3/kv/deleterange"
        async with aiohttp.ClientSession() as session, session.post(url, data=msgspec.json.encode(body)) as response:
            assert response.status == 200, await response.text()


@contextlib.contextmanager
def bare_cluster() -> Iterator[BareCluster]:
    """Start etcd and an API server with the custom resources of Stowage; end them with the block."""
    _remove_what_ended_runs_left()
    name = f"{PREFIX}{os.getpid()}"
    programs = Path(local_cluster._programs_folder())
    workdir = local_cluster.clusters_folder()
    folder = workdir / "clusters" / name
    port = free_port()
    command: list[str | Path] = [
        *(programs / "kwokctl", "--v", "WARN", "create", "cluster", "--name", name, "--runtime", "binary"),
        *("--components", "etcd,kube-apiserver", "--etcd-port", str(port)),
        *("--etcd-binary", programs / "etcd", "--kube-apiserver-binary", programs / "kube-apiserver"),
        *("--kubeconfig", workdir / f".{name}.kubeconfig", "--kube-authorization", "--disable-qps-limits"),
        *("--wait", "60s"),
    ]
    environment: dict[str, Any] = {
        **os.environ,
        "KWOK_WORKDIR": str(workdir),
        "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }
    try:
        subprocess.run([str(part) for part in command], check=True, env=environment, stdin=subprocess.DEVNULL)
        cluster = LocalCluster(name=name, kubeconfig=folder / "kubeconfig.yaml", folder=folder, programs=programs)
        definitions = crd.documents()
        cluster.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "stowage-system"}}, *definitions])
        targets = [f"crd/{definition['metadata']['name']}" for definition in definitions]
        cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", *targets)
        yield BareCluster(cluster, port)
    finally:
        local_cluster.down(name)
        shutil.rmtree(folder, ignore_errors=True)


def _remove_what_ended_runs_left() -> None:
    for name in local_cluster.names():
        run = re.fullmatch(rf"{PREFIX}(\d+)", name)
        if run and not Path("/proc", run[1]).exists():
            local_cluster.down(name)


@contextlib.contextmanager
def start_stowage(bare: BareCluster, logs: Path, command: str, *arguments: str) -> Iterator[ManagedProcess]:
    """`stowage COMMAND`, ready: its first lists are complete. It ends with the block."""
    port = free_port()
    process = ManagedProcess.start(
        command,
        [sys.executable, "-m", "stowage.cli", command, "--metrics-port", str(port), *arguments],
        folder=bare.cluster.folder,
        logs=logs,
        environment=bare.cluster.environment,
    )
    with process:
        process.wait_until_serving(f"http://127.0.0.1:{port}/readyz", timeout_seconds=START_SECONDS)
        yield process


def _key(document: Document) -> str:
    metadata = document["metadata"]
    parts = [
        _FOLDERS[document["kind"]],
        *([metadata["namespace"]] if "namespace" in metadata else []),
        metadata["name"],
    ]
    return _coded(f"/registry/{'/'.join(parts)}".encode())


def _coded(data: bytes) -> str:
    return base64.b64encode(data).decode()
