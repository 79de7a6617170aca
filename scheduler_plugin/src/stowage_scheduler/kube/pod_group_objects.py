"""PodGroups as the API server writes them, of kube-scheduler and of the coscheduling plugin: the fields that count.

Sources: `scheduling.k8s.io/v1alpha2` of Kubernetes 1.36 (KEP-4671), `scheduling.x-k8s.io/v1alpha1` of the
scheduler-plugins (KEP 42-podgroup-coscheduling).
"""

from __future__ import annotations

from stowage_scheduler.kube.objects import ObjectMeta, Present
from stowage_scheduler.kube.parts import Part


class GangPolicy(Part, frozen=True):
    """spec.schedulingPolicy.gang."""

    min_count: int


class SchedulingPolicy(Part, frozen=True):
    """spec.schedulingPolicy: one of them."""

    basic: Present | None = None
    gang: GangPolicy | None = None


class TopologyConstraint(Part, frozen=True):
    """spec.schedulingConstraints.topology[]."""

    key: str


class SchedulingConstraints(Part, frozen=True):
    """spec.schedulingConstraints."""

    topology: tuple[TopologyConstraint, ...] | None = None


class PodGroupSpec(Part, frozen=True):
    """spec of a PodGroup of kube-scheduler."""

    scheduling_policy: SchedulingPolicy
    scheduling_constraints: SchedulingConstraints | None = None
    disruption_mode: str | None = None


class PodGroup(Part, frozen=True):
    """scheduling.k8s.io/v1alpha2 PodGroup."""

    metadata: ObjectMeta
    spec: PodGroupSpec


class CoschedulingSpec(Part, frozen=True):
    """spec of a PodGroup of the coscheduling plugin."""

    min_member: int | None = None


class CoschedulingPodGroup(Part, frozen=True):
    """scheduling.x-k8s.io/v1alpha1 PodGroup."""

    metadata: ObjectMeta
    spec: CoschedulingSpec | None = None
