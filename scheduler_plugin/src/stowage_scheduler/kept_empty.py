"""Nodes that a plan has emptied: for a while pods go there only where they find no other node."""

from __future__ import annotations

from collections.abc import Callable, Sequence

KEPT_EMPTY_SECONDS = 3600.0
"""Long enough for a node autoscaler, which takes a node away after ten minutes unless told otherwise."""


class KeptEmpty:
    """The nodes that plans have emptied, until their time is over.

    Args:
        clock: seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._plans: dict[str, tuple[frozenset[str], float]] = {}  # by UID: the nodes, and until when

    def __bool__(self) -> bool:
        """Whether there are any now."""
        if self._plans:
            now = self._clock()
            self._plans = {uid: kept for uid, kept in self._plans.items() if kept[1] > now}
        return bool(self._plans)

    def keep(self, plan_uid: str, nodes: frozenset[str], seconds: float) -> None:
        """Keep nodes empty for so long; nothing when that is over."""
        if seconds > 0 and nodes:
            self._plans[plan_uid] = (nodes, self._clock() + seconds)

    def forget(self, plan_uid: str) -> None:
        """The plan is gone."""
        self._plans.pop(plan_uid, None)

    def others(self, node_names: Sequence[str]) -> Sequence[str]:
        """The nodes but those, in their order; all of them when there are no others: nobody waits for this."""
        if not self:
            return node_names
        kept = frozenset[str]().union(*(nodes for nodes, _ in self._plans.values()))
        left = [name for name in node_names if name not in kept]
        return left if left and len(left) < len(node_names) else node_names
