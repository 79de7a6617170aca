"""What a pod says of its gang: labels of Stowage, the label of the coscheduling plugin, or a scheduling group.

The gang of a PodGroup is named after the object, with its resource, as `kubectl get` takes it. How many pods it needs
is said there: `stowage_scheduler.kube.pod_group_resolution` looks it up.
"""

from __future__ import annotations

from collections.abc import Mapping

from stowage_scheduler.cluster import Gang
from stowage_scheduler.kube import objects
from stowage_scheduler.kube.matching import is_label_key

GANG_LABEL = "stowage.dev/gang"
GANG_SIZE_LABEL = "stowage.dev/gang-size"
REQUIRED_TOPOLOGY = "stowage.dev/required-topology"
PREFERRED_TOPOLOGY = "stowage.dev/preferred-topology"
COSCHEDULING_LABELS = ("scheduling.x-k8s.io/pod-group", "pod-group.scheduling.sigs.k8s.io")
"""The label of the coscheduling plugin, and the one that it had before."""

POD_GROUPS = "podgroups.scheduling.k8s.io"
COSCHEDULING_POD_GROUPS = "podgroups.scheduling.x-k8s.io"
MAX_GANG_SIZE = 10_000
MAX_TOPOLOGY_LEVELS = 4


def gang_of(spec: objects.PodSpec, labels: Mapping[str, str], annotations: Mapping[str, str]) -> Gang | None:
    """The gang of a pod; what makes no sense gives size 0, for the pod still holds its room.

    Labels of Stowage come before those of the coscheduling plugin.
    """
    required, preferred = (_node_labels(annotations.get(key, "")) for key in (REQUIRED_TOPOLOGY, PREFERRED_TOPOLOGY))
    readable = required is not None and preferred is not None
    name = labels.get(GANG_LABEL)
    if name is not None:
        size = labels.get(GANG_SIZE_LABEL, "")
        if not readable or not (size.isascii() and size.isdigit() and int(size) <= MAX_GANG_SIZE):
            return Gang(name, 0)
        return Gang(name, int(size), required or (), preferred or ())
    group = _pod_group(spec, labels)
    if group is None:
        return None
    if not readable:
        return Gang(group, 0, elastic=True)
    return Gang(group, 0, required or (), preferred or (), elastic=True, unknown=True)


def in_two_gangs(spec: objects.PodSpec, labels: Mapping[str, str]) -> bool:
    """Whether a pod of a scheduling group has the label of a gang as well, so that two would have to be whole."""
    return _scheduling_group(spec) is not None and any(key in labels for key in (GANG_LABEL, *COSCHEDULING_LABELS))


def _pod_group(spec: objects.PodSpec, labels: Mapping[str, str]) -> str | None:
    named = next((labels[key] for key in COSCHEDULING_LABELS if labels.get(key)), None)
    if named is not None:
        return f"{COSCHEDULING_POD_GROUPS}/{named}"
    group = _scheduling_group(spec)
    return None if group is None else f"{POD_GROUPS}/{group}"


def _scheduling_group(spec: objects.PodSpec) -> str | None:
    return spec.scheduling_group.pod_group_name or None if spec.scheduling_group is not None else None


def _node_labels(text: str) -> tuple[str, ...] | None:
    """Keys of node labels, separated by commas; None when they are none."""
    keys = tuple(sorted({key.strip() for key in text.split(",") if key.strip()}))
    return keys if len(keys) <= MAX_TOPOLOGY_LEVELS and all(is_label_key(key) for key in keys) else None
