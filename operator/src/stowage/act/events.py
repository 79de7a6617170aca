"""Kubernetes Events (events.k8s.io/v1): on pods that a plan touches or a packing leaves pending, on jobs and services.

The name of an event follows from what it says: told twice, by another process too, it is one event.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Coroutine, Iterable
from typing import Any

from msgspec import Struct

from stowage.api.durations import instant
from stowage.api.model_service import ModelService
from stowage.api.names import API_VERSION, TRACE_ANNOTATION
from stowage.api.packing_plan import PackingPlan
from stowage.api.packing_policy import PackingPolicy
from stowage.api.training_job import TrainingJob
from stowage.decide.announcements import Announcement
from stowage.decide.serving.service_announcements import ServiceAnnouncement
from stowage.decide.training.job_announcements import JobAnnouncement
from stowage.transport import Api, ApiError, Conflict, paths

CONTROLLER = "stowage.dev/operator"
LONGEST_NOTE = 1024  # bytes: a longer one is refused
LONGEST_POD_NAME = 200
WRITE_WITHIN_SECONDS = 2.0

logger = logging.getLogger(__name__)


class Subject(Struct, frozen=True):
    """What events come from: a plan or a policy, and the trace of the decision."""

    kind: str
    name: str
    uid: str
    action: str
    trace: str = ""

    @classmethod
    def of_plan(cls, plan: PackingPlan) -> Subject:
        """A plan that goes on."""
        trace = plan.metadata.annotations.get(TRACE_ANNOTATION, "")
        return cls(plan.kind_name(), plan.name, plan.metadata.uid or "", "ExecutePlan", trace)

    @classmethod
    def of_policy(cls, policy: PackingPolicy, trace: str) -> Subject:
        """A policy that a packing was made for."""
        return cls(policy.kind_name(), policy.name, policy.metadata.uid or "", "Pack", trace)


async def announce(
    api: Api, subject: Subject, announcements: Iterable[Announcement], *, identity: str, now: float
) -> None:
    """Write events, all at once; what the server does not take in time is forgotten, for nothing depends on it.

    Args:
        api: the connection.
        subject: what the events come from.
        announcements: one event each.
        identity: of this process.
        now: seconds since the epoch.
    """
    writes = [_announce(api, subject, one, identity, now) for one in announcements]
    await _all(writes, f"{subject.kind} {subject.name}")


async def announce_job(
    api: Api, job: TrainingJob, announcements: Iterable[JobAnnouncement], *, identity: str, now: float
) -> None:
    """Write events on a job, as `announce` does on pods."""
    await _announce_on(api, job, "Train", announcements, identity=identity, now=now)


async def announce_service(
    api: Api, service: ModelService, announcements: Iterable[ServiceAnnouncement], *, identity: str, now: float
) -> None:
    """Write events on a service, as `announce` does on pods."""
    await _announce_on(api, service, "Scale", announcements, identity=identity, now=now)


async def _announce_on(
    api: Api,
    about: TrainingJob | ModelService,
    action: str,
    announcements: Iterable[JobAnnouncement] | Iterable[ServiceAnnouncement],
    *,
    identity: str,
    now: float,
) -> None:
    regarding = _object(API_VERSION, about.kind, about.namespace, about.name, about.metadata.uid or "")
    writes = [
        _write(
            api,
            f"{about.metadata.uid}/{one.reason}/{one.key}",
            {
                "action": action,
                "reason": one.reason.value,
                "note": _note(one.note),
                "type": "Warning" if one.warning else "Normal",
                "regarding": regarding,
            },
            identity,
            now,
        )
        for one in announcements
    ]
    await _all(writes, f"{about.kind} {about.key}")


async def _all(writes: list[Coroutine[Any, Any, None]], subject: str) -> None:
    if not writes:
        return
    try:
        async with asyncio.timeout(WRITE_WITHIN_SECONDS):
            await asyncio.gather(*writes)
    except TimeoutError:
        logger.warning("%s: the server took no more of %d events", subject, len(writes))


async def _announce(api: Api, subject: Subject, announcement: Announcement, identity: str, now: float) -> None:
    pod = announcement.pod
    fields = {
        "action": subject.action,
        "reason": announcement.reason.value,
        "note": _note(announcement.note),
        "type": "Warning" if announcement.warning else "Normal",
        "regarding": _object("v1", "Pod", pod.namespace, pod.name, pod.uid),
        "related": {"apiVersion": API_VERSION, "kind": subject.kind, "name": subject.name, "uid": subject.uid},
    }
    said = f"{subject.uid}/{pod.uid}/{announcement.reason}/{announcement.key}"
    await _write(api, said, fields, identity, now, {TRACE_ANNOTATION: subject.trace} if subject.trace else {})


def _note(words: str) -> str:
    return words.encode()[:LONGEST_NOTE].decode(errors="ignore")


def _object(api_version: str, kind: str, namespace: str, name: str, uid: str) -> dict[str, str]:
    return {"apiVersion": api_version, "kind": kind, "namespace": namespace, "name": name, "uid": uid}


async def _write(
    api: Api, said: str, fields: dict[str, Any], identity: str, now: float, annotations: dict[str, str] | None = None
) -> None:
    """Write one event; its name follows from what it is about and from `said`, which tells it from others."""
    about = fields["regarding"]
    name = f"{about['name'][:LONGEST_POD_NAME].rstrip('-.')}.{hashlib.sha256(said.encode()).hexdigest()[:16]}"
    document = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": about["namespace"], "annotations": annotations or {}},
        "eventTime": f"{instant(now):%Y-%m-%dT%H:%M:%S.%f}Z",
        "reportingController": CONTROLLER,
        "reportingInstance": identity[:128],
        **fields,
    }
    try:
        await api.create(paths.events(about["namespace"]), document)
    except Conflict:
        return  # it was told before
    except ApiError as error:
        logger.debug("event on %s %s/%s not written: %s", about["kind"], about["namespace"], about["name"], error)
