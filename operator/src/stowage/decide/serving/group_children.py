"""What a replica of several pods is made of: its pods, the Service that names them, the budget that protects them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from stowage.api.model_service import ModelService
from stowage.api.model_service_role import Group, Role, ServingTemplate, Variant
from stowage.api.model_service_status import GroupStatus
from stowage.api.names import (
    ATTEMPT_LABEL,
    GANG_GATE,
    GANG_LABEL,
    GANG_SIZE_LABEL,
    GROUP_INDEX_LABEL,
    GROUP_ORDINAL_LABEL,
    SERVICE_LABEL,
    TAKES_REQUESTS_LABEL,
    TEMPLATE_HASH_LABEL,
    VARIANT_LABEL,
)
from stowage.api.resource import part_to_document
from stowage.api.training_job import Pack
from stowage.decide.serving.children import (
    PORT_NAME,
    deployment_name,
    groups_budget_name,
    groups_name,
    labels_of,
    metadata_of,
    pod_spec,
)
from stowage.decide.training.node_terms import apart_from, close_to
from stowage_scheduler.kube.gang_facts import PREFERRED_TOPOLOGY, REQUIRED_TOPOLOGY

Document = dict[str, Any]

LEADER_ADDRESS: Final = "LWS_LEADER_ADDRESS"
GROUP_SIZE: Final = "LWS_GROUP_SIZE"
WORKER_INDEX: Final = "LWS_WORKER_INDEX"
"""Names of LeaderWorkerSet's variables, which scripts for engines on several nodes read."""
_HASH_DIGITS: Final = 10


@dataclass(frozen=True, slots=True)
class GroupPod:
    """One pod of a replica that has several.

    Attributes:
        role: of the replica.
        variant: of it.
        ordinal: its number within the variant.
        attempt: how often its pods were made before.
        index: the pod's number within it; 0 takes the requests.
    """

    role: Role
    variant: Variant
    ordinal: int
    attempt: int
    index: int

    @property
    def host(self) -> str:
        """The name of the pod within the service, and its hostname."""
        return f"{self.role.name}-{self.variant.name}-{self.ordinal}-{self.attempt}-{self.index}"


def group_pod_name(service: str, role: str, variant: str, ordinal: int, attempt: int, index: int) -> str:
    """The name of a pod; another one for each attempt, so that a pod that does not go blocks nothing."""
    return f"{deployment_name(service, role, variant)}-{ordinal}-{attempt}-{index}"


def template_hash(variant: Variant) -> str:
    """What a replica is made from, in ten digits: all that the variant says of its pods."""
    said = {"template": part_to_document(variant.template)}
    if variant.group is not None:
        said["group"] = part_to_document(variant.group)
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:_HASH_DIGITS]


def group_pod(service: ModelService, pod: GroupPod, *, gated: bool) -> Document:
    """One pod: the template of the first one or of the others, with the group's variables in each container.

    The first pod alone has the label that the role's Service selects by. The pods keep apart from each other, for each
    has a node of its own.

    Args:
        service: whose.
        pod: which one; its variant has a group.
        gated: a PackingPolicy covers it: it waits for the others, and all are placed together.
    """
    variant, group = pod.variant, _group(pod.variant)
    template = variant.template if pod.index == 0 or group.workers is None else group.workers
    spec = pod_spec(template) if pod.index == 0 else part_to_document(template.spec)
    own = {
        **labels_of(service, pod.role.name),
        VARIANT_LABEL: variant.name,
        GROUP_ORDINAL_LABEL: str(pod.ordinal),
        ATTEMPT_LABEL: str(pod.attempt),
    }
    for part in ("initContainers", "containers"):
        if spec.get(part):
            spec[part] = [_with_variables(service, pod, group, one) for one in spec[part]]
    spec["hostname"], spec["subdomain"] = pod.host, groups_name(service.name)
    affinity = apart_from(spec.get("affinity") or {}, own, required=True)
    if group.topology is not None and not gated:  # nobody but kube-scheduler places it, pod by pod
        required = group.topology.pack is Pack.REQUIRED
        affinity = close_to(affinity, own, group.topology.keys, required=required)
    spec["affinity"] = affinity
    labels = {
        **template.metadata.labels,
        **own,
        GROUP_INDEX_LABEL: str(pod.index),
        TEMPLATE_HASH_LABEL: template_hash(variant),
        **({TAKES_REQUESTS_LABEL: "true"} if pod.index == 0 else {}),
    }
    if gated:
        spec["schedulingGates"] = [{"name": GANG_GATE}]
        labels |= {GANG_LABEL: _gang_name(service, pod), GANG_SIZE_LABEL: str(group.size)}
    name = group_pod_name(service.name, pod.role.name, variant.name, pod.ordinal, pod.attempt, pod.index)
    metadata = metadata_of(service, name, labels)
    annotations = {**template.metadata.annotations, **_topology(group)}
    if annotations:
        metadata["annotations"] = annotations
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def group_documents(
    service: ModelService, records: Mapping[tuple[str, str], Sequence[GroupStatus]]
) -> tuple[Document, ...]:
    """The headless Service for all groups of a service, and a disruption budget for those of each role.

    Args:
        service: whose.
        records: by role and variant, the replicas that there are or shall be.
    """
    roles = [role for role in service.spec.roles if any(one.group is not None for one in role.variants)]
    if not roles:
        return ()
    return (_headless(service), *(_budget(service, role.name, records) for role in roles))


