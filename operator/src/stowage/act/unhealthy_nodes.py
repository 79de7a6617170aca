"""Telling everybody that a node is not to be used: a taint, with the reason beside it.

Who runs there may stay. The taint is written once for each failure: an admin who takes it off has looked, and is not
overruled. Nobody but admins takes it off, or whoever replaces the node.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Final

from stowage.api.names import UNHEALTHY_REASON_ANNOTATION, UNHEALTHY_SINCE_ANNOTATION, UNHEALTHY_TAINT
from stowage.transport import Api, NotFound, paths

EFFECT: Final = "NoSchedule"
MOST_WORDS: Final = 512

logger = logging.getLogger(__name__)


async def cordon(api: Api, node: str, *, at: datetime, reason: str, leads: Callable[[], bool]) -> None:
    """Taint a node, unless that was done for this failure or a later one.

    Args:
        api: the connection.
        node: which.
        at: when it failed.
        reason: words for admins, cut at `MOST_WORDS`.
        leads: whether this process still leads; asked right before the write.

    Raises:
        Conflict: somebody wrote in between; to be tried again.
        Forbidden: the operator may not write nodes.
    """
    try:
        found = await api.get(paths.node(node))
        since = (found["metadata"].get("annotations") or {}).get(UNHEALTHY_SINCE_ANNOTATION, "")
        mark = f"{at:%Y-%m-%dT%H:%M:%SZ}"
        if since >= mark or not leads():  # both are of one form, so they are ordered as their times are
            return
        taints = list(found["spec"].get("taints") or [])
        if not any(taint["key"] == UNHEALTHY_TAINT for taint in taints):
            taints.append({"key": UNHEALTHY_TAINT, "effect": EFFECT})
        notes = {UNHEALTHY_SINCE_ANNOTATION: mark, UNHEALTHY_REASON_ANNOTATION: reason[:MOST_WORDS]}
        metadata = {"resourceVersion": found["metadata"]["resourceVersion"], "annotations": notes}
        await api.merge_patch(paths.node(node), {"metadata": metadata, "spec": {"taints": taints}})
    except NotFound:
        logger.debug("node %s is gone already", node)
    else:
        logger.warning("node %s is kept from new pods: %s", node, reason[:MOST_WORDS])
