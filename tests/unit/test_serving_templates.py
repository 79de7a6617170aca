"""Whatever a pod template holds, it is refused as a whole or made into children: no pass over a service fails."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from stowage.admission.judge import judge
from stowage.admission.known import Known
from stowage.api.model_service import ModelService
from stowage.api.resource import InvalidObjectError
from stowage.decide.serving.children import activators, deployment
from stowage.decide.serving.group_children import GroupPod, group_pod
from stowage.decide.serving.prefetch import prefetch_step
from stowage.decide.serving.prefetch_pod import fills_node, prefetch_pod
from stowage_scheduler.cluster import Node
from unit.admission_requests import request

Document = dict[str, Any]
Path = tuple[str | int, ...]
NODE = "node-1"
ROOM = {"cpu": 10**15, "memory": 10**21, "pods": 10**12, "nvidia.com/gpu": 10**12}
CONTAINER: Document = {
    "image": "vllm/vllm-openai@sha256:" + "a" * 64,
    "env": [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hf", "key": "token"}}}],
    "volumeMounts": [{"name": "weights", "mountPath": "/weights"}],
    "resources": {"requests": {"cpu": "1"}, "limits": {"nvidia.com/gpu": 1, "memory": "8Gi"}},
    "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
    "securityContext": {"runAsUser": 1000, "capabilities": {"drop": ["ALL"]}},
    "ports": [{"containerPort": 8000}],
    "readinessProbe": {"httpGet": {"path": "/health", "port": 8000}},
}
TERM: Document = {"matchExpressions": [{"key": "gpu", "operator": "In", "values": ["h100"]}]}
APART: Document = {"labelSelector": {"matchLabels": {"app": "a"}}, "topologyKey": "kubernetes.io/hostname"}
POD: Document = {
    "containers": [{"name": "engine", **CONTAINER}, {"name": "logs", "image": "logs:1"}],
    "initContainers": [
        {"name": "fetch", **CONTAINER},
        {"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"},
    ],
    "volumes": [{"name": "weights", "hostPath": {"path": "/var/weights"}}],
    "terminationGracePeriodSeconds": 60,
    "schedulerName": "stowage",
    "priorityClassName": "high",
    "serviceAccountName": "engines",
    "hostNetwork": True,
    "imagePullSecrets": [{"name": "registry"}],
    "nodeSelector": {"gpu": "h100"},
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "securityContext": {"runAsNonRoot": True},
    "affinity": {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [TERM]}},
        "podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": APART}]},
        "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [APART]},
    },
}
VALUES: tuple[Any, ...] = (None, -7, True, "words", [], [None], [3], ["words"], {}, {"words": None}, {"name": ["a"]})


def paths(value: Any, above: Path = ()) -> Iterator[Path]:
    """Of all parts of a document."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield (*above, key)
        yield from paths(part, (*above, key))


def service(pod: Document) -> Document:
    variant = {"template": {"spec": pod}, "group": {"size": 2}}
    spec = {
        "model": {"uri": "hf://a/b"},
        "roles": [{"variants": [variant], "warm": {"nodes": 1}}],
        "scaling": {"scaleToZero": {}},
    }
    metadata = {"name": "llama", "namespace": "team-a", "uid": "u-1"}
    return {"apiVersion": "stowage.dev/v1alpha1", "kind": "ModelService", "metadata": metadata, "spec": spec}


def children(found: ModelService) -> int:
    """How many objects are made of a template."""
    role = found.spec.roles[0]
    variant = role.variants[0]
    pods = [group_pod(found, GroupPod(role, variant, 0, 0, index), gated=False) for index in range(2)]
    node = Node(name=NODE, labels={"gpu": "h100"}, allocatable=ROOM)
    step = prefetch_step(found, (), {NODE: node}, (), 0.0)
    assert fills_node(variant) in {True, False}
    assert prefetch_pod(found, role, variant, NODE)["kind"] == "Pod"
    return len([*pods, *step.create, deployment(found, role, variant, 1), *activators(found, "stowage:1")])


def test_a_template_of_every_part_is_made_into_all_children() -> None:
    assert children(ModelService.parse(service(POD))) == 5, "two pods of a group, of a prefetch, and two Deployments"


@pytest.mark.parametrize("path", [pytest.param(one, id=".".join(map(str, one))) for one in paths(POD)])
def test_a_part_of_another_form_is_refused_or_handed_on(path: Path) -> None:
    for value in VALUES:
        pod = copy.deepcopy(POD)
        part: Any = pod
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = value
        judge(request(service(pod)), Known())
        try:
            found = ModelService.parse_stored(service(pod))
        except InvalidObjectError:
            continue
        assert children(found) >= 4
