"""Which kinds a dump may hold: those that packing reads, and those that it may skip in silence."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

POLICY_GROUP = "stowage.dev"
POLICY_KIND = "PackingPolicy"
JOB_KIND = "TrainingJob"
SERVICE_KIND = "ModelService"
PROFILE_KIND = "PerformanceProfile"

NEEDED: Mapping[str, str] = MappingProxyType(
    {
        "Node": "",
        "Pod": "",
        "Namespace": "",
        "PriorityClass": "scheduling.k8s.io",
        "PodDisruptionBudget": "policy",
        "ReplicaSet": "apps",
        "Deployment": "apps",
        "StatefulSet": "apps",
        "DaemonSet": "apps",
        "Job": "batch",
        "PersistentVolumeClaim": "",
        "PersistentVolume": "",
        "StorageClass": "storage.k8s.io",
        "CSINode": "storage.k8s.io",
        "CSIDriver": "storage.k8s.io",
        "ResourceQuota": "",
        "PodGroup": "scheduling.k8s.io",
    }
)
"""Kinds that packing reads, with their API group."""

COSCHEDULING_KIND = "CoschedulingPodGroup"
"""What a PodGroup of the coscheduling plugin is called here: two API groups have a kind of that name."""

_COSCHEDULING_GROUPS = ("scheduling.x-k8s.io", "scheduling.sigs.k8s.io")  # the latter is what it was before

SKIPPED: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "": frozenset(
            {
                "ConfigMap",
                "Endpoints",
                "Event",
                "LimitRange",
                "PodTemplate",
                "ReplicationController",
            }
            | {"Secret", "Service", "ServiceAccount"}
        ),
        "apps": frozenset({"ControllerRevision"}),
        "batch": frozenset({"CronJob"}),
        "autoscaling": frozenset({"HorizontalPodAutoscaler"}),
        "stowage.dev": frozenset({"PackingPlan", "TrainingJob", "ModelService", "PerformanceProfile", "ResourcePool"}),
    }
)
"""Kinds that may stand in a dump without meaning for packing, by API group."""

_OTHER_GROUPS_OF_KUBERNETES = ".k8s.io"


def decoded_as(group: str | None, kind: str) -> str:
    """By which name a kind is read."""
    return COSCHEDULING_KIND if kind == "PodGroup" and group in _COSCHEDULING_GROUPS else kind


def is_needed(group: str | None, kind: str) -> bool:
    """Whether packing reads objects of this kind; `group` is None or empty where people left it out."""
    return kind in NEEDED and (not group or group == NEEDED[kind] or decoded_as(group, kind) != kind)


def is_known(group: str | None, kind: str) -> bool:
    """Whether the kind is one that Stowage reads or may skip. `group` is None where the file does not tell."""
    if is_needed(group, kind):
        return True
    if group is None:
        return any(kind in kinds for kinds in SKIPPED.values())
    if group == POLICY_GROUP and kind == POLICY_KIND:
        return True
    if kind not in NEEDED and group.endswith(_OTHER_GROUPS_OF_KUBERNETES):
        return True
    return kind in SKIPPED.get(group, frozenset())
