"""The pod that brings what a variant needs to one node, before a replica comes there: image, and weights on the node.

It runs the variant's own init containers with the volumes that they fill, and then the engine's image asleep. So what
a node's kubelet and its volumes keep of that is what they would keep of a replica. It asks for next to nothing.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from stowage.api.model_service import ModelService
from stowage.api.model_service_role import Role, Variant
from stowage.api.names import API_VERSION, GROUP, PREFETCH_LABEL, ROLE_LABEL, SERVICE_LABEL
from stowage.api.resource import part_to_document

Document = dict[str, Any]

NODE_ANNOTATION: Final = f"{GROUP}/prefetch-node"
"""Of a prefetch pod: the node that it is for."""
SLEEPER: Final = "stowage-asleep"
_TAKEN: Final = (
    "automountServiceAccountToken",
    "dnsConfig",
    "dnsPolicy",
    "hostAliases",
    "imagePullSecrets",
    "securityContext",
    "serviceAccountName",
    "tolerations",
)
_OF_THE_NODE: Final = ("hostPath", "persistentVolumeClaim")
"""Volumes that outlive a pod, and may be found again by the next one on its node."""
_OF_USERS: Final = ("runAsGroup", "runAsNonRoot", "runAsUser", "seLinuxOptions")
_ASKED: Final = {"cpu": "1m", "memory": "1Mi"}
"""Of each container: nobody's room is taken, and who is short of memory takes it from such pods first."""
_MOST: Final = {"cpu": "100m", "memory": "64Mi"}
_HASH_LENGTH: Final = 10
_ATTRACTION: Final = 100


def fills_node(variant: Variant) -> bool:
    """Whether an init container of it fills a volume that outlives the pod: else only the image can be kept."""
    spec = part_to_document(variant.template.spec)
    lasting = {
        one["name"] for one in spec.get("volumes") or () if any(one.get(kind) is not None for kind in _OF_THE_NODE)
    }
    return any(lasting & _mounted(one) for one in _init_containers(spec))


def prefetch_pod(service: ModelService, role: Role, variant: Variant, node: str) -> Document:
    """The pod for one node; its name tells all that it is made from, so that another template is another pod.

    kube-scheduler counts what pods that stand there prefer too: `podAffinity` draws replicas to the node, without a
    word in their own template. GPUs, sidecars and what a container may do beyond others are left out.
    """
    template = part_to_document(variant.template.spec)
    init = _init_containers(template) if fills_node(variant) else []
    volumes = {name for one in init for name in _mounted(one)}
    spec: Document = {
        **{key: template[key] for key in _TAKEN if key in template},
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 1,
        "enableServiceLinks": False,
        "affinity": _affinity(service, role, node),
        "containers": [_sleeper(template, variant.template.spec.engine.name)],
    }
    if init:
        spec["initContainers"] = [_modest(one) for one in init]
        spec["volumes"] = [one for one in template.get("volumes") or () if one["name"] in volumes]
    else:
        spec["automountServiceAccountToken"] = False
    made = json.dumps([role.name, variant.name, node, spec], sort_keys=True)
    digest = hashlib.sha256(made.encode()).hexdigest()[:_HASH_LENGTH]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{service.name}-{role.name}-prefetch-{digest}",
            "namespace": service.metadata.namespace,
            "labels": {SERVICE_LABEL: service.name, PREFETCH_LABEL: role.name},
            "annotations": {
                NODE_ANNOTATION: node,
                "cluster-autoscaler.kubernetes.io/safe-to-evict": "true",
            },
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": service.kind,
                    "name": service.name,
                    "uid": service.metadata.uid or "",
                    "controller": True,
                }
            ],
        },
        "spec": spec,
    }


def _init_containers(spec: Document) -> list[Document]:
    """Those that end: sidecars run beside the engine."""
    return [one for one in spec.get("initContainers") or () if one.get("restartPolicy") != "Always"]


def _mounted(container: Document) -> set[str]:
    return {str(one.get("name")) for one in container.get("volumeMounts") or ()}


def _modest(container: Document) -> Document:
    """An init container without GPUs and claims, that asks for next to nothing; its limits stay."""
    limits = (container.get("resources") or {}).get("limits") or {}
    kept = {name: amount for name, amount in limits.items() if "/" not in name and not name.startswith("hugepages-")}
    return {**container, "resources": {"requests": dict(_ASKED), **({"limits": kept} if kept else {})}}


def _sleeper(spec: Document, engine: str) -> Document:
    container = next(one for one in spec["containers"] if one["name"] == engine)
    given = container.get("securityContext") or {}
    return {
        "name": SLEEPER,
        "image": container.get("image"),
        **{key: container[key] for key in ("imagePullPolicy",) if key in container},
        "command": ["sleep", "2147483647"],
        # images made for GPUs ask for all of them by their environment, where the runtime listens to it
        "env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}],
        "resources": {"requests": dict(_ASKED), "limits": dict(_MOST)},
        "securityContext": {
            **{key: given[key] for key in _OF_USERS if key in given},
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def _affinity(service: ModelService, role: Role, node: str) -> Document:
    on_node = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    replicas = {"matchLabels": {SERVICE_LABEL: service.name, ROLE_LABEL: role.name}}
    return {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [on_node]}},
        "podAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {
                    "weight": _ATTRACTION,
                    "podAffinityTerm": {"labelSelector": replicas, "topologyKey": "kubernetes.io/hostname"},
                }
            ]
        },
    }
