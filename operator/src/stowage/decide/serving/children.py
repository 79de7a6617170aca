"""The objects that a ModelService is made of, as they are applied: Deployments, Services, disruption budgets."""

from __future__ import annotations

from typing import Any, Final

from stowage.api.model_service import ModelService
from stowage.api.model_service_role import Role, ServingTemplate, Variant
from stowage.api.names import (
    API_VERSION,
    GROUP_INDEX_LABEL,
    ROLE_LABEL,
    SERVICE_LABEL,
    TAKES_REQUESTS_LABEL,
    VARIANT_LABEL,
)
from stowage.api.pod_parts import DEFAULT_GRACE_SECONDS
from stowage.api.resource import part_to_document
from stowage.decide.serving.activator_child import REQUESTS_PORT, activator, activator_labels, activator_name
from stowage.decide.serving.service_facts import OUT_OF_STOCK_UNTIL_ANNOTATION, written

Document = dict[str, Any]

PORT_NAME: Final = "http"
FORGET_SECONDS: Final = 10
"""Until all proxies have forgotten a pod that goes: they learn of it from EndpointSlices, while it still answers."""
ROLL_OUT_SECONDS: Final = 3600
"""A roll-out that has not come on for so long counts as stuck; weights may take long to load."""
KEPT_REVISIONS: Final = 3


def deployment_name(service: str, role: str, variant: str) -> str:
    """The name of the Deployment of one variant."""
    return f"{service}-{role}-{variant}"


def role_name(service: str, role: str) -> str:
    """The name of a role's Service and PodDisruptionBudget."""
    return f"{service}-{role}"


def names(service: ModelService) -> frozenset[tuple[str, str]]:
    """(kind, name) of all children that the spec asks for."""
    found = [("Service", service.name)]
    if service.spec.scaling.scale_to_zero is not None:
        found.append(("Deployment", activator_name(service.name)))
    for role in service.spec.roles:
        found += [
            ("Service", role_name(service.name, role.name)),
            ("PodDisruptionBudget", role_name(service.name, role.name)),
        ]
        found += [
            ("Deployment", deployment_name(service.name, role.name, one.name))
            for one in role.variants
            if one.group is None
        ]
        if any(one.group is not None for one in role.variants):
            found += [
                ("Service", groups_name(service.name)),
                ("PodDisruptionBudget", groups_budget_name(service.name, role.name)),
            ]
    return frozenset(found)


def groups_name(service: str) -> str:
    """The name of the headless Service that gives pods of groups their DNS names: no role's Service has such a one."""
    return f"{service}--groups"


def groups_budget_name(service: str, role: str) -> str:
    """The name of the PodDisruptionBudget of a role's groups."""
    return f"{role_name(service, role)}.groups"


def selector_text(service: str, role: str) -> str:
    """Selects the pods of a role, as `/scale` writes it."""
    return f"{SERVICE_LABEL}={service},{ROLE_LABEL}={role}"


def deployment(
    service: ModelService, role: Role, variant: Variant, replicas: int | None, out_of_stock_until: float | None = None
) -> Document:
    """The Deployment of one variant.

    New pods come before old ones go (`maxUnavailable: 0`), and its selector is without the label that drains take away.

    Args:
        service: whose.
        role: which one.
        variant: of it.
        replicas: to have; None: somebody else owns the field, and it is left out.
        out_of_stock_until: until when no more of it are asked for.
    """
    labels = labels_of(service, role.name) | {VARIANT_LABEL: variant.name}
    metadata = metadata_of(service, deployment_name(service.name, role.name, variant.name), labels)
    if out_of_stock_until is not None:
        metadata["annotations"] = {OUT_OF_STOCK_UNTIL_ANNOTATION: written(out_of_stock_until)}
    template = variant.template.metadata
    pods: Document = {"labels": {**template.labels, **labels, TAKES_REQUESTS_LABEL: "true"}}
    if template.annotations:
        pods["annotations"] = dict(template.annotations)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            **({} if replicas is None else {"replicas": replicas}),
            "revisionHistoryLimit": KEPT_REVISIONS,
            "progressDeadlineSeconds": ROLL_OUT_SECONDS,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "selector": {"matchLabels": labels},
            "template": {"metadata": pods, "spec": pod_spec(variant.template)},
        },
    }


