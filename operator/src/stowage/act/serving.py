"""Reading ModelServices and profiles, writing status, and applying, deleting and patching what services consist of."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from stowage.act.readable import read
from stowage.act.unreadable import tell_unreadable
from stowage.api.model_service import ModelService
from stowage.api.model_service_reasons import ServiceCondition, ServiceReason
from stowage.api.names import OPERATOR_MANAGER, SERVICE_LABEL
from stowage.api.performance_profile import (
    PerformanceProfile,
    PerformanceProfileStatus,
    ProfileCondition,
    ProfileReason,
)
from stowage.api.resource import InvalidObjectError
from stowage.decide.serving.service_facts import ChildRef, PodRef
from stowage.transport import Api, Conflict, Invalid, NotFound, paths

Document = dict[str, Any]

COLLECTIONS: Final = {
    "Deployment": paths.DEPLOYMENTS,
    "Service": paths.SERVICES,
    "PodDisruptionBudget": paths.DISRUPTION_BUDGETS,
}
"""By kind of child, where it is."""

_UID_FIELD: Final = "metadata.uid"
"""It cannot be changed: who gives that of a pod that is gone is told so, where another one has its name."""

logger = logging.getLogger(__name__)


class ChildTaken(Exception):  # noqa: N818 - named after what happened
    """An object of the name that a child needs is there, and is not the service's."""


async def get_service(api: Api, namespace: str, name: str) -> ModelService | None:
    """A service as it is now; None when it is gone or going.

    Raises:
        InvalidObjectError: it cannot be used.
    """
    try:
        service = read(ModelService, await api.get(paths.model_service(namespace, name)))
    except NotFound:
        return None
    return service if service.metadata.deletion_timestamp is None else None


async def get_profile(api: Api, name: str) -> PerformanceProfile | None:
    """A profile; None when there is none.

    Raises:
        InvalidObjectError: it cannot be used.
    """
    try:
        return read(PerformanceProfile, await api.get(paths.performance_profile(name)))
    except NotFound:
        return None


async def write_profile_status(
    api: Api, profile: PerformanceProfile, status: PerformanceProfileStatus, *, leads: Callable[[], bool]
) -> None:
    """Write a profile's status if it changed; whoever wrote meanwhile rings, and it is looked at again."""
    if status == profile.status or not leads():
        return
    document = profile.model_copy(update={"status": status}).to_document()
    document["metadata"].pop("managedFields", None)  # absent means untouched
    try:
        await api.replace(paths.performance_profile_status(profile.name), document)
    except (Conflict, NotFound):
        logger.debug("PerformanceProfile %s was changed meanwhile", profile.name)


async def refuse_unreadable_profile(
    api: Api, name: str, error: InvalidObjectError, *, now: float, leads: Callable[[], bool]
) -> None:
    """Say in the status of a profile that it cannot be used, and log it once."""
    condition, reason = ProfileCondition.ACCEPTED, ProfileReason.INVALID_SPEC
    await tell_unreadable(api, paths.performance_profile(name), error, condition, reason, now=now, leads=leads)


async def refuse_unreadable_service(
    api: Api, namespace: str, name: str, error: InvalidObjectError, *, now: float, leads: Callable[[], bool]
) -> None:
    """Say in the status of a service that it cannot be used, and log it once; what it has already stays as it is.

    Args:
        api: the connection.
        namespace: of the service.
        name: of the service.
        error: what is wrong with it: a rule that the API server cannot see.
        now: seconds since 1970.
        leads: whether this process still leads.
    """
    path = paths.model_service(namespace, name)
    condition, reason = ServiceCondition.ACCEPTED, ServiceReason.INVALID_SPEC
    await tell_unreadable(api, path, error, condition, reason, now=now, leads=leads, in_columns=True)


async def list_children(api: Api, service: ModelService, kind: str) -> tuple[Document, ...]:
    """The objects of a kind of child that the service owns, as they are now."""
    collection = paths.in_namespace(COLLECTIONS[kind], service.namespace)
    found = await api.get(collection, {"labelSelector": f"{SERVICE_LABEL}={service.name}"})
    return tuple(one for one in found.get("items") or () if _owns(service, one))


