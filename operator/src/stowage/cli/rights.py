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
    """Where a right is needed: in the whole cluster, or only in the namespace of a lease."""

    CLUSTER = "cluster"
    OPERATOR_LEASE = "operator lease"
    SCHEDULER_LEASE = "scheduler lease"


class Right(Struct, frozen=True):
    """Verbs on resources of one API group; a resource may be `RESOURCE/SUBRESOURCE`, as in a role."""

    process: Process
    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    scope: Scope = Scope.CLUSTER


_READ = ("list", "watch")

NEEDED_RIGHTS: Final = (
    # the facts of a snapshot
    Right(Process.OPERATOR, "", ("nodes", "pods", "namespaces"), _READ),
    Right(Process.OPERATOR, "apps", ("replicasets", "deployments", "statefulsets", "daemonsets"), _READ),
    Right(Process.OPERATOR, "batch", ("jobs",), _READ),
    Right(Process.OPERATOR, "policy", ("poddisruptionbudgets",), _READ),
    Right(Process.OPERATOR, "scheduling.k8s.io", ("priorityclasses",), _READ),
    # policies and plans; kopf looks for their definitions
    Right(Process.OPERATOR, "apiextensions.k8s.io", ("customresourcedefinitions",), _READ),
    Right(Process.OPERATOR, GROUP, ("packingpolicies",), ("get", *_READ)),
    Right(Process.OPERATOR, GROUP, ("packingplans",), ("get", *_READ, "create", "delete")),
    Right(Process.OPERATOR, GROUP, ("packingpolicies/status", "packingplans/status"), ("update",)),
    # carrying a plan out: evictions, the annotation of a node that wakes pods, events
    Right(Process.OPERATOR, "", ("pods/eviction",), ("create",)),
    Right(Process.OPERATOR, "", ("nodes",), ("get", "patch")),
    # steering Bind: bindings; gangs: gates taken away
    Right(Process.OPERATOR, "", ("pods",), ("get", "patch")),
    Right(Process.OPERATOR, "", ("pods/binding",), ("create",)),
    Right(Process.OPERATOR, "events.k8s.io", ("events",), ("create",)),
    # leading, and who leads among the schedulers
    Right(Process.OPERATOR, "coordination.k8s.io", ("leases",), ("get", "create", "update"), Scope.OPERATOR_LEASE),
    Right(Process.OPERATOR, "coordination.k8s.io", ("leases",), ("list",), Scope.OPERATOR_LEASE),
    Right(Process.OPERATOR, "coordination.k8s.io", ("leases",), ("get",), Scope.SCHEDULER_LEASE),
    # the extender follows pods and plans, and acknowledges plans by server-side apply
    Right(Process.EXTENDER, "", ("pods",), _READ),
    Right(Process.EXTENDER, GROUP, ("packingplans",), _READ),
    Right(Process.EXTENDER, GROUP, ("packingplans/status",), ("patch",)),
    # its own lease, which says that it lives
    Right(Process.EXTENDER, "coordination.k8s.io", ("leases",), ("create", "patch", "delete"), Scope.OPERATOR_LEASE),
)


def rules(process: Process, scope: Scope) -> list[dict[str, list[str]]]:
    """The rules of a role that gives a process what it needs, cluster-wide or in the namespace of a lease."""
    return [
        {"apiGroups": [right.group], "resources": [*right.resources], "verbs": [*right.verbs]}
        for right in NEEDED_RIGHTS
        if right.process is process and right.scope is scope
    ]


def attributes(*, operator_namespace: str, scheduler_namespace: str) -> dict[str, dict[str, Any]]:
    """Each single right once, by a name for people, as `resourceAttributes` of an access review.

    Args:
        operator_namespace: where the operator's lease is.
        scheduler_namespace: where the lease of the scheduler with the extender is.
    """
    namespaces = {Scope.OPERATOR_LEASE: operator_namespace, Scope.SCHEDULER_LEASE: scheduler_namespace}
    found = {}
    for right in NEEDED_RIGHTS:
        namespace = namespaces.get(right.scope, "")
        for full in right.resources:
            resource, _, subresource = full.partition("/")
            for verb in right.verbs:
                found[f"{verb} {full}{f' in {namespace}' if namespace else ''}"] = {
                    "verb": verb,
                    "group": right.group,
                    "resource": resource,
                    "subresource": subresource,
                    "namespace": namespace,
                }
    return found
