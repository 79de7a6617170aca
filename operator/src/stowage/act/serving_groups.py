"""Making and deleting the pods of replicas that have several."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from stowage.act.serving import ChildTaken
from stowage.api.model_service import ModelService
from stowage.decide.serving.service_facts import PodRef
from stowage.transport import Api, Conflict, NotFound, paths

logger = logging.getLogger(__name__)


async def create_pod(api: Api, service: ModelService, document: Mapping[str, Any]) -> None:
    """Make a pod; one of its name that is the service's is left as it is.

    Raises:
        ChildTaken: a pod of the name is there, and is not the service's.
        Invalid: the API server refuses it.
        Forbidden: so does a quota, an admission webhook or a role.
    """
    try:
        await api.create(paths.in_namespace(paths.PODS, service.namespace), document)
    except Conflict:
        name = document["metadata"]["name"]
        if not await _is_of(api, service, name):
            raise ChildTaken(f"Pod {name} is there already, and is not of this service") from None
        logger.debug("pod %s/%s is there already", service.namespace, name)


async def is_there(api: Api, service: ModelService, name: str) -> bool:
    """Whether a pod of the service is there and stays, whatever the store has seen of it."""
    try:
        found = await api.get(paths.pod(service.namespace, name))
    except NotFound:
        return False
    return _owns(service, found) and "deletionTimestamp" not in found["metadata"]


async def delete_pod(api: Api, pod: PodRef) -> None:
    """Delete exactly this pod."""
    options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": pod.uid}}
    try:
        await api.delete(paths.pod(pod.namespace, pod.name), options)
    except (NotFound, Conflict):
        logger.debug("pod %s/%s is gone already", pod.namespace, pod.name)


async def _is_of(api: Api, service: ModelService, name: str) -> bool:
    try:
        return _owns(service, await api.get(paths.pod(service.namespace, name)))
    except NotFound:  # it went meanwhile, so it was no obstacle for long
        return True


def _owns(service: ModelService, found: Mapping[str, Any]) -> bool:
    owners = found["metadata"].get("ownerReferences") or ()
    return any(owner.get("uid") == service.metadata.uid for owner in owners)
