"""Pods whose place the checks refuse, and planning once more without them.

When the checks find something wrong with the search's answer, the packer has made a mistake, and simpler answers may
leave many others without a place. Most mistakes are about a few pods that come, often those of one gang. So these are
left out, all pods of their gangs with them, and the rest is planned for as if they were not there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from msgspec import structs

from stowage_scheduler.cluster import Pod, Snapshot
from stowage_scheduler.gangs import gang_key
from stowage_scheduler.options import Budget
from stowage_scheduler.packing import Packing, PodRef, Reason, Unplaced
from stowage_scheduler.rules import Outcome, Violation

_SHARE = 0.25  # of the budget, for another answer, whatever the first one took of it


def refused(violations: Sequence[Violation], outcome: Outcome) -> dict[str, str]:
    """By UID of a waiting pod that is refused a place, what was found wrong.

    That is a pod that a violation names, or that comes to a node that one names; and with it all of its gang. Empty
    where none comes into question: then nobody is to blame.
    """
    coming = [(pod, node) for pod, node in outcome.arrivals if pod.node is None]
    found: dict[str, str] = {}
    for violation in violations:
        words = f"{violation.rule}: {violation.subject}: {violation.detail}"
        named = [pod for pod, _ in coming if violation.subject in _names(pod)]
        named = named or [pod for pod, node in coming if node is not None and node.name == violation.subject]
        gangs = {key for pod in named if (key := gang_key(pod)) is not None}
        alone = {pod.uid for pod in named}
        for pod in outcome.snapshot.pods:
            if pod.uid in alone or (pod.node is None and gang_key(pod) in gangs):
                found.setdefault(pod.uid, words)
    return found


def _names(pod: Pod) -> tuple[str, ...]:
    key = gang_key(pod)
    return (pod.key,) if key is None else (pod.key, "/".join(key))


def without(snapshot: Snapshot, uids: Collection[str]) -> Snapshot:
    """The snapshot as if these pods, which have no node, were not there."""
    return structs.replace(snapshot, pods=tuple(pod for pod in snapshot.pods if pod.uid not in uids))


def budget_again(budget: Budget, seconds_left: float) -> Budget:
    """What another answer may take: a quarter of the budget, or what is left of it where that is more."""
    if budget.deterministic_units is not None:
        return structs.replace(budget, deterministic_units=budget.deterministic_units * _SHARE)
    return structs.replace(budget, seconds=max(seconds_left, budget.seconds * _SHARE))


def better(first: Packing, again: Packing, uids: Mapping[str, str], pods: Mapping[str, Pod]) -> Packing:
    """The better one of a simpler answer and of one that was planned without some pods, of which it then tells.

    Args:
        first: the answer to the whole problem; its bounds hold for both.
        again: the answer without these pods.
        uids: by UID, what was found wrong with their places.
        pods: of the snapshot, by UID.
    """
    first = structs.replace(
        first,
        faults=(*first.faults, *(fault for fault in again.faults if fault not in first.faults)),
        seconds=first.seconds + again.seconds,
        stages={
            name: first.stages.get(name, 0) + again.stages.get(name, 0) for name in {**first.stages, **again.stages}
        },
    )
    if _worth(again, tuple(first.placed)) < _worth(first, tuple(first.placed)):
        return first
    bound = {priority: max(count, _at(again.placed, priority)) for priority, count in first.bound.items()}
    placed = {priority: _at(again.placed, priority) for priority in first.placed}
    told = [
        Unplaced(
            PodRef(pods[uid].namespace, pods[uid].name, uid),
            Reason.REFUSED_BY_CHECKS,
            f"the checks refuse the place that was found for it, so the rest is planned without it ({words})",
        )
        for uid, words in uids.items()
    ]
    return structs.replace(
        again,
        unplaced=tuple(sorted([*again.unplaced, *told])),
        before=first.before,
        placed=placed,
        bound=bound,
        certified=placed == bound,
        move_cost_bound=None,  # with these pods other moves may do as well
        rejected=first.rejected,
        faults=first.faults,
        seconds=first.seconds,
        stages=first.stages,
    )


def _worth(packing: Packing, priorities: Sequence[int]) -> tuple[int, ...]:
    """Pods by priority, then who loses its place, then the cost of moves; more is better."""
    placed = (_at(packing.placed, priority) for priority in sorted(priorities, reverse=True))
    return (*placed, -len(packing.evictions), -packing.move_cost)


def _at(placed: Mapping[int, int], priority: int) -> int:
    """Pods of a priority or higher, also where no pod has that very priority."""
    return placed.get(priority, max((count for other, count in placed.items() if other > priority), default=0))
