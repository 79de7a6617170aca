"""From objects of the API server to facts: the one door, and the small kinds."""

from __future__ import annotations

from msgspec import Struct

from stowage_scheduler.cluster import (
    DisruptionBudget,
    Effect,
    Node,
    Pod,
    PriorityClass,
    ResourceQuota,
    Taint,
    Workload,
)
from stowage_scheduler.kube import objects, volume_objects
from stowage_scheduler.kube.health_facts import node_conditions
from stowage_scheduler.kube.image_facts import node_images
from stowage_scheduler.kube.malformed import FieldError, MalformedObject, rejection
from stowage_scheduler.kube.matching import NAMESPACE_NAME_LABEL
from stowage_scheduler.kube.metadata import (
    checked_labels,
    condition,
    full_name,
    label_selector,
    name_of,
    namespace_of,
    seconds,
    uid_of,
)
from stowage_scheduler.kube.pod_facts import pod_fact
from stowage_scheduler.kube.pod_group_facts import GroupFact, RawPodGroup, group_fact
from stowage_scheduler.kube.pod_group_objects import CoschedulingPodGroup, PodGroup
from stowage_scheduler.kube.priorities import NEVER, PREEMPT, Priorities
from stowage_scheduler.kube.quota_facts import quota_fact
from stowage_scheduler.kube.quota_objects import ResourceQuota as RawQuota
from stowage_scheduler.kube.requests import node_amounts
from stowage_scheduler.kube.volume_facts import VolumeFact, volume_fact
from stowage_scheduler.kube.workload_facts import workload_fact
from stowage_scheduler.kube.workload_objects import Workload as RawWorkload

KubernetesObject = (
    objects.Pod
    | objects.Node
    | objects.Namespace
    | objects.PriorityClass
    | objects.PodDisruptionBudget
    | RawWorkload
    | RawQuota
    | RawPodGroup
    | volume_objects.VolumeObject
)


class Namespace(Struct, frozen=True):
    """A namespace and its labels."""

    name: str
    labels: dict[str, str]


Fact = Pod | Node | Namespace | PriorityClass | DisruptionBudget | Workload | ResourceQuota | GroupFact | VolumeFact

_NO_CLASSES = Priorities()


def fact_of(raw: KubernetesObject, priorities: Priorities = _NO_CLASSES) -> Fact:
    """The facts of an object. `priorities` serves pods that name only their PriorityClass.

    Raises:
        MalformedObject: if a value breaks a rule that packing relies on.
    """
    try:
        match raw:
            case objects.Pod():
                return pod_fact(raw, priorities)
            case objects.Node():
                return _node(raw)
            case objects.PodDisruptionBudget():
                return _budget(raw)
            case objects.PriorityClass():
                return _priority_class(raw)
            case objects.Namespace():
                return _namespace(raw)
            case RawQuota():
                return quota_fact(raw)
            case CoschedulingPodGroup() | PodGroup():
                return group_fact(raw)
            case RawWorkload():
                return workload_fact(raw)
            case _:
                return volume_fact(raw)
    except FieldError as error:
        kind = type(raw).__name__
        name = full_name(kind, raw.metadata.namespace, raw.metadata.name)
        node = raw.spec.node_name if isinstance(raw, objects.Pod) and raw.spec else None
        raise MalformedObject(rejection(kind, name, error, node or "")) from error


def _node(raw: objects.Node) -> Node:
    spec, status = raw.spec or objects.NodeSpec(), raw.status or objects.NodeStatus()
    name = name_of(raw.metadata)
    ready = condition(status.conditions, "Ready")
    offered = "allocatable" if status.allocatable is not None else "capacity"
    return Node(
        name=name,
        allocatable=node_amounts(getattr(status, offered), f"status.{offered}"),
        labels=checked_labels(raw.metadata.labels),
        taints=tuple(_taint(taint) for taint in spec.taints or ()),
        unschedulable=bool(spec.unschedulable),
        ready=ready is None or ready.status == "True",
        uid=uid_of(raw.metadata, name),
        created_at=seconds(raw.metadata.creation_timestamp) or 0.0,
        features=tuple(sorted(status.declared_features or ())),
        images=node_images(status),
        conditions=node_conditions(status),
    )


def _taint(raw: objects.Taint) -> Taint:
    try:
        effect = Effect(raw.effect)
    except ValueError as error:
        raise FieldError("spec.taints[].effect", raw.effect, f"it must be one of {', '.join(Effect)}") from error
    return Taint(raw.key, effect, raw.value or "")


def _budget(raw: objects.PodDisruptionBudget) -> DisruptionBudget:
    """A budget without a status allows nothing yet and is not fresh, as the Eviction API treats it."""
    namespace, name = namespace_of(raw.metadata), name_of(raw.metadata)
    status = raw.status or objects.BudgetStatus()
    return DisruptionBudget(
        namespace=namespace,
        name=name,
        uid=uid_of(raw.metadata, f"{namespace}/{name}"),
        selector=label_selector(raw.spec.selector) if raw.spec else None,
        disruptions_allowed=max(0, status.disruptions_allowed or 0),
        fresh=raw.status is not None and (status.observed_generation or 0) >= (raw.metadata.generation or 0),
    )


def _priority_class(raw: objects.PriorityClass) -> PriorityClass:
    if not -(2**31) <= raw.value < 2**31:
        raise FieldError("value", raw.value, "it must fit into 32 bits")
    policy = raw.preemption_policy or PREEMPT
    if policy not in {PREEMPT, NEVER}:
        raise FieldError("preemptionPolicy", policy, f"it must be {PREEMPT} or {NEVER}")
    return PriorityClass(name_of(raw.metadata), raw.value, policy, bool(raw.global_default))


def _namespace(raw: objects.Namespace) -> Namespace:
    name = name_of(raw.metadata)
    return Namespace(name, {**checked_labels(raw.metadata.labels), NAMESPACE_NAME_LABEL: name})
