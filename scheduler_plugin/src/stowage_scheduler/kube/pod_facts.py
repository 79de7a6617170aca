"""Pods: from the object of the API server to the fact."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

from stowage_scheduler.cluster import (
    ClaimUse,
    HostPort,
    NodeSelectorTerm,
    OwnerRef,
    Pod,
    PreferredNodes,
    Toleration,
    Unmodelled,
)
from stowage_scheduler.kube import objects
from stowage_scheduler.kube.gang_facts import gang_of, in_two_gangs
from stowage_scheduler.kube.gpu_facts import gpu_share
from stowage_scheduler.kube.health_facts import pod_health
from stowage_scheduler.kube.image_facts import pod_images
from stowage_scheduler.kube.malformed import FieldError
from stowage_scheduler.kube.matching import ANY_ADDRESS
from stowage_scheduler.kube.metadata import (
    checked_labels,
    checked_name,
    name_of,
    namespace_of,
    owner_of,
    read_annotations,
    requirements,
    seconds,
    uid_of,
)
from stowage_scheduler.kube.pair_facts import checked_weight, preferred_terms, required_terms, spread_constraints
from stowage_scheduler.kube.priorities import Priorities
from stowage_scheduler.kube.quota_facts import quota_marks
from stowage_scheduler.kube.requests import is_sidecar, pod_requests
from stowage_scheduler.kube.sharing import REMEMBERED, shared

MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
_RESTART_ALL = ("RestartAllContainersOnContainerExits",)
SOURCE_ANNOTATION = "kubernetes.io/config.source"

_TEMPLATE_HASH_LABELS = ("pod-template-hash", "controller-revision-hash")
_PHASES = frozenset({"Pending", "Running", "Succeeded", "Failed", "Unknown"})
_LARGEST_PORT = 65535
_NO_STATUS = objects.PodStatus()
_NO_AFFINITY = objects.Affinity()
_LONGEST_MESSAGE = 4096
_WORKER_VOLUME = "stowage-worker"
"""In pods of a TrainingJob: copied from an image at each start, so nothing is lost with it."""


def pod_fact(raw: objects.Pod, priorities: Priorities) -> Pod:
    """The facts of a pod.

    Raises:
        FieldError: for a value that packing could not trust.
    """
    metadata, spec, status = raw.metadata, raw.spec, raw.status or _NO_STATUS
    namespace, name = namespace_of(metadata), name_of(metadata)
    labels = checked_labels(metadata.labels)
    annotations = metadata.annotations or {}
    node = checked_name(spec.node_name, "spec.nodeName") if spec.node_name else None
    priority, preemption_policy = priorities.of(spec)
    phase = status.phase or "Pending"
    if phase not in _PHASES:
        raise FieldError("status.phase", phase, f"it must be one of {', '.join(sorted(_PHASES))}")
    owner = owner_of(metadata, namespace)
    conditions = {entry.type: entry for entry in reversed(status.conditions or ())}  # the first of a type counts
    scheduled = conditions.get("PodScheduled")
    waiting = node is None and scheduled is not None and scheduled.status == "False"
    unschedulable = scheduled if waiting and scheduled and scheduled.reason == "Unschedulable" else None
    readiness = conditions.get("Ready")
    ready = _holds(readiness)
    bound = scheduled if node and scheduled and scheduled.status == "True" else None
    affinity = spec.affinity or _NO_AFFINITY
    requests = pod_requests(raw)
    volumes = spec.volumes or ()
    return Pod(
        namespace=shared(namespace),
        name=name,
        uid=uid_of(metadata, f"{namespace}/{name}"),
        requests=requests,
        gpu_share=gpu_share(annotations, requests),
        node=node and shared(node),
        priority=priority,
        preemption_policy=shared(preemption_policy),
        scheduler_name=shared(spec.scheduler_name or "default-scheduler"),
        phase=shared(phase),
        ready=ready,
        terminating=metadata.deletion_timestamp is not None,
        created_at=seconds(metadata.creation_timestamp) or 0.0,
        bound_at=seconds(bound.last_transition_time) if bound else None,
        unready_since=seconds(readiness.last_transition_time) if readiness and not ready else None,
        unschedulable_since=seconds(unschedulable.last_transition_time) if unschedulable else None,
        unschedulable_message=(unschedulable.message or "")[:_LONGEST_MESSAGE] if unschedulable else "",
        nominated_node=status.nominated_node_name or None,
        gates=tuple(sorted(gate.name for gate in spec.scheduling_gates or () if gate.name)),
        gang=gang_of(spec, labels, annotations),
        scheduling_group=spec.scheduling_group is not None or spec.workload_ref is not None,
        disruption_target=_holds(conditions.get("DisruptionTarget")),
        owner=owner,
        template_hash=next((labels[key] for key in _TEMPLATE_HASH_LABELS if key in labels), ""),
        labels=labels,
        annotations=read_annotations(metadata.annotations),
        node_selector=checked_labels(spec.node_selector, "spec.nodeSelector"),
        node_affinity=shared(_node_affinity(affinity.node_affinity)),
        preferred_nodes=shared(_preferred_nodes(affinity.node_affinity)),
        tolerations=_tolerations(spec.tolerations or ()),
        host_ports=shared(tuple(sorted(set(_host_ports(spec))))),
        affinity_terms=shared(required_terms(affinity.pod_affinity, namespace)),
        anti_affinity_terms=shared(required_terms(affinity.pod_anti_affinity, namespace)),
        spread=shared(tuple(spread_constraints(spec, labels, "DoNotSchedule"))),
        preferred_pods=shared(preferred_terms(affinity, namespace)),
        preferred_spread=shared(tuple(spread_constraints(spec, labels, "ScheduleAnyway"))),
        images=pod_images(spec),
        unmodelled=shared(tuple(sorted(set(_unmodelled(raw))))),
        needed_features=_needed_features(spec),
        mirror=_is_mirror(annotations, owner),
        host_path=any(volume.host_path is not None for volume in volumes),
        empty_dir=any(volume.empty_dir is not None and volume.name != _WORKER_VOLUME for volume in volumes),
        claims=shared(tuple(sorted(set(_claims(volumes))))),
        quota_marks=quota_marks(spec),
        health=pod_health(raw),
    )


def _needed_features(spec: objects.PodSpec) -> tuple[str, ...]:
    """What kube-scheduler 1.36 wants nodes to declare for a pod: one feature, for a rule of restarts (KEP-5532)."""
    containers = (*(spec.init_containers or ()), *(spec.containers or ()))
    rules = (rule for container in containers for rule in container.restart_policy_rules or ())
    return _RESTART_ALL if any(rule.action == "RestartAllContainers" for rule in rules) else ()


def _holds(condition: objects.Condition | None) -> bool:
    return condition is not None and condition.status == "True"


def _is_mirror(annotations: objects.Labels, owner: OwnerRef | None) -> bool:
    """Static pods are run by a kubelet from a file; the API server holds only their mirror."""
    if MIRROR_ANNOTATION in annotations or annotations.get(SOURCE_ANNOTATION, "api") != "api":
        return True
    return owner is not None and owner.kind == "Node"


def _node_affinity(affinity: objects.NodeAffinity | None) -> tuple[NodeSelectorTerm, ...] | None:
    if affinity is None or affinity.required is None:
        return None
    return tuple(
        NodeSelectorTerm(requirements(term.match_expressions), requirements(term.match_fields))
        for term in affinity.required.node_selector_terms or ()
    )


def _preferred_nodes(affinity: objects.NodeAffinity | None) -> tuple[PreferredNodes, ...]:
    return tuple(
        PreferredNodes(
            checked_weight(one.weight),
            NodeSelectorTerm(requirements(one.preference.match_expressions), requirements(one.preference.match_fields)),
        )
        for one in (affinity.preferred if affinity is not None else None) or ()
    )


@lru_cache(maxsize=REMEMBERED)
def _tolerations(tolerations: tuple[objects.Toleration, ...]) -> tuple[Toleration, ...]:
    return tuple(Toleration(t.key or "", t.operator or "Equal", t.value or "", t.effect or "") for t in tolerations)


def _host_ports(spec: objects.PodSpec) -> Iterator[HostPort]:
    """Host ports of containers and sidecars; with hostNetwork each port is a host port."""
    sidecars = (container for container in spec.init_containers or () if is_sidecar(container))
    for container in (*sidecars, *(spec.containers or ())):
        for port in container.ports or ():
            number = port.host_port or (port.container_port if spec.host_network else 0)
            if not number:
                continue
            if not 0 < number <= _LARGEST_PORT:
                raise FieldError("spec.containers[].ports[].hostPort", number, f"it must be 1 to {_LARGEST_PORT}")
            yield HostPort(port.protocol or "TCP", port.host_ip or ANY_ADDRESS, number)


def _claims(volumes: Iterable[objects.Volume]) -> Iterator[ClaimUse]:
    """The claims that a pod mounts; the one of an ephemeral volume goes by the name of the volume."""
    for volume in volumes:
        if volume.persistent_volume_claim is not None:
            yield ClaimUse(volume.persistent_volume_claim.claim_name)
        elif volume.ephemeral is not None and volume.name:
            yield ClaimUse(volume.name, ephemeral=True)


def _unmodelled(raw: objects.Pod) -> Iterator[Unmodelled]:
    """Rules of the pod that the packer does not know yet."""
    spec = raw.spec
    if any(_is_placed_volume(volume) for volume in spec.volumes or ()):
        yield Unmodelled.VOLUMES
    if spec.resource_claims or (raw.status is not None and raw.status.extended_resource_claim_status is not None):
        yield Unmodelled.RESOURCE_CLAIMS
    if spec.workload_ref is not None or in_two_gangs(spec, raw.metadata.labels or {}) or _is_of_no_group(spec):
        yield Unmodelled.SCHEDULING_GROUP


def _is_of_no_group(spec: objects.PodSpec) -> bool:
    """Whether a scheduling group names its pods by something that is not known yet."""
    return spec.scheduling_group is not None and not spec.scheduling_group.pod_group_name


def _is_placed_volume(volume: objects.Volume) -> bool:
    """Whether a volume of the pod itself is one that kube-scheduler translates for a CSI driver or keeps for one pod.

    Claims are looked up when a snapshot is assembled. Volumes of the pod from a CSI driver come and go with it on any
    node: no plugin looks at them.
    """
    if volume == objects.Volume(name=volume.name):
        return False  # most are: tokens, config maps and the like
    return any(
        source is not None
        for source in (
            volume.aws_elastic_block_store,
            volume.azure_disk,
            volume.cinder,
            volume.fc,
            volume.flex_volume,
            volume.gce_persistent_disk,
            volume.iscsi,
            volume.portworx_volume,
            volume.rbd,
            volume.vsphere_volume,
        )
    )
