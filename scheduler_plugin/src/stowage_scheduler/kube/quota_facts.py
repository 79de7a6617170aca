"""ResourceQuotas: from objects of the API server to facts, and what they look at in a pod.

Source: `pkg/quota/v1/evaluator/core/pods.go` and `apiserver/pkg/admission/plugin/resourcequota` of Kubernetes 1.36.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from stowage_scheduler.cluster import CPU, EPHEMERAL_STORAGE, MEMORY, QuotaMarks, Requirement, ResourceQuota
from stowage_scheduler.kube import objects
from stowage_scheduler.kube.metadata import name_of, namespace_of
from stowage_scheduler.kube.quantity import QuantityError, parse_quantity
from stowage_scheduler.kube.quota_objects import QuotaSpec, QuotaStatus
from stowage_scheduler.kube.quota_objects import ResourceQuota as RawQuota
from stowage_scheduler.kube.sharing import shared

_DEMANDED = (CPU, MEMORY)  # each container has to ask for them where a quota tracks them
_LIMITED = (CPU, EPHEMERAL_STORAGE, MEMORY)
_NOTHING = objects.ResourceRequirements()


def quota_fact(raw: RawQuota) -> ResourceQuota:
    """The facts of a ResourceQuota.

    Raises:
        FieldError: for a name that packing could not trust.
    """
    spec, status = raw.spec or QuotaSpec(), raw.status or QuotaStatus()
    hard, used = status.hard or {}, status.used or {}
    return ResourceQuota(
        namespace=namespace_of(raw.metadata),
        name=name_of(raw.metadata),
        scopes=tuple(sorted(set(_scopes(spec)), key=lambda scope: (scope.key, scope.operator, scope.values))),
        tracked=tuple(sorted(hard)),
        exceeded=tuple(sorted(name for name in hard if name in used and _more(used[name], hard[name]))),
    )


def _scopes(spec: QuotaSpec) -> Iterator[Requirement]:
    """Scopes of both forms: a plain one means that it exists."""
    for scope in spec.scopes or ():
        yield Requirement(scope, "Exists")
    for one in (spec.scope_selector.match_expressions or ()) if spec.scope_selector else ():
        yield Requirement(one.scope_name, one.operator, tuple(sorted(one.values or ())))


def _more(used: objects.Quantity, hard: objects.Quantity) -> bool:
    """Whether more is used than allowed; amounts beyond all bounds stand for no limit."""
    try:
        return parse_quantity(used) > parse_quantity(hard)
    except QuantityError:
        return False


def quota_marks(spec: objects.PodSpec) -> QuotaMarks:
    """What quotas look at in a pod besides its requests; equal marks are one object."""
    containers = (*(spec.containers or ()), *(spec.init_containers or ()))
    own = [container.resources or _NOTHING for container in containers]
    of_pod = spec.resources
    with_pod = [*own, of_pod] if of_pod is not None else own
    asks = [of_pod] if of_pod is not None and _asks(of_pod) else own
    deadline = spec.active_deadline_seconds
    return shared(
        QuotaMarks(
            best_effort=not any(map(_asks, asks)),
            deadline=deadline is not None and deadline >= 0,
            priority_class=spec.priority_class_name or "",
            limits=tuple(name for name in _LIMITED if any(_positive(one.limits, name) for one in with_pod)),
            unset=() if of_pod is not None and (of_pod.requests or of_pod.limits) else tuple(_unset(own)),
        )
    )


def _asks(resources: objects.ResourceRequirements) -> bool:
    """Whether it asks for CPU or memory: then the pod is not of class BestEffort."""
    return any(_positive(given, name) for given in (resources.requests, resources.limits) for name in _DEMANDED)


def _positive(amounts: Mapping[str, objects.Quantity] | None, name: str) -> bool:
    if not amounts or name not in amounts:
        return False
    try:
        return parse_quantity(amounts[name]) > 0
    except QuantityError:  # the requests of the pod are read elsewhere, and refuse it
        return True


def _unset(resources: Iterable[objects.ResourceRequirements]) -> Iterator[str]:
    """By the names that quotas have for them: a limit stands for a request too, as the API server defaults it."""
    each = list(resources)
    for name in _DEMANDED:
        if any(name not in {**(one.limits or {}), **(one.requests or {})} for one in each):
            yield from (name, f"requests.{name}")
    for name in _DEMANDED:
        if any(name not in (one.limits or {}) for one in each):
            yield f"limits.{name}"
