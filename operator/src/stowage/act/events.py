"""Kubernetes Events (events.k8s.io/v1) on the pods that a plan touches."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from stowage.api.durations import instant
from stowage.api.names import API_VERSION
from stowage.api.packing_plan import PackingPlan
from stowage.decide.announcements import Announcement
from stowage.transport import Api, ApiError, paths

CONTROLLER = "stowage.dev/operator"
LONGEST_NOTE = 1024
WRITE_WITHIN_SECONDS = 2.0

logger = logging.getLogger(__name__)


async def announce(
    api: Api, plan: PackingPlan, announcements: Iterable[Announcement], *, identity: str, now: float
) -> None:
    """Write events, all at once; what the server does not take in time is forgotten, for nothing depends on it.

    Args:
        api: the connection.
        plan: what the events are about.
        announcements: one event each.
        identity: of this process.
        now: seconds since the epoch.
    """
    writes = [_announce(api, plan, *one, identity, now) for one in enumerate(announcements)]
    if not writes:
        return
    try:
        async with asyncio.timeout(WRITE_WITHIN_SECONDS):
            await asyncio.gather(*writes)
    except TimeoutError:
        logger.warning("plan %s: the server took no more of %d events", plan.name, len(writes))


async def _announce(
    api: Api, plan: PackingPlan, number: int, announcement: Announcement, identity: str, now: float
) -> None:
    pod = announcement.pod
    document = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{pod.name[:200]}.{int(now * 1e6) + number:x}", "namespace": pod.namespace},
        "eventTime": f"{instant(now):%Y-%m-%dT%H:%M:%S.%f}Z",
        "reportingController": CONTROLLER,
        "reportingInstance": identity[:128],
        "action": "ExecutePlan",
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
            "kind": "PackingPlan",
            "name": plan.name,
            "uid": plan.metadata.uid or "",
        },
    }
    try:
        await api.create(paths.events(pod.namespace), document)
    except ApiError as error:
        logger.debug("event on %s not written: %s", pod.key, error)
