"""Reading TrainingJobs, writing their status, and making, deleting and letting go of what they are made of."""

from __future__ import annotations

import base64
import binascii
import logging
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final

from stowage.act.readable import read
from stowage.act.unreadable import tell_unreadable
from stowage.api.names import OPERATOR_MANAGER, TRACKING_FINALIZER
from stowage.api.resource import InvalidObjectError
from stowage.api.training_job import TrainingJob
from stowage.api.training_reasons import JobCondition, JobReason
from stowage.decide.training.children import TOKEN_KEY, Document, secret_name, token_secret
from stowage.transport import Api, Conflict, Invalid, NotFound, paths
from stowage_scheduler.cluster import Pod

TOKEN_BYTES: Final = 32

logger = logging.getLogger(__name__)


class NameTaken(Exception):  # noqa: N818 - named after what happened
    """An object of the name that the job needs is there, and is not the job's."""


async def get_job(api: Api, namespace: str, name: str) -> TrainingJob | None:
    """A job as it is now; None when it is gone or going.

    Raises:
        InvalidObjectError: it cannot be used.
    """
    try:
        job = read(TrainingJob, await api.get(paths.training_job(namespace, name)))
    except NotFound:
        return None
    return job if job.metadata.deletion_timestamp is None else None


async def refuse_unreadable(
    api: Api, namespace: str, name: str, error: InvalidObjectError, *, now: float, leads: Callable[[], bool]
) -> None:
    """Say in the status of a job that it cannot be used, and log it once; what it has already stays as it is.

    Args:
        api: the connection.
        namespace: of the job.
        name: of the job.
        error: what is wrong with it: a rule that the API server cannot see.
        now: seconds since 1970.
        leads: whether this process still leads.
    """
    path = paths.training_job(namespace, name)
    await tell_unreadable(api, path, error, JobCondition.ACCEPTED, JobReason.INVALID_SPEC, now=now, leads=leads)


async def delete_job(api: Api, job: TrainingJob) -> None:
    """Delete a job whose time to live is over, with all that it owns."""
    options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
    try:
        path = paths.training_job(job.namespace, job.name)
        await api.delete(path, {**options, "preconditions": {"uid": job.metadata.uid}})
    except (NotFound, Conflict):
        logger.debug("job %s is gone already", job.key)


async def ensure_token(api: Api, job: TrainingJob, known: str | None = None) -> str:
    """The job's token, from its Secret; made where there is none.

    Args:
        api: the connection.
        job: whose.
        known: what the Secret held before, if that is known: pods that run have it.

    Raises:
        NameTaken: the Secret is another one.
    """
    collection = paths.in_namespace(paths.SECRETS, job.namespace)
    path = paths.named(collection, secret_name(job.name))
    try:
        found = await api.get(path)
    except NotFound:
        try:
            await api.create(collection, token_secret(job, known or secrets.token_urlsafe(TOKEN_BYTES)))
        except Conflict:
            logger.debug("another process made the Secret of %s", job.key)
        found = await api.get(path)
    _require_owner(found, job)
    try:
        return base64.b64decode((found.get("data") or {}).get(TOKEN_KEY, ""), validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise NameTaken(f"Secret {secret_name(job.name)} holds no token") from error


async def apply_child(api: Api, job: TrainingJob, collection: str, document: Document) -> None:
    """Apply an object of the job; one of its name that is not the job's is left alone.

    Raises:
        NameTaken: there is such an object, or an earlier one of the job that has not gone yet.
        Invalid: the API server refuses it.
    """
    path = paths.named(paths.in_namespace(collection, job.namespace), document["metadata"]["name"])
    try:
        found = await api.get(path)
    except NotFound:
        found = None
    if found is not None:
        _require_owner(found, job)
        if "deletionTimestamp" in found["metadata"]:
            raise NameTaken(f"{document['kind']} {document['metadata']['name']} is still going")
        if document["kind"] == "Pod":
            return  # made already; nothing of a pod may be changed but what others have changed since
    try:
        await api.apply(path, document, field_manager=OPERATOR_MANAGER)
    except Conflict as error:
        raise NameTaken(str(error)) from error


async def delete_pod(api: Api, pod: Pod, *, force: bool = False) -> None:
    """Delete exactly this pod; by force without waiting for its kubelet."""
    options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": pod.uid}}
    if force:
        options["gracePeriodSeconds"] = 0
    try:
        await api.delete(paths.pod(pod.namespace, pod.name), options)
    except (NotFound, Conflict):
        logger.debug("pod %s/%s is gone already", pod.namespace, pod.name)


async def release_pod(api: Api, pod: Pod) -> None:
    """Take the tracking finalizer off exactly this pod: it is counted."""
    await release_tracked(api, pod.namespace, pod.name, pod.uid)


async def release_tracked(api: Api, namespace: str, name: str, uid: str) -> None:
    """Take the tracking finalizer off the pod of this name, if it still is the one with this UID; no other of it.

    Others write pods meanwhile: one element is taken out of the list, whatever the rest has become.
    """
    gone = {"uid": uid, "$deleteFromPrimitiveList/finalizers": [TRACKING_FINALIZER]}
    try:
        await api.strategic_patch(paths.pod(namespace, name), {"metadata": gone})
    except (NotFound, Conflict, Invalid):  # another pod has its name, or what is going is gone before the answer
        logger.debug("pod %s/%s is gone already", namespace, name)


def _require_owner(found: Mapping[str, Any], job: TrainingJob) -> None:
    owners = found["metadata"].get("ownerReferences") or []
    if not any(owner.get("uid") == job.metadata.uid for owner in owners):
        raise NameTaken(f"{found.get('kind', 'object')} {found['metadata']['name']} is not of this job")
