"""Saying in the status of a custom resource that it cannot be used as it is written."""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import StrEnum

from stowage.act.readable import tell_once
from stowage.api.durations import instant
from stowage.api.fields import MAX_MESSAGE
from stowage.api.resource import InvalidObjectError
from stowage.transport import Api, Conflict, NotFound

logger = logging.getLogger(__name__)


async def tell_unreadable(
    api: Api,
    path: str,
    error: InvalidObjectError,
    condition: StrEnum,
    reason: StrEnum,
    *,
    now: float,
    leads: Callable[[], bool],
    in_columns: bool = False,
) -> None:
    """Set a condition to False with the words of the error, and log it once; all else of the status stays.

    Args:
        api: the connection.
        path: of the object; its status is a subresource.
        error: what is wrong with it: a rule that the API server cannot see.
        condition: its type.
        reason: that it gets.
        now: seconds since 1970.
        leads: whether this process still leads.
        in_columns: the status has a `reason` and a `message` of its own, which `kubectl get` shows.
    """
    try:
        raw = await api.get(path)
    except NotFound:
        return
    tell_once(raw, error)
    metadata, status = raw["metadata"], raw.get("status") or {}
    generation = metadata.get("generation", 0)
    others = [one for one in status.get("conditions") or () if one.get("type") != condition]
    told = {
        "type": condition.value,
        "status": "False",
        "reason": reason.value,
        "message": str(error)[:MAX_MESSAGE],
        "lastTransitionTime": f"{instant(now):%Y-%m-%dT%H:%M:%SZ}",
        "observedGeneration": generation,
    }
    before = [one for one in status.get("conditions") or () if one not in others]
    if any((one.get("reason"), one.get("observedGeneration")) == (told["reason"], generation) for one in before):
        return
    if not leads():
        return
    metadata.pop("managedFields", None)  # absent means untouched
    words = {"reason": told["reason"], "message": told["message"]} if in_columns else {}
    try:
        await api.replace(f"{path}/status", {**raw, "status": {**status, **words, "conditions": [*others, told]}})
    except (Conflict, NotFound):
        logger.debug("%s was changed meanwhile", path)
