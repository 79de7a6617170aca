"""Pods of one template: all that is decided by their facts alone is decided once for all of them.

Of 40,000 pods of 2,000 templates, what a rule says, which nodes are eligible and what a class is looked at 2,000 times.
"""

from __future__ import annotations

from operator import attrgetter

from stowage_scheduler.cluster import Pod

_OF_ONE_POD = frozenset(
    {
        "name",
        "uid",
        "node",
        "phase",
        "ready",
        "terminating",
        "created_at",
        "bound_at",
        "unready_since",
        "unschedulable_since",
        "unschedulable_message",
        "nominated_node",
        "gates",
        "disruption_target",
        "health",
    }
)
_MAPPINGS = ("requests", "labels", "annotations", "node_selector")
_mappings = attrgetter(*_MAPPINGS)
_others = attrgetter(*(name for name in Pod.__struct_fields__ if name not in _OF_ONE_POD and name not in _MAPPINGS))


def template(pod: Pod) -> tuple[object, ...]:
    """A key that pods share which differ in nothing but their names, states and times.

    Pods that nobody replaces, or whose names matter to those who do, have keys of their own.
    """
    key = (_others(pod), *[tuple(mapping.items()) for mapping in _mappings(pod)])
    owner = pod.owner
    if owner is None or owner.kind == "StatefulSet" or any(claim.ephemeral for claim in pod.claims):
        return (*key, pod.uid, pod.name)
    return key