async def apply_child(api: Api, service: ModelService, document: Mapping[str, Any], uid: str | None) -> Document:
    """Apply a child, whole; an object of its name that is not the service's is left alone. Returns it as it is now.

    Args:
        api: the connection.
        service: whose child it is.
        document: the child.
        uid: of the child where it is known to be there; None: it is asked for first.

    Raises:
        ChildTaken: there is such an object, or one of the service that has not gone yet.
        Conflict: the child with this UID is gone.
        Invalid: the API server refuses it.
        Forbidden: so does a quota, an admission webhook or a role.
    """
    kind, name = document["kind"], document["metadata"]["name"]
    path = _path(service.namespace, kind, name)
    uid = uid or await _uid_there(api, service, path, f"{kind} {name}")
    metadata = document["metadata"] if uid is None else {**document["metadata"], "uid": uid}
    return await api.apply(path, {**document, "metadata": metadata}, field_manager=OPERATOR_MANAGER)


async def _uid_there(api: Api, service: ModelService, path: str, called: str) -> str | None:
    try:
        found = await api.get(path)
    except NotFound:
        return None
    if not _owns(service, found):
        raise ChildTaken(f"{called} is there already, and is not of this service{_owner_of(service, found)}")
    if "deletionTimestamp" in found["metadata"]:
        raise ChildTaken(f"{called} is still going")
    return str(found["metadata"]["uid"])


async def delete_child(api: Api, namespace: str, child: ChildRef) -> None:
    """Delete exactly this child, with the pods that it owns."""
    options = {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "propagationPolicy": "Background",
        "preconditions": {"uid": child.uid},
    }
    try:
        await api.delete(_path(namespace, child.kind, child.name), options)
    except (NotFound, Conflict):
        logger.debug("%s %s/%s is gone already", child.kind, namespace, child.name)


async def lower_deployment(api: Api, namespace: str, child: ChildRef, replicas: int) -> Document | None:
    """Let exactly this Deployment have so many replicas, its template as it is; None: it is gone.

    Raises:
        Invalid: the API server refuses it.
        Forbidden: so does an admission webhook or a role.
    """
    body = {"metadata": {"uid": child.uid}, "spec": {"replicas": replicas}}
    try:
        return await api.merge_patch(_path(namespace, child.kind, child.name), body, {"fieldManager": OPERATOR_MANAGER})
    except (NotFound, Conflict):
        logger.debug("%s %s/%s is gone already", child.kind, namespace, child.name)
        return None


async def patch_pod(api: Api, pod: PodRef, patch: Mapping[str, Any]) -> bool:
    """Patch labels and annotations of exactly this pod; returns whether that was done.

    It was not where the pod is gone, another one has its name, or somebody wrote it all the time.

    Raises:
        Invalid: the API server refuses the patch itself.
    """
    body = {**patch, "metadata": {**(patch.get("metadata") or {}), "uid": pod.uid}}
    try:
        await api.merge_patch(paths.pod(pod.namespace, pod.name), body)
    except (NotFound, Conflict) as error:
        logger.debug("pod %s/%s was not patched: %s", pod.namespace, pod.name, error)
        return False
    except Invalid as error:
        if all(one.field != _UID_FIELD for one in error.causes):
            raise
        logger.debug("pod %s/%s is another one now", pod.namespace, pod.name)
        return False
    return True


async def create_prefetch_pod(api: Api, document: Mapping[str, Any]) -> None:
    """Make a pod; one of its name that is there was made from the same, or is looked at again.

    Raises:
        Invalid: the API server refuses it.
        Forbidden: so does a quota, an admission webhook or a role.
    """
    namespace, name = document["metadata"]["namespace"], document["metadata"]["name"]
    try:
        await api.create(paths.in_namespace(paths.PODS, namespace), document)
    except Conflict:
        logger.debug("pod %s/%s is there already", namespace, name)


async def delete_service_pod(api: Api, pod: PodRef) -> None:
    """Delete exactly this pod."""
    options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": pod.uid}}
    try:
        await api.delete(paths.pod(pod.namespace, pod.name), options)
    except (NotFound, Conflict):
        logger.debug("pod %s/%s is gone already", pod.namespace, pod.name)


def _path(namespace: str, kind: str, name: str) -> str:
    return paths.named(paths.in_namespace(COLLECTIONS[kind], namespace), name)


def _owner_of(service: ModelService, found: Mapping[str, Any]) -> str:
    """In words, where another object owns this one; empty: none does."""
    owners = [one for one in found["metadata"].get("ownerReferences") or () if one.get("controller")]
    if not owners:
        return ""
    kind, name = owners[0].get("kind"), owners[0].get("name")
    if (kind, name) == (service.kind, service.name):
        return f", but of an earlier {kind} of its name"
    return f": {kind} {name} has it; one of the two needs another name"


def _owns(service: ModelService, found: Mapping[str, Any]) -> bool:
    owners = found["metadata"].get("ownerReferences") or ()
    return any(owner.get("uid") == service.metadata.uid for owner in owners)
