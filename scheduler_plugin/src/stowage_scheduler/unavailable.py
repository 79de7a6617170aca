"""How many pods of one controller may be on their way to another node at the same time.

A PodDisruptionBudget says so for the pods that it covers; this holds for every controller, also for those that nobody
wrote a budget for. It speaks of moves: who loses a place for good makes way for others, and is not coming back soon.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from msgspec import Struct

from stowage_scheduler.cluster import Snapshot

_ALL = 100


class MaxUnavailable(Struct, frozen=True):
    """So many pods, or such a share of the replicas in percent, rounded down, but always one."""

    pods: int | None = None
    percent: int = _ALL

    def of(self, replicas: int) -> int:
        """The number for a controller of so many replicas."""
        return max(1, replicas * self.percent // _ALL if self.pods is None else self.pods)


def at_once(snapshot: Snapshot, most: MaxUnavailable | None) -> Mapping[str, int]:
    """By UID of a controller, how many of its pods may be on their way; nothing without a limit.

    Of the replicas that it wants; of the pods that it has, where nobody knows what it wants.
    """
    if most is None:
        return {}
    found: Counter[str] = Counter(
        pod.owner.uid for pod in snapshot.pods if pod.owner is not None and not pod.finished and not pod.terminating
    )
    wanted = {one.uid: one.replicas for one in snapshot.workloads if one.replicas is not None and one.uid in found}
    return {owner: most.of(count) for owner, count in {**found, **wanted}.items()}
