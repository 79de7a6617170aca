"""The chart as helm renders it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "stowage"
NAMESPACE = "stowage-system"
KUBERNETES = "1.36.3"
MUTATING_POLICY = "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy"
MONITORING = "monitoring.coreos.com/v1/ServiceMonitor"

Object = dict[str, Any]


class RefusedError(Exception):
    """Helm refused the values; the message is what it said."""


@cache
def programs() -> Path:
    """The folder with helm, kubeconform and promtool; builds what is missing."""
    command = [sys.executable, ROOT / "tools" / "check_tools.py"]
    return Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())


def run(program: str, *arguments: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
    """Runs one of the programs, with a home of its own choosing: nobody's plugins and settings count."""
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "HELM_CACHE_HOME": "/nonexistent"}
    command = [programs() / program, *arguments]
    return subprocess.run(command, input=given, capture_output=True, text=True, check=False, env=environment)


@cache
def _manifest(values: str, release: str, kubernetes: str, apis: tuple[str, ...]) -> str:
    served = [f"--api-versions={api}" for api in apis]
    command = ["template", release, CHART, "--namespace", NAMESPACE, "--kube-version", kubernetes, *served]
    result = run("helm", *command, "--values", "-", given=values)
    if result.returncode:
        raise RefusedError(result.stderr.strip())
    return result.stdout


def manifest(
    values: Mapping[str, Any] | None = None,
    *,
    release: str = "stowage",
    kubernetes: str = KUBERNETES,
    apis: tuple[str, ...] = (MUTATING_POLICY,),
) -> str:
    """What `helm template` prints.

    Raises:
        RefusedError: the schema or a template refuses the values.
    """
    return _manifest(json.dumps(values or {}, sort_keys=True), release, kubernetes, apis)


def objects(values: Mapping[str, Any] | None = None, **how: Any) -> list[Object]:
    """The objects that helm would make, its hooks included; shared among tests, so not to be changed."""
    return _parsed(manifest(values, **how))


@cache
def _parsed(text: str) -> list[Object]:
    return [one for one in yaml.load_all(text, yaml.CSafeLoader) if one]


def of_kind(found: list[Object], *kinds: str) -> list[Object]:
    """Those of some kinds."""
    return [one for one in found if one["kind"] in kinds]


def named(found: list[Object], kind: str, name: str) -> Object:
    """The one of a kind and name."""
    [one] = [one for one in of_kind(found, kind) if one["metadata"]["name"] == name]
    return one


def pods(found: list[Object]) -> Iterator[tuple[str, Object]]:
    """The pod specs, with the name of what holds them."""
    for one in found:
        if one["kind"] == "Pod":
            yield one["metadata"]["name"], one["spec"]
        elif "template" in one.get("spec", {}):
            yield one["metadata"]["name"], one["spec"]["template"]["spec"]


def containers(found: list[Object]) -> Iterator[tuple[str, Object]]:
    """The containers, with their names."""
    for name, pod in pods(found):
        for container in [*pod.get("initContainers", ()), *pod["containers"]]:
            yield f"{name}/{container['name']}", container


def environment(container: Object) -> dict[str, str]:
    """The environment variables that have plain values."""
    return {one["name"]: one["value"] for one in container.get("env", ()) if "value" in one}


