"""What the processes may ask of the API server: the one list for `stowage doctor` and for roles made from it.

Each entry stands for requests that the code sends: the reflectors of `stowage.observe` and of the extender list and
watch, kopf lists and watches the custom resources and the definitions by which it finds them, `stowage.act` and
`stowage.run` do the rest. A request that is new has to be entered here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

from msgspec import Struct

from stowage.api.names import GROUP


class Process(StrEnum):
    """Who needs a right."""

    OPERATOR = "operator"
    EXTENDER = "extender"


class Scope(StrEnum):
    """Where a right is needed: in the whole cluster, only in the namespace of a lease or Secret, or on one object."""

    CLUSTER = "cluster"
    OPERATOR_LEASE = "operator lease"
    SCHEDULER_LEASE = "scheduler lease"
    WEBHOOK_SECRET = "webhook secret"  # noqa: S105 - a scope, no password
    WEBHOOK_CONFIGURATION = "webhook configuration"


class Right(Struct, frozen=True):
    """Verbs on resources of one API group; a resource may be `RESOURCE/SUBRESOURCE`, as in a role."""

    process: Process
    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    scope: Scope = Scope.CLUSTER
    one_object: bool = False
    """Needed on the one object that the scope is named after, so a role may name it."""
    on_workloads: bool = False
    """Changes objects of a workload's namespace: an operator held to some namespaces needs it in these alone."""


_READ = ("list", "watch")
_LEASES = "coordination.k8s.io"

NEEDED_RIGHTS: Final = (
    # the facts of a snapshot
    Right(Process.OPERATOR, "", ("nodes", "pods", "namespaces"), _READ),
    Right(Process.OPERATOR, "apps", ("replicasets", "deployments", "statefulsets", "daemonsets"), _READ),
    Right(Process.OPERATOR, "batch", ("jobs",), _READ),
    Right(Process.OPERATOR, "policy", ("poddisruptionbudgets",), _READ),
    Right(Process.OPERATOR, "scheduling.k8s.io", ("priorityclasses", "podgroups"), _READ),
    Right(Process.OPERATOR, "scheduling.x-k8s.io", ("podgroups",), _READ),
    Right(Process.OPERATOR, "", ("persistentvolumeclaims", "persistentvolumes", "resourcequotas"), _READ),
    Right(Process.OPERATOR, "storage.k8s.io", ("storageclasses", "csinodes", "csidrivers"), _READ),
    # policies and plans; kopf looks for their definitions
    Right(Process.OPERATOR, "apiextensions.k8s.io", ("customresourcedefinitions",), _READ),
    Right(Process.OPERATOR, GROUP, ("packingpolicies",), ("get", *_READ)),
    Right(Process.OPERATOR, GROUP, ("packingplans",), ("get", *_READ, "create", "delete")),
    Right(Process.OPERATOR, GROUP, ("packingpolicies/status", "packingplans/status"), ("update",)),
    # carrying a plan out: evictions, the annotation of a node that wakes pods, events
    Right(Process.OPERATOR, "", ("pods/eviction",), ("create",), on_workloads=True),
    Right(Process.OPERATOR, "", ("nodes",), ("get",)),
    Right(Process.OPERATOR, "", ("nodes",), ("patch",)),
    # steering Bind: bindings; gangs: gates taken away
    Right(Process.OPERATOR, "", ("pods",), ("get",)),
    Right(Process.OPERATOR, "", ("pods",), ("patch",), on_workloads=True),
    Right(Process.OPERATOR, "", ("pods/binding",), ("create",), on_workloads=True),
    Right(Process.OPERATOR, "events.k8s.io", ("events",), ("create",), on_workloads=True),
    # training: jobs, and what they are made of; who may make pods may read any Secret of their namespace anyway
    Right(Process.OPERATOR, GROUP, ("trainingjobs",), ("get", *_READ)),
    Right(Process.OPERATOR, GROUP, ("trainingjobs",), ("delete",), on_workloads=True),
    Right(Process.OPERATOR, GROUP, ("trainingjobs/status",), ("update",), on_workloads=True),
    Right(Process.OPERATOR, "", ("pods",), ("create", "delete"), on_workloads=True),
    Right(Process.OPERATOR, "", ("services",), ("get", "create", "patch"), on_workloads=True),
    Right(Process.OPERATOR, "", ("secrets",), ("get", "create"), on_workloads=True),
    # serving: services, the profiles that they name, and what they are made of
    Right(Process.OPERATOR, GROUP, ("modelservices", "performanceprofiles"), ("get", *_READ)),
    Right(Process.OPERATOR, GROUP, ("modelservices/status",), ("update",), on_workloads=True),
    Right(Process.OPERATOR, GROUP, ("performanceprofiles/status",), ("update",)),
    Right(Process.OPERATOR, "apps", ("deployments",), ("get", "create", "patch", "delete"), on_workloads=True),
    Right(Process.OPERATOR, "", ("services",), ("list", "delete"), on_workloads=True),
    Right(
        Process.OPERATOR,
        "policy",
        ("poddisruptionbudgets",),
        ("get", "create", "patch", "delete"),
        on_workloads=True,
    ),
    # leading, and who leads among the schedulers
    Right(Process.OPERATOR, _LEASES, ("leases",), ("get", "update"), Scope.OPERATOR_LEASE, one_object=True),
    Right(Process.OPERATOR, _LEASES, ("leases",), ("create", "list"), Scope.OPERATOR_LEASE),
    Right(Process.OPERATOR, _LEASES, ("leases",), ("get",), Scope.SCHEDULER_LEASE, one_object=True),
    # the extender follows pods and plans, and acknowledges plans by server-side apply
    Right(Process.EXTENDER, "", ("pods",), _READ),
    Right(Process.EXTENDER, GROUP, ("packingplans",), _READ),
    Right(Process.EXTENDER, GROUP, ("packingplans/status",), ("patch",)),
    # its own lease, which says that it lives
    Right(Process.EXTENDER, _LEASES, ("leases",), ("create", "patch", "delete"), Scope.OPERATOR_LEASE),
)

