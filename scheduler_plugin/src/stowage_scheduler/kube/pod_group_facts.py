"""PodGroups: from objects of the API server to what they ask of a gang."""

from __future__ import annotations

from msgspec import Struct

from stowage_scheduler.kube.gang_facts import COSCHEDULING_POD_GROUPS, POD_GROUPS
from stowage_scheduler.kube.malformed import FieldError
from stowage_scheduler.kube.matching import is_label_key
from stowage_scheduler.kube.metadata import name_of, namespace_of
from stowage_scheduler.kube.pod_group_objects import CoschedulingPodGroup, PodGroup

RawPodGroup = PodGroup | CoschedulingPodGroup

WHOLE = "PodGroup"
"""Disruption mode: nobody takes a pod of the group without the others."""


class GroupFact(Struct, frozen=True, gc=False):
    """What a PodGroup asks of its pods.

    `gang` is the name of the gang (`stowage_scheduler.kube.gang_facts`), `size` how many pods start together, at
    least; with 1 they come one by one. All stand in one domain of each node label of `required`. With `inseparable`
    none of them may be moved alone.
    """

    namespace: str
    gang: str
    size: int
    required: tuple[str, ...] = ()
    inseparable: bool = False

    @property
    def binds_pods(self) -> bool:
        """Whether its pods belong together at all."""
        return self.size > 1 or self.inseparable or bool(self.required)


def group_fact(raw: RawPodGroup) -> GroupFact:
    """The facts of a PodGroup.

    Raises:
        FieldError: for a size or a key that nobody could keep to.
    """
    namespace, name = namespace_of(raw.metadata), name_of(raw.metadata)
    if isinstance(raw, CoschedulingPodGroup):
        least = raw.spec.min_member if raw.spec is not None and raw.spec.min_member is not None else 0
        if least < 0:
            raise FieldError("spec.minMember", least, "it must not be negative")
        return GroupFact(namespace, f"{COSCHEDULING_POD_GROUPS}/{name}", max(1, least))
    policy, constraints = raw.spec.scheduling_policy, raw.spec.scheduling_constraints
    if (policy.basic is None) == (policy.gang is None):
        raise FieldError("spec.schedulingPolicy", "", "it must be either basic or gang")
    if policy.gang is not None and policy.gang.min_count < 1:
        raise FieldError("spec.schedulingPolicy.gang.minCount", policy.gang.min_count, "it must be 1 or more")
    keys = tuple(sorted({one.key for one in (constraints.topology or ())})) if constraints is not None else ()
    for key in keys:
        if not is_label_key(key):
            raise FieldError("spec.schedulingConstraints.topology[].key", key, "it must be the key of a node label")
    return GroupFact(
        namespace,
        f"{POD_GROUPS}/{name}",
        policy.gang.min_count if policy.gang is not None else 1,
        keys,
        inseparable=raw.spec.disruption_mode == WHOLE,
    )