def group_templates(variant: Variant) -> tuple[ServingTemplate, ...]:
    """What the pods of a replica are made from: the first one, and the others."""
    group = _group(variant)
    return variant.template, group.workers if group.workers is not None else variant.template


def _headless(service: ModelService) -> Document:
    port = service.spec.engine.answers_at
    labels = {SERVICE_LABEL: service.name}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata_of(service, groups_name(service.name), labels),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,  # the pods of a replica have to find each other before any of them is
            "selector": labels,
            "ports": [{"name": PORT_NAME, "port": port, "targetPort": port, "protocol": "TCP"}],
        },
    }


def _budget(service: ModelService, role: str, records: Mapping[tuple[str, str], Sequence[GroupStatus]]) -> Document:
    """No pod of a replica that serves may be evicted: the operator moves it from a node that is being emptied.

    A budget of pods that no workload of Kubernetes owns must be a number of pods.
    """
    labels = labels_of(service, role)
    pods = sum(one.size for (of, _), found in records.items() if of == role for one in found)
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata_of(service, groups_budget_name(service.name, role), labels),
        "spec": {
            "minAvailable": pods,
            "selector": {
                "matchLabels": labels,
                "matchExpressions": [{"key": GROUP_INDEX_LABEL, "operator": "Exists"}],
            },
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def _group(variant: Variant) -> Group:
    if variant.group is None:
        raise ValueError(f"variant {variant.name} has no group: its replicas are pods of a Deployment")
    return variant.group


def _with_variables(service: ModelService, pod: GroupPod, group: Group, container: Document) -> Document:
    """First of all, so that variables of the template can be made from them; what the template sets itself stays."""
    leader = GroupPod(pod.role, pod.variant, pod.ordinal, pod.attempt, 0)
    told = {
        LEADER_ADDRESS: f"{leader.host}.{groups_name(service.name)}.{service.namespace}.svc",
        GROUP_SIZE: str(group.size),
        WORKER_INDEX: str(pod.index),
    }
    given = container.get("env") or []
    taken = {one.get("name") for one in given}
    ours = [{"name": name, "value": value} for name, value in told.items() if name not in taken]
    return {**container, "env": [*ours, *given]}


def _gang_name(service: ModelService, pod: GroupPod) -> str:
    """Of this attempt alone; the UID tells it from one of an earlier service of the name."""
    return f"{(service.metadata.uid or '')[:8]}-{pod.role.name}-{pod.variant.name}-{pod.ordinal}-{pod.attempt}"


def _topology(group: Group) -> dict[str, str]:
    topology = group.topology
    if topology is None:
        return {}
    key = REQUIRED_TOPOLOGY if topology.pack is Pack.REQUIRED else PREFERRED_TOPOLOGY
    return {key: ",".join(topology.keys)}