def services(service: ModelService, stands_in: str = "", *, to_activator: bool = False) -> tuple[Document, ...]:
    """The Service of each role, and before them that of the first role under the service's own name.

    Args:
        service: whose.
        stands_in: a role that is gone from the spec, and answers under that name until the first role does; or empty.
        to_activator: whether the activator answers under that name.
    """
    first = service.spec.roles[0].name
    own = _service(service, service.name, stands_in or first)
    if to_activator:
        own["spec"]["selector"] = activator_labels(service.name)
        own["spec"]["ports"][0]["targetPort"] = REQUESTS_PORT
    return (own, *(_service(service, role_name(service.name, one.name), one.name) for one in service.spec.roles))


def activators(service: ModelService, image: str) -> tuple[Document, ...]:
    """The Deployment that takes requests while there is no replica; none where there always is one.

    Args:
        service: whose.
        image: of Stowage.
    """
    given = service.spec.scaling.scale_to_zero
    if given is None:
        return ()
    return (activator(service, given, metadata_of(service, activator_name(service.name), {}), image),)


def disruption_budget(service: ModelService, role: Role) -> Document:
    """One replica of the role at a time may be evicted, and such as do not answer at any time.

    With one replica that means an outage: the other way, its node could never be drained. Pods of groups are not of it:
    how many there should be can not be found out by what owns them, and then nothing at all may be evicted.
    """
    labels = labels_of(service, role.name)
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata_of(service, role_name(service.name, role.name), labels),
        "spec": {
            "maxUnavailable": 1,
            "selector": {
                "matchLabels": labels,
                "matchExpressions": [{"key": GROUP_INDEX_LABEL, "operator": "DoesNotExist"}],
            },
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def labels_of(service: ModelService, role: str) -> dict[str, str]:
    """Labels of all that a role has."""
    return {SERVICE_LABEL: service.name, ROLE_LABEL: role}


def metadata_of(service: ModelService, name: str, labels: dict[str, str]) -> Document:
    """Of a child that goes with the service."""
    owner = {
        "apiVersion": API_VERSION,
        "kind": service.kind,
        "name": service.name,
        "uid": service.metadata.uid or "",
        "controller": True,
    }
    return {
        "name": name,
        "namespace": service.metadata.namespace,
        "labels": dict(labels),
        "ownerReferences": [owner],
    }


def _service(service: ModelService, name: str, role: str) -> Document:
    port = service.spec.engine.answers_at
    labels = labels_of(service, role)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata_of(service, name, labels),
        "spec": {
            "selector": {**labels, TAKES_REQUESTS_LABEL: "true"},
            "ports": [{"name": PORT_NAME, "port": port, "targetPort": port, "protocol": "TCP"}],
        },
    }


def pod_spec(template: ServingTemplate) -> Document:
    """The template, with time for proxies to forget the pod where the template says nothing about its end."""
    spec = part_to_document(template.spec)
    engine = template.spec.engine.name
    grace = spec.get("terminationGracePeriodSeconds")
    if grace is None:
        spec["terminationGracePeriodSeconds"] = grace = FORGET_SECONDS + DEFAULT_GRACE_SECONDS
    forget = min(FORGET_SECONDS, grace // 2)
    if forget > 0:
        spec["containers"] = [
            _forgotten_first(one, forget) if one["name"] == engine else one for one in spec["containers"]
        ]
    return spec


def _forgotten_first(container: Document, seconds: int) -> Document:
    lifecycle = container.get("lifecycle") or {}
    return {**container, "lifecycle": {"preStop": {"sleep": {"seconds": seconds}}, **lifecycle}}
