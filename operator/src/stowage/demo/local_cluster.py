"""A local cluster: a real control plane as plain processes, simulated nodes; no containers, no root, seconds to start.

`kwokctl` runs etcd, API server, controller manager, the untouched default scheduler and kwok, which plays the kubelets
by the stages in `stages/`. Several clusters can run at once, each under its own name.

Environment: STOWAGE_CLUSTER (name, default "stowage"), STOWAGE_CLUSTERS (folder of all clusters, default in the cache),
STOWAGE_TOOLS_BIN (folder of the programs).
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stowage.api import crd
from stowage.demo.processes import is_running, stop_recorded
from stowage.demo.second_scheduler import DEFAULT_EXTENDER_PORT, SCHEDULER_PROCESS, start_scheduler
from stowage.demo.simulated_nodes import NodeFile, read_node_file

__all__ = [
    "DEFAULT_EXTENDER_PORT",
    "DEFAULT_NODES_FILE",
    "SCHEDULER_PROCESS",
    "LocalCluster",
    "LocalClusterError",
    "cluster_name",
    "clusters_folder",
    "down",
    "names",
    "start_scheduler",
    "up",
]

_HERE = Path(__file__).resolve().parent
_CHECKOUT = _HERE.parents[3]
DEFAULT_NODES_FILE = _HERE / "nodes.yaml"
_PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kwok", "kwokctl")
_START_TIMEOUT_SECONDS = 120
_FIELD_MANAGER = "stowage-demo"


class LocalClusterError(Exception):
    """A local cluster could not be started, changed or removed; the message says which step failed and how."""


@dataclasses.dataclass(frozen=True)
class LocalCluster:
    """A running local cluster.

    Attributes:
        name: of the cluster.
        kubeconfig: file with the credentials of its administrator.
        folder: what kwokctl keeps of the cluster, and logs and process ids of processes beside it.
        programs: folder with kubectl, kube-scheduler and the others.
        feature_gates: of Kubernetes that are on beside those that are so by default.
    """

    name: str
    kubeconfig: Path
    folder: Path
    programs: Path
    feature_gates: tuple[str, ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables for processes that use this cluster: KUBECONFIG, STOWAGE_CLUSTER and PATH."""
        path = f"{self.programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        return {"KUBECONFIG": str(self.kubeconfig), "STOWAGE_CLUSTER": self.name, "PATH": path}

    @property
    def gates(self) -> str:
        """The feature gates as programs of Kubernetes take them."""
        return ",".join(f"{gate}=true" for gate in self.feature_gates)

    def is_running(self, process: str) -> bool:
        """Whether a process beside the cluster, such as "scheduler-stowage", was started and still runs."""
        return is_running(self.folder, process)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Runs kubectl on this cluster and returns what it prints.

        Raises:
            LocalClusterError: kubectl failed; the message holds its error output.
        """
        command = [str(self.programs / "kubectl"), "--kubeconfig", str(self.kubeconfig), *arguments]
        return _run(f"kubectl {' '.join(arguments[:3])}", command, stdin=stdin)

    def apply(self, documents: Iterable[Mapping[str, Any]]) -> None:
        """Creates or updates objects by server-side apply (field manager `stowage-demo`)."""
        items = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
        if items["items"]:
            arguments = ("apply", "--server-side", "--force-conflicts", f"--field-manager={_FIELD_MANAGER}", "-f", "-")
            self.kubectl(*arguments, stdin=json.dumps(items))

    def add_nodes(self, nodes: NodeFile | Iterable[Mapping[str, Any]]) -> None:
        """Creates simulated nodes (Node objects, or what a node file declares) and waits until all are Ready."""
        documents = nodes.documents() if isinstance(nodes, NodeFile) else list(nodes)
        if documents:
            self.apply(documents)
            targets = [f"node/{document['metadata']['name']}" for document in documents]
            # a busy machine takes its time: seconds when idle
            self.kubectl("wait", "--for=condition=Ready", "--timeout=180s", *targets)


def cluster_name() -> str:
    """The name of the cluster that commands use when none is given."""
    return os.environ.get("STOWAGE_CLUSTER") or "stowage"


def clusters_folder() -> Path:
    """The folder that holds all local clusters."""
    given = os.environ.get("STOWAGE_CLUSTERS")
    if given:
        return Path(given).absolute()
    base = os.environ.get("STOWAGE_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "stowage" / "kwok"


def names(workdir: Path | None = None) -> list[str]:
    """The names of the clusters in a folder (default: `clusters_folder()`), running or not."""
    return sorted(folder.name for folder in ((workdir or clusters_folder()) / "clusters").glob("*"))


def up(
    nodes: Path | NodeFile | None = DEFAULT_NODES_FILE,
    *,
    name: str | None = None,
    workdir: Path | None = None,
    feature_gates: tuple[str, ...] = (),
    apis: tuple[str, ...] = (),
) -> LocalCluster:
    """Starts a cluster, or finds it running, with the custom resources of Stowage and simulated nodes.

    Args:
        nodes: file or model that declares the nodes; None for no nodes.
        name: of the cluster; default `cluster_name()`.
        workdir: folder of all clusters; default `clusters_folder()`.
        feature_gates: of Kubernetes to switch on, like `GangScheduling`; they count when the cluster is made.
        apis: API versions to serve beside the usual ones, like `scheduling.k8s.io/v1alpha2`; the same.

    Raises:
        LocalClusterError: a program is missing or fails.
        NodeFileError: the node file can't be used; nothing was started.
    """
    name = _checked_name(name or cluster_name())
    workdir = workdir or clusters_folder()
    node_file = read_node_file(nodes) if isinstance(nodes, Path) else nodes
    programs = _programs_folder()
    folder = workdir / "clusters" / name
    kubeconfig = folder / "kubeconfig.yaml"
    cluster = LocalCluster(
        name=name, kubeconfig=kubeconfig, folder=folder, programs=programs, feature_gates=feature_gates
    )
    with _one_at_a_time(workdir):
        if not _is_ready(cluster):
            if folder.exists():
                _delete(name, workdir, programs)
            _create(cluster, workdir, apis)
    definitions = crd.documents()
    # the namespace of the operator's lease: an installation brings it, here nobody else would
    cluster.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "stowage-system"}}, *definitions])
    targets = [f"crd/{definition['metadata']['name']}" for definition in definitions]
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", *targets)
    for definition in definitions:
        # an established resource still answers 429 for about a second; kubectl waits as long as the answer asks
        spec = definition["spec"]
        cluster.kubectl(
            "get", "--raw", f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"
        )
    if node_file is not None:
        cluster.add_nodes(node_file)
    return cluster


def down(name: str | None = None, *, workdir: Path | None = None) -> None:
    """Ends a cluster and everything that was started beside it and recorded; no error if there is none of that name."""
    name = _checked_name(name or cluster_name())
    workdir = workdir or clusters_folder()
    if (workdir / "clusters" / name).exists():
        with _one_at_a_time(workdir):
            _delete(name, workdir, _programs_folder())


def _create(cluster: LocalCluster, workdir: Path, apis: tuple[str, ...]) -> None:
    options = []
    for component in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"):
        options += [f"--{component}-binary", str(cluster.programs / component)]
    for file in sorted((_HERE / "stages").glob("*.yaml")):
        options += ["--config", str(file)]
    if cluster.feature_gates:
        options += ["--kube-feature-gates", cluster.gates]
    if apis:
        options += ["--kube-runtime-config", ",".join(f"{version}=true" for version in apis)]
    command = [
        *(str(cluster.programs / "kwokctl"), "--v", "WARN", "create", "cluster", "--name", cluster.name),
        *("--runtime", "binary", "--kwok-controller-binary", str(cluster.programs / "kwok"), *options),
        *("--kube-authorization", "--disable-qps-limits"),
        # kwokctl adds the cluster to a kubeconfig of the user's too, by default ~/.kube/config: keep out of it
        *("--kubeconfig", str(workdir / f".{cluster.name}.kubeconfig")),
        *("--wait", f"{_START_TIMEOUT_SECONDS}s", "--timeout", f"{2 * _START_TIMEOUT_SECONDS}s"),
    ]
    try:
        _run(
            f"kwokctl create cluster {cluster.name}", command, environment=_kwok_environment(workdir, cluster.programs)
        )
    except LocalClusterError:
        _delete(cluster.name, workdir, cluster.programs)
        raise


def _delete(name: str, workdir: Path, programs: Path) -> None:
    folder = workdir / "clusters" / name
    stop_recorded(folder)
    kubeconfig = workdir / f".{name}.kubeconfig"
    command = [str(programs / "kwokctl"), "--v", "WARN", "delete", "cluster", "--name", name]
    environment = _kwok_environment(workdir, programs)
    _run(f"kwokctl delete cluster {name}", [*command, "--kubeconfig", str(kubeconfig)], environment=environment)
    shutil.rmtree(folder, ignore_errors=True)
    kubeconfig.unlink(missing_ok=True)


def _is_ready(cluster: LocalCluster) -> bool:
    if not cluster.kubeconfig.exists():
        return False
    try:
        cluster.kubectl("get", "--raw", "/readyz", "--request-timeout=3s")
    except LocalClusterError:
        return False
    return True


def _kwok_environment(workdir: Path, programs: Path) -> dict[str, str]:
    path = f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {**os.environ, "KWOK_WORKDIR": str(workdir), "PATH": path}


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?", name):
        raise LocalClusterError(f"cluster name {name!r}: use 1 to 50 of a-z, 0-9 and -, starting and ending with no -")
    return name


def _programs_folder() -> Path:
    """In a checkout what tools/cluster_tools.py makes available, else STOWAGE_TOOLS_BIN or PATH."""
    builder = _CHECKOUT / "tools" / "cluster_tools.py"
    if builder.is_file():
        result = subprocess.run(  # noqa: S603
            [sys.executable, str(builder)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False
        )
        if result.returncode != 0:
            raise LocalClusterError("the programs of the local cluster can't be had (see above)")
        return Path(result.stdout.strip())
    given = os.environ.get("STOWAGE_TOOLS_BIN")
    kubectl = shutil.which("kubectl")
    folder = Path(given) if given else Path(kubectl or "").parent
    missing = [program for program in _PROGRAMS if not os.access(folder / program, os.X_OK)]
    if missing:
        raise LocalClusterError(f"{folder} lacks {', '.join(missing)}: set STOWAGE_TOOLS_BIN to a folder that has them")
    return folder


@contextlib.contextmanager
def _one_at_a_time(workdir: Path) -> Iterator[None]:
    """Since kwokctl picks free ports and uses them a moment later, two at once could pick the same."""
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(
    what: str, command: list[str], *, stdin: str | None = None, environment: Mapping[str, str] | None = None
) -> str:
    result = subprocess.run(  # noqa: S603
        command, input=stdin or "", capture_output=True, text=True, check=False, env=environment
    )
    if result.returncode != 0:
        said = (result.stderr or result.stdout).strip() or f"exit code {result.returncode}"
        raise LocalClusterError(f"{what}: {said}")
    return result.stdout