MATRIX: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "a second scheduler": {"scheduler": {"enabled": True}},
    "a second scheduler for gpus only": {
        "scheduler": {"enabled": True, "replicaCount": 2, "managedResources": ["nvidia.com/gpu"]}
    },
    "beside the control plane's scheduler": {
        "controlPlaneExtender": {"enabled": True, "holder": "control-plane", "clusterIP": "10.96.0.90"}
    },
    "two operators": {"replicaCount": 2},
    "held to namespaces": {"watchNamespaces": ["team-a", "team-b"], "scheduler": {"enabled": True}},
    "held to as many namespaces as an expression holds": {
        "watchNamespaces": [f"team-{number}" for number in range(64)],
        "scheduler": {"enabled": True},
    },
    "nothing to pack": {"packing": {"enabled": False}},
    "the largest integers": {
        "replicaCount": 5,
        "nodeLossSeconds": 86400,
        "operator": {
            "seed": 2147483647,
            "leaseSeconds": 3600,
            "solverWorkers": 256,
            "resources": {"limits": {"cpu": 256, "memory": 1099511627776}},
            "tolerations": [{"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 2147483647}],
        },
        "packing": {"defaultPolicy": {"maxMovesPerPlan": 256, "maxMovesPerHour": 100000}},
        "scheduler": {
            "enabled": True,
            "replicaCount": 5,
            "percentageOfNodesToScore": 100,
            "goGarbageCollection": 10000,
            "clientConnection": {"qps": 10000, "burst": 20000},
        },
        "networkPolicy": {"apiServerPorts": [65535]},
        "priorityClass": {"value": 1000000000},
    },
    "certificates by cert-manager, and needed": {
        "webhook": {"certManager": {"enabled": True}, "failurePolicy": "Fail"},
        "packing": {"defaultPolicy": {"enabled": False}},
    },
    "certificates by an issuer of the cluster": {
        "webhook": {"certManager": {"enabled": True, "issuerRef": {"name": "ca", "kind": "ClusterIssuer"}}}
    },
    "no webhook": {"webhook": {"enabled": False}},
    "queries of Prometheus": {
        "prometheus": {
            "endpoints": [
                {"url": "http://prometheus.monitoring.svc:9090"},
                {
                    "name": "gpus",
                    "url": "https://thanos.example/prometheus",
                    "bearerToken": {"secret": "thanos", "key": "token"},
                    "ca": {"secret": "thanos", "key": "ca"},
                    "timeout": "2s",
                },
            ]
        },
        "training": {
            "promqlRules": [
                {"name": "loss-spike", "query": 'loss{team="a"} > 10', "for": "60s"},
                {
                    "name": "xid",
                    "query": "DCGM_FI_DEV_XID_ERRORS > 0\n",
                    "endpoint": "gpus",
                    "every": "30s",
                    "namespaces": ["team-a"],
                    "labels": {"namespace": "exported_namespace", "pod": "exported_pod"},
                },
            ]
        },
        "networkPolicy": {
            "prometheusTo": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
        },
    },
    "bare": {
        "crds": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "podDisruptionBudget": {"enabled": False},
        "priorityClass": {"create": False},
        "rbac": {"create": False, "aggregateRoles": False},
        "serviceAccount": {"create": False, "name": "mine"},
        "packing": {"defaultPolicy": {"enabled": False}},
        "metrics": {"scrapeAnnotations": False},
    },
    "all metrics": {
        "scheduler": {"enabled": True},
        "metrics": {
            "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}, "interval": "30s"},
            "prometheusRule": {"enabled": True},
            "rulesConfigMap": {"enabled": True},
            "dashboards": {"enabled": True, "annotations": {"grafana_folder": "Stowage"}},
        },
    },
    "a narrow network": {
        "scheduler": {"enabled": True},
        "networkPolicy": {
            "apiServerCidrs": ["10.0.0.1/32", "fd00::1/128"],
            "apiServerPorts": [6443],
            "metricsFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
            "extraEgress": [{"ports": [{"port": 53, "protocol": "UDP"}]}],
        },
    },
    "every pod placed by hand": {
        "scheduler": {"enabled": True, "priorityClassName": "system-cluster-critical", "podLabels": {"a": "b"}},
        "commonLabels": {"team": "platform"},
        "fullnameOverride": "packer",
        "image": {"digest": "sha256:" + "0" * 64, "pullSecrets": [{"name": "registry"}]},
        "operator": {
            "nodeSelector": {"role": "system"},
            "tolerations": [{"key": "role", "operator": "Exists", "effect": "NoSchedule"}],
            "affinity": {"nodeAffinity": {}},
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
            "solverWorkers": 4,
            "extraEnv": [{"name": "TZ", "value": "UTC"}],
            "podAnnotations": {"a": "b"},
        },
    },
}
"""Values that each make another shape of the release."""