WEBHOOK_RIGHTS: Final = (
    # the certificate that the operator keeps by itself: the chart makes both objects, the operator fills them in
    Right(Process.OPERATOR, "", ("secrets",), ("get", "update"), Scope.WEBHOOK_SECRET, one_object=True),
    Right(
        Process.OPERATOR,
        "admissionregistration.k8s.io",
        ("validatingwebhookconfigurations",),
        ("get", "patch"),
        Scope.WEBHOOK_CONFIGURATION,
        one_object=True,
    ),
)
"""Needed only where the operator serves the webhook with a certificate of its own."""

ALL_RIGHTS: Final = (*NEEDED_RIGHTS, *WEBHOOK_RIGHTS)


def rules(process: Process, scope: Scope) -> list[dict[str, list[str]]]:
    """The rules of a role that gives a process what it needs, cluster-wide or in the namespace of a lease."""
    return [
        {"apiGroups": [right.group], "resources": [*right.resources], "verbs": [*right.verbs]}
        for right in NEEDED_RIGHTS
        if right.process is process and right.scope is scope
    ]


def _resources() -> set[str]:
    return {full for right in NEEDED_RIGHTS for full in right.resources}


def attributes(*, operator_namespace: str, scheduler_namespace: str) -> dict[str, dict[str, Any]]:
    """Each single right once, by a name for people, as `resourceAttributes` of an access review.

    Args:
        operator_namespace: where the operator's lease is.
        scheduler_namespace: where the lease of the scheduler with the extender is.
    """
    namespaces = {Scope.OPERATOR_LEASE: operator_namespace, Scope.SCHEDULER_LEASE: scheduler_namespace}
    found = {}
    groups = {full: {one.group for one in NEEDED_RIGHTS if full in one.resources} for full in _resources()}
    for right in NEEDED_RIGHTS:
        namespace = namespaces.get(right.scope, "")
        for full in right.resources:
            resource, _, subresource = full.partition("/")
            name = full if len(groups[full]) == 1 else f"{full}.{right.group}"
            for verb in right.verbs:
                found[f"{verb} {name}{f' in {namespace}' if namespace else ''}"] = {
                    "verb": verb,
                    "group": right.group,
                    "resource": resource,
                    "subresource": subresource,
                    "namespace": namespace,
                }
    return found
