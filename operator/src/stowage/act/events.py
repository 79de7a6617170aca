"""Kubernetes Events (events.k8s.io/v1) on the pods that a plan touches or a packing leaves pending.

The name of an event follows from what it says: told twice, by another process too, it is one event.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Iterable

from msgspec import Struct

from stowage.api.durations import instant
from stowage.api.names import API_VERSION, TRACE_ANNOTATION
from stowage.api.packing_plan import PackingPlan
from stowage.api.packing_policy import PackingPolicy
from stowage.decide.announcements import Announcement
from stowage.transport import Api, ApiError, Conflict, paths

CONTROLLER = "stowage.dev/operator"
LONGEST_NOTE = 1024
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
    if not writes:
        return
    try:
        async with asyncio.timeout(WRITE_WITHIN_SECONDS):
            await asyncio.gather(*writes)
    except TimeoutError:
        logger.warning("%s %s: the server took no more of %d events", subject.kind, subject.name, len(writes))


async def _announce(api: Api, subject: Subject, announcement: Announcement, identity: str, now: float) -> None:
    pod = announcement.pod
    said = f"{subject.uid}/{pod.uid}/{announcement.reason}/{announcement.key}"
    name = f"{pod.name[:LONGEST_POD_NAME].rstrip('-.')}.{hashlib.sha256(said.encode()).hexdigest()[:16]}"
    document = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "name": name,
            "namespace": pod.namespace,
            "annotations": {TRACE_ANNOTATION: subject.trace} if subject.trace else {},
        },
        "eventTime": f"{instant(now):%Y-%m-%dT%H:%M:%S.%f}Z",
        "reportingController": CONTROLLER,
        "reportingInstance": identity[:128],
        "action": subject.action,
        "reason": announcement.reason.value,
        "note": announcement.note[:LONGEST_NOTE],
        "type": "Warning" if announcement.warning else "Normal",
        "regarding": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": pod.namespace,
            "name": pod.name,
            "uid": pod.uid,
        },
        "related": {
            "apiVersion": API_VERSION,
            "kind": subject.kind,
            "name": subject.name,
            "uid": subject.uid,
        },
    }
    try:
        await api.create(paths.events(pod.namespace), document)
    except Conflict:
        return  # it was told before
    except ApiError as error:
        logger.debug("event on %s not written: %s", pod.key, error)
