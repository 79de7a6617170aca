"""Keeping nodes for a plan by a taint, and giving them back.

`spec.taints` is one atomic list that others write too: it is patched with the resourceVersion that was read, never
applied.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

from stowage.api.durations import instant
from stowage.api.names import RESERVED_TAINT, RESERVED_UNTIL_ANNOTATION
from stowage.transport import Api, Conflict, NotFound, paths

WRITE_TRIES: Final = 5
EFFECT: Final = "NoSchedule"

Taints = list[dict[str, Any]]


async def reserve(
    api: Api, node: str, *, uid: str, until: float, over: Collection[str], leads: Callable[[], bool]
) -> None:
    """Put the taint of a plan on a node.

    Args:
        api: the connection.
        node: which.
        uid: of the plan.
        until: seconds since the epoch; written beside the taint, for whoever finds it without its plan.
        over: UIDs of plans that do not run: their taint is replaced. That of any other plan stays, and so nothing
            is written.
        leads: whether this process still leads; asked right before each try.

    Raises:
        Conflict: others wrote each time that this was tried.
    """
    ours = {"key": RESERVED_TAINT, "value": uid, "effect": EFFECT}

    def with_ours(taints: Taints) -> Taints | None:
        holders = {taint.get("value") for taint in taints if taint["key"] == RESERVED_TAINT}
        if holders - set(over):
            return None
        return [*(taint for taint in taints if taint["key"] != RESERVED_TAINT), ours]

    await _change(api, node, with_ours, f"{instant(until):%Y-%m-%dT%H:%M:%SZ}", leads)


async def release(api: Api, node: str, *, uid: str, leads: Callable[[], bool]) -> None:
    """Take the taint of a plan off a node, and what was written beside it; any other taint stays.

    Raises:
        Conflict: others wrote each time that this was tried.
    """

    def without_ours(taints: Taints) -> Taints:
        return [taint for taint in taints if taint["key"] != RESERVED_TAINT or taint.get("value") != uid]

    await _change(api, node, without_ours, None, leads)


async def _change(
    api: Api, node: str, change: Callable[[Taints], Taints | None], until: str | None, leads: Callable[[], bool]
) -> None:
    """Change a node's taints as long as somebody else writes in between; None: leave it as it is."""
    for attempt in range(WRITE_TRIES):
        try:
            found = await api.get(paths.node(node))
            before = list(found["spec"].get("taints") or [])
            taints = change(before)
            if taints is None or not leads():
                return
            kept_still = until is None and any(taint["key"] == RESERVED_TAINT for taint in taints)
            noted = RESERVED_UNTIL_ANNOTATION in (found["metadata"].get("annotations") or {})
            if taints == before and (kept_still or not noted):
                return
            metadata: dict[str, Any] = {"resourceVersion": found["metadata"]["resourceVersion"]}
            if not kept_still:
                metadata["annotations"] = {RESERVED_UNTIL_ANNOTATION: until}
            await api.merge_patch(paths.node(node), {"metadata": metadata, "spec": {"taints": taints or None}})
        except NotFound:
            return
        except Conflict:
            if attempt == WRITE_TRIES - 1:
                raise
        else:
            return
