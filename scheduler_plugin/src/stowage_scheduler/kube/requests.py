"""What a pod asks of a node, counted as kube-scheduler 1.36 counts it.

Sources: `k8s.io/component-helpers/resource.PodRequests`, KEP-753 (sidecars), KEP-1287 (in-place resize),
KEP-2837 (pod-level resources), and the defaults that the API server sets (`SetDefaults_Pod`), which
objects written by people may lack. Sums are taken in nanos and rounded up once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from stowage_scheduler.cluster import CPU, EPHEMERAL_STORAGE, MEMORY, PODS
from stowage_scheduler.kube.malformed import FieldError
from stowage_scheduler.kube.objects import (
    Container,
    ContainerStatus,
    Pod,
    PodSpec,
    PodStatus,
    ResourceList,
    ResourceRequirements,
)
from stowage_scheduler.kube.quantity import QuantityError, in_own_unit, parse_quantity
from stowage_scheduler.kube.sharing import Memo

Nanos = dict[str, int]

_HUGE_PAGES = "hugepages-"
_STANDARD = frozenset({CPU, MEMORY, EPHEMERAL_STORAGE})
_OVERCOMMITTED_POD_LEVEL = frozenset({CPU, MEMORY})
_NOTHING: Mapping[str, ContainerStatus] = {}
_known: Memo[Mapping[str, int]] = Memo()
_encode = msgspec.msgpack.Encoder().encode


def pod_requests(pod: Pod) -> Mapping[str, int]:
    """The requests of a pod in the units of `cluster.Resources`, `pods: 1` included, zeros left out.

    The status counts only for bound pods: nothing was allocated to the others yet.

    Pods that ask for the same share one answer, which must not be changed.

    Raises:
        FieldError: for a malformed, negative or absurd quantity and for a name that is no resource.
    """
    return _known.of(_asked(pod), lambda: _requests(pod))


def _asked(pod: Pod) -> bytes:
    """All that the requests of a pod depend on; bytes are the cheapest key for what has many parts."""
    spec, status = pod.spec, pod.status if pod.spec.node_name else None
    asked = (spec.containers, spec.init_containers, spec.overhead, spec.resources)
    if status is None:
        return _encode(asked)
    held = (status.container_statuses, status.init_container_statuses, status.resources, status.allocated_resources)
    return _encode((asked, held, _resize_infeasible(status)))


def _requests(pod: Pod) -> Mapping[str, int]:
    """The requests, counted."""
    status = pod.status if pod.spec.node_name else None
    totals = _of_containers(pod.spec, status)
    totals.update(_of_pod(pod.spec, status, totals))
    _add(totals, _parsed(pod.spec.overhead, "spec.overhead"))
    requests = {PODS: 1}
    for name, nanos in totals.items():
        where = f"spec.containers[].resources.requests[{name}]"
        if not is_resource(name):
            raise FieldError(where, name, "it must be cpu, memory, ephemeral-storage, hugepages-* or domain/name")
        if nanos:
            requests[name] = _in_own_unit(name, nanos, where)
    return requests


def node_amounts(amounts: ResourceList | None, where: str) -> dict[str, int]:
    """What a node offers, in the units of `cluster.Resources`; names that kube-scheduler ignores are left out.

    Raises:
        FieldError: for a malformed, negative or absurd quantity.
    """
    return {
        name: _in_own_unit(name, nanos, f"{where}[{name}]")
        for name, nanos in _parsed(amounts, where).items()
        if name == PODS or is_resource(name)
    }


def is_resource(name: str) -> bool:
    """Whether kube-scheduler counts a resource of this name (besides the number of pods)."""
    return name in _STANDARD or "/" in name or name.startswith((_HUGE_PAGES, "attachable-volumes-"))


def _of_containers(spec: PodSpec, status: PodStatus | None) -> Nanos:
    """Sum over containers and sidecars, at least what the largest step of initialisation takes (KEP-753)."""
    statuses = _NOTHING
    infeasible = False
    if status is not None:
        statuses = _with_resources(status)
        infeasible = _resize_infeasible(status)
    totals: Nanos = {}
    for index, container in enumerate(spec.containers or ()):
        _add(totals, _of_container(container, f"spec.containers[{index}]", statuses, infeasible=infeasible))
    if not spec.init_containers:
        return totals
    sidecars: Nanos = {}
    largest: Nanos = {}
    for index, container in enumerate(spec.init_containers):
        where = f"spec.initContainers[{index}]"
        if is_sidecar(container):
            own = _of_container(container, where, statuses, infeasible=infeasible)
            _add(totals, own)
            _add(sidecars, own)
            _raise_to(largest, sidecars)
        else:
            step = _of_container(container, where, _NOTHING, infeasible=False)
            _add(step, sidecars)
            _raise_to(largest, step)
    _raise_to(totals, largest)
    return totals


def is_sidecar(container: Container) -> bool:
    """Whether an init container keeps running beside the containers."""
    return container.restart_policy == "Always"


def _of_container(
    container: Container, where: str, statuses: Mapping[str, ContainerStatus], *, infeasible: bool
) -> Nanos:
    """Requests of one container; after a resize what was asked, allocated or still held, whichever is most."""
    spec = _with_limits(container.resources, f"{where}.resources")
    status = statuses.get(container.name or "")
    if status is None or status.resources is None:
        return spec
    shown_at = f"status of {where}"
    effective: Nanos = {} if infeasible else spec
    _raise_to(effective, _parsed(status.resources.requests, f"{shown_at}.resources.requests"))
    _raise_to(effective, _parsed(status.allocated_resources, f"{shown_at}.allocatedResources"))
    return effective


def _with_limits(resources: ResourceRequirements | None, where: str) -> Nanos:
    """Requests; where one is missing and there is a limit, the limit, as the API server defaults it."""
    if resources is None:
        return {}
    requests = _parsed(resources.requests, f"{where}.requests")
    if resources.limits:
        missing = {name: amount for name, amount in resources.limits.items() if name not in requests}
        if missing:
            requests.update(_parsed(missing, f"{where}.limits"))
    return requests


def _of_pod(spec: PodSpec, status: PodStatus | None, of_containers: Nanos) -> Nanos:
    """Pod-level requests, which replace the sum over containers (KEP-2837)."""
    if spec.resources is None:
        return {}
    where = "spec.resources"
    requests = _parsed(spec.resources.requests, f"{where}.requests")
    limits = spec.resources.limits or {}
    if limits:
        for name, amount in of_containers.items():
            if name in _OVERCOMMITTED_POD_LEVEL:
                requests.setdefault(name, amount)
        missing = {name: amount for name, amount in limits.items() if name not in requests}
        requests.update(_parsed(missing, f"{where}.limits"))
    requests = {name: amount for name, amount in requests.items() if _pod_level(name)}
    if status is None or status.resources is None:
        return requests
    effective: Nanos = {} if _resize_infeasible(status) else dict(requests)
    _raise_to(effective, _parsed(status.resources.requests, "status.resources.requests"))
    _raise_to(effective, _parsed(status.allocated_resources, "status.allocatedResources"))
    return {name: effective.get(name, 0) for name in requests}


def _pod_level(name: str) -> bool:
    return name in _OVERCOMMITTED_POD_LEVEL or name.startswith(_HUGE_PAGES)


def _with_resources(status: PodStatus) -> Mapping[str, ContainerStatus]:
    groups: Iterable[tuple[ContainerStatus, ...] | None] = (status.container_statuses, status.init_container_statuses)
    return {entry.name or "": entry for group in groups if group for entry in group if entry.resources is not None}


def _resize_infeasible(status: PodStatus) -> bool:
    """Whether the kubelet refused the resize for good: then the spec is not what the pod gets."""
    for condition in status.conditions or ():
        if condition.type == "PodResizePending":
            return condition.reason == "Infeasible"
    return False


def _parsed(amounts: ResourceList | None, where: str) -> Nanos:
    if not amounts:
        return {}
    parsed: Nanos = {}
    for name, value in amounts.items():
        try:
            parsed[name] = parse_quantity(value)
        except QuantityError as error:
            raise FieldError(f"{where}[{name}]", value, str(error)) from error
    return parsed


def _in_own_unit(name: str, nanos: int, where: str) -> int:
    try:
        return in_own_unit(name, nanos)
    except QuantityError as error:
        raise FieldError(where, str(nanos // 10**9), str(error)) from error


def _add(totals: Nanos, amounts: Nanos) -> None:
    for name, nanos in amounts.items():
        totals[name] = totals.get(name, 0) + nanos


def _raise_to(totals: Nanos, amounts: Nanos) -> None:
    for name, nanos in amounts.items():
        if nanos > totals.get(name, -1):
            totals[name] = nanos
