"""The scheduler `stowage` of a local cluster: an unmodified kube-scheduler with our HTTP extender."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from stowage.demo.processes import ManagedProcess, free_port

if TYPE_CHECKING:
    from stowage.demo.local_cluster import LocalCluster

SCHEDULER_NAME = "stowage"
LEASE_NAME = "stowage-scheduler"
SCHEDULER_PROCESS = "scheduler-stowage"
DEFAULT_EXTENDER_PORT = 8900
# Names that go to an extender and come back are garbage soon: collected less often they cost a tenth of the throughput
# less, and up to the limit more memory (docs/design/scale.md).
SCHEDULER_ENVIRONMENT = {"GOGC": "400", "GOMEMLIMIT": "2GiB"}


def scheduler_configuration(kubeconfig: Path, extender_port: int) -> dict[str, Any]:
    """The KubeSchedulerConfiguration of the scheduler `stowage`.

    An extender belongs to all profiles of a scheduler, hence the process of its own. DefaultPreemption is off: who has
    to yield is part of a plan. A custom configuration would be held to 50 requests per second by default.
    """
    return {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": str(kubeconfig), "qps": 500, "burst": 1000},
        "leaderElection": {
            "leaderElect": True,
            "resourceNamespace": "kube-system",
            "resourceName": LEASE_NAME,
        },
        "percentageOfNodesToScore": 100,
        "profiles": [
            {
                "schedulerName": SCHEDULER_NAME,
                "plugins": {"postFilter": {"disabled": [{"name": "DefaultPreemption"}]}},
            }
        ],
        "extenders": [
            {
                "urlPrefix": f"http://127.0.0.1:{extender_port}",
                "filterVerb": "filter",
                "preemptVerb": "preempt",
                "nodeCacheCapable": True,
                # with no extender there pods are scheduled all the same
                "ignorable": True,
                "httpTimeout": "1s",
            }
        ],
    }


def start_scheduler(
    cluster: LocalCluster, extender_port: int = DEFAULT_EXTENDER_PORT, *, name: str = SCHEDULER_PROCESS
) -> ManagedProcess:
    """Starts the scheduler `stowage` and waits until it is healthy.

    Args:
        cluster: where its pods are.
        extender_port: port of 127.0.0.1 where `stowage extender` listens, now or later.
        name: of the process; names its files in the cluster's folder.

    Returns:
        The process, a context manager that ends it.

    Raises:
        ProcessError: it ended or does not answer.
    """
    configuration = cluster.folder / f"{name}.yaml"
    configuration.write_text(
        yaml.safe_dump(scheduler_configuration(cluster.kubeconfig, extender_port), sort_keys=False), encoding="utf-8"
    )
    port = free_port()
    command: list[str | Path] = [
        *(cluster.programs / "kube-scheduler", "--config", configuration),
        *("--bind-address", "127.0.0.1", "--secure-port", str(port)),
        *("--authentication-kubeconfig", cluster.kubeconfig, "--authorization-kubeconfig", cluster.kubeconfig),
        *("--authorization-always-allow-paths", "/healthz,/readyz,/livez,/metrics"),
    ]
    if cluster.feature_gates:
        command += ["--feature-gates", cluster.gates]
    process = ManagedProcess.start(name, command, folder=cluster.folder, environment=SCHEDULER_ENVIRONMENT)
    try:
        process.wait_until_serving(f"https://127.0.0.1:{port}/readyz")
    except BaseException:
        process.stop()
        raise
    return process
