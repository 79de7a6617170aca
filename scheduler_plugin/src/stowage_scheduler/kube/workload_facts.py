"""Controllers of pods: from the objects of the API server to the fact."""

from __future__ import annotations

from stowage_scheduler.cluster import Workload
from stowage_scheduler.kube import workload_objects as objects
from stowage_scheduler.kube.malformed import FieldError
from stowage_scheduler.kube.metadata import name_of, namespace_of, owner_of, uid_of, workload_uid

REVISION_ANNOTATION = "deployment.kubernetes.io/revision"
"""On a Deployment and its ReplicaSets: the number of the template in the order of roll-outs."""

_KILLED = frozenset({137, 143})  # how a container ends that is told to stop
_LONGEST_REVISION = 18  # digits


def workload_fact(raw: objects.Workload) -> Workload:
    """The facts of a ReplicaSet, Deployment, StatefulSet, DaemonSet or Job.

    `newest` is left True: it takes the Deployment to tell (see `snapshot.assemble`).

    Raises:
        FieldError: for a value that packing could not trust.
    """
    kind = type(raw).__name__
    namespace, name = namespace_of(raw.metadata), name_of(raw.metadata)
    spec = raw.spec or objects.WorkloadSpec()
    return Workload(
        kind=kind,
        namespace=namespace,
        name=name,
        uid=uid_of(raw.metadata, workload_uid(kind, namespace, name)),
        owner=owner_of(raw.metadata, namespace),
        replicas=_replicas(raw, spec),
        rolling_out=_rolling_out(raw, spec),
        ignores_disruption=isinstance(raw, objects.Job) and _ignores_disruption(spec.pod_failure_policy),
        revision=_revision(raw),
    )


def _replicas(raw: objects.Workload, spec: objects.WorkloadSpec) -> int | None:
    """Desired pods; None where the number of nodes decides."""
    if isinstance(raw, objects.DaemonSet):
        return None
    field = "parallelism" if isinstance(raw, objects.Job) else "replicas"
    replicas: int | None = getattr(spec, field)
    if replicas is None:
        return 1
    if not 0 <= replicas < 2**31:
        raise FieldError(f"spec.{field}", replicas, "it must be 0 to 2^31-1")
    return replicas


def _rolling_out(raw: objects.Workload, spec: objects.WorkloadSpec) -> bool:
    """Whether the newest template is not everywhere yet.

    Read as `kubectl rollout status` reads it, but for availability: a replica that waits for a place is
    no roll-out. Without any status (a file written by people) the workload counts as settled.
    """
    status = raw.status
    if status is None or not isinstance(raw, objects.Deployment | objects.StatefulSet):
        return False
    if (status.observed_generation or 0) < (raw.metadata.generation or 0):
        return True
    if isinstance(raw, objects.Deployment):
        return (status.replicas or 0) > (status.updated_replicas or 0)
    if not status.update_revision or status.current_revision in {None, "", status.update_revision}:
        return False
    strategy = spec.update_strategy or objects.UpdateStrategy()
    partition = strategy.rolling_update.partition if strategy.rolling_update else None
    if strategy.type == "OnDelete" or not partition:
        return True
    replicas = 1 if spec.replicas is None else spec.replicas
    return (status.updated_replicas or 0) < replicas - partition


def _revision(raw: objects.Workload) -> int | None:
    text = (raw.metadata.annotations or {}).get(REVISION_ANNOTATION, "")
    return int(text) if text.isdecimal() and len(text) <= _LONGEST_REVISION else None


def _ignores_disruption(policy: objects.FailurePolicy | None) -> bool:
    """Whether the first rule that an evicted pod can match ignores the failure (batch/v1 podFailurePolicy)."""
    for rule in (policy.rules or ()) if policy else ():
        if rule.on_exit_codes is not None:
            if rule.action != "Ignore" and _may_match(rule.on_exit_codes):
                return False
        elif any(p.type == "DisruptionTarget" and (p.status or "True") == "True" for p in rule.on_pod_conditions or ()):
            return rule.action == "Ignore"
    return False


def _may_match(codes: objects.ExitCodes) -> bool:
    return codes.operator != "In" or not _KILLED.isdisjoint(codes.values or ())
