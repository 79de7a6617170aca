"""A real Prometheus in a cluster: a pod and a Service `prometheus` in the namespace `default`."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import quote

from kind_cluster import KindCluster
from programs import ROOT, run
from release import CHART

FOLDER: Final = ROOT / "e2e" / "prometheus"
IMAGE: Final = "stowage-e2e-prometheus:1"
URL: Final = "http://prometheus.default.svc:9090"
PROCESS: Final = "prometheus --config.file"
_QUERY: Final = "/api/v1/namespaces/default/pods/prometheus:9090/proxy/api/v1/query?query="


def start(cluster: KindCluster) -> None:
    """With the chart's alerts; waits until it is Ready."""
    run("docker", "build", "--network", "host", "--tag", IMAGE, FOLDER, timeout_seconds=900)
    cluster.load(IMAGE)
    rules = CHART / "alerts" / "stowage.yaml"
    cluster.kubectl("create", "configmap", "prometheus-rules", f"--from-file=rules.yml={rules}")
    cluster.kubectl("apply", "--filename", FOLDER / "prometheus.yaml")
    cluster.wait("condition=Ready", "pod/prometheus")


def end(cluster: KindCluster) -> None:
    """Takes it away with all that it knew."""
    cluster.kubectl("delete", "configmap", "prometheus-rules")
    cluster.kubectl("delete", "--filename", FOLDER / "prometheus.yaml", "--grace-period=1")


def node(cluster: KindCluster) -> str:
    """Where it runs."""
    return str(cluster.get("pod", "prometheus", "--namespace", "default")["spec"]["nodeName"])


def query(cluster: KindCluster, expression: str) -> list[dict[str, Any]]:
    """What an instant query answers; it fails if Prometheus does not take it."""
    answer = json.loads(cluster.kubectl("get", "--raw", _QUERY + quote(expression, safe="")))
    assert answer["status"] == "success", answer
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found
