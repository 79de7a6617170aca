"""The chart as a release in a cluster."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from kind_cluster import KindCluster
from programs import ROOT, run

CHART = ROOT / "helm" / "stowage"
NAMESPACE = "stowage-system"
# the values that scenarios share; one that changes them changes them back
STANDARD = {"scheduler__enabled": True, "packing__defaultPolicy__enabled": False}


@dataclass(frozen=True)
class Release:
    """One release of the chart."""

    cluster: KindCluster
    image: str
    name: str = "stowage"
    namespace: str = NAMESPACE
    away: list[tuple[datetime, datetime]] = field(default_factory=list)  # from when to when it was being removed

    def install(self, **values: Any) -> None:
        """Install it, or upgrade it to these values, and wait until it is Ready.

        Args:
            values: by the path within the chart's values, with `__` for a dot.
        """
        repository, _, tag = self.image.partition(":")
        paths = {key.replace("__", "."): value for key, value in values.items()}
        chosen = {"image.repository": repository, "image.tag": tag, **paths}
        began = time.monotonic()  # noqa: TID251
        self._helm(
            *("upgrade", self.name, CHART, "--install", "--create-namespace", "--wait", "--timeout", "3m"),
            *(part for path, value in chosen.items() for part in ("--set-json", f"{path}={json.dumps(value)}")),
        )
        print(f"helm upgrade --install --wait: {time.monotonic() - began:.1f} s")  # noqa: TID251

    def rollback(self) -> None:
        """Go back to the revision before."""
        self._helm("rollback", self.name, "--wait", "--timeout", "3m")

    def test(self) -> str:
        """`helm test`."""
        return self._helm("test", self.name, "--timeout", "2m")

    def uninstall(self) -> None:
        """Remove it; custom resources stay."""
        began = datetime.now(UTC)
        self._helm("uninstall", self.name, "--wait", "--timeout", "2m")
        self.away.append((began, datetime.now(UTC)))

    def leave(self, node: str) -> None:
        """Let all of its pods run elsewhere."""
        self.cluster.kubectl("cordon", node)
        self.cluster.kubectl(
            *("delete", "pods", "--namespace", self.namespace, "--field-selector", f"spec.nodeName={node}"),
            "--wait",
        )
        self.cluster.kubectl("rollout", "status", "deployments", "--namespace", self.namespace, "--timeout=2m")
        self.cluster.kubectl("uncordon", node)

    def leader(self) -> str:
        """Who holds the operators' lease: the name of a pod, `_` and something unique; empty when nobody does."""
        lease = self.cluster.get("lease", "stowage-operator", "--namespace", self.namespace)
        return str(lease["spec"].get("holderIdentity") or "")

    def nodes_of(self, component: str) -> dict[str, str]:
        """On which node each pod of a component runs."""
        selector = f"app.kubernetes.io/component={component}"
        pods = self.cluster.get("pods", "--namespace", self.namespace, "--selector", selector)["items"]
        return {
            pod["metadata"]["name"]: pod["spec"]["nodeName"]
            for pod in pods
            if "deletionTimestamp" not in pod["metadata"]
        }

    def restarts(self) -> dict[str, int]:
        """How often containers of Stowage ended and were started again, by pod and container; those that did."""
        pods = self.cluster.get("pods", "--namespace", self.namespace)["items"]
        return {
            f"{pod['metadata']['name']}/{container['name']}": container["restartCount"]
            for pod in pods
            for container in pod["status"].get("containerStatuses", ())
            if container["restartCount"]
        }

    def logs(self) -> str:
        """Of all containers, those before the last restart too."""
        arguments = ("logs", "--namespace", self.namespace, "--selector", f"app.kubernetes.io/instance={self.name}")
        return self.cluster.kubectl(*arguments, "--all-containers", "--prefix", "--tail=-1", "--ignore-errors")

    def _helm(self, *arguments: Any) -> str:
        common = ("--kubeconfig", self.cluster.kubeconfig, "--namespace", self.namespace)
        return run("helm", *arguments, *common)
