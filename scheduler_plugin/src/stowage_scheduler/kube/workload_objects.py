"""Controllers of pods as the API server writes them, with only the fields that Stowage reads."""

from __future__ import annotations

from stowage_scheduler.kube.objects import ObjectMeta
from stowage_scheduler.kube.parts import Part


class RollingUpdate(Part, frozen=True):
    """Parameters of a rolling update of a StatefulSet."""

    partition: int | None = None


class UpdateStrategy(Part, frozen=True):
    """spec.updateStrategy of a StatefulSet."""

    type: str | None = None
    rolling_update: RollingUpdate | None = None


class PodConditionPattern(Part, frozen=True):
    """onPodConditions[] of a failure rule."""

    type: str
    status: str | None = None


class ExitCodes(Part, frozen=True):
    """onExitCodes of a failure rule."""

    operator: str
    values: tuple[int, ...] | None = None


class FailureRule(Part, frozen=True):
    """spec.podFailurePolicy.rules[] of a Job."""

    action: str
    on_pod_conditions: tuple[PodConditionPattern, ...] | None = None
    on_exit_codes: ExitCodes | None = None


class FailurePolicy(Part, frozen=True):
    """spec.podFailurePolicy of a Job."""

    rules: tuple[FailureRule, ...] | None = None


class WorkloadSpec(Part, frozen=True):
    """spec of a controller of pods."""

    replicas: int | None = None
    parallelism: int | None = None
    update_strategy: UpdateStrategy | None = None
    pod_failure_policy: FailurePolicy | None = None


class WorkloadStatus(Part, frozen=True):
    """status of a controller of pods."""

    observed_generation: int | None = None
    replicas: int | None = None
    updated_replicas: int | None = None
    current_revision: str | None = None
    update_revision: str | None = None


class Workload(Part, frozen=True):
    """A controller of pods; which one is in the class of the object."""

    metadata: ObjectMeta
    spec: WorkloadSpec | None = None
    status: WorkloadStatus | None = None


class ReplicaSet(Workload, frozen=True):
    """apps/v1 ReplicaSet."""


class Deployment(Workload, frozen=True):
    """apps/v1 Deployment."""


class StatefulSet(Workload, frozen=True):
    """apps/v1 StatefulSet."""


class DaemonSet(Workload, frozen=True):
    """apps/v1 DaemonSet."""


class Job(Workload, frozen=True):
    """batch/v1 Job."""
