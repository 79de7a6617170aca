"""The answer that is always there: pending pods by priority, each on the node that it fits best.

Nothing moves. Two orders are tried within a priority, large pods first and small pods first; the one
that places more wins (first-fit decreasing leaves fewer holes, small first places more pods).
"""

from __future__ import annotations

from collections.abc import Callable

from stowage_scheduler.kube.matching import port_conflict
from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import PodClass, Problem

_PARTS = 1_000_000  # shares of a node are counted in millionths, so that no float decides


def greedy(problem: Problem) -> Placement:
    """The better of the two orders; never worse than what runs now."""
    size = sizes(problem)
    large_first = fill(Placement(problem), lambda c: -size[c.index])
    small_first = fill(Placement(problem), lambda c: size[c.index])
    return max(large_first, small_first, key=Placement.score)


def sizes(problem: Problem) -> list[int]:
    """Per class the largest share of the cluster's room in any resource that one pod takes, in millionths."""
    totals = [max(1, sum(row[r] for row in problem.free)) for r in range(len(problem.resources))]
    return [
        max((amount * _PARTS // totals[r] for r, amount in enumerate(c.requests)), default=0) for c in problem.classes
    ]


def fits(placement: Placement, pod_class: PodClass, node: int) -> bool:
    """Whether one more pod of a class may be put on a node."""
    if node not in pod_class.eligible:
        return False
    room = placement.room[node]
    if any(amount > room[r] for r, amount in enumerate(pod_class.requests) if amount):
        return False
    return not pod_class.ports or port_conflict(pod_class.ports, placement.taken_ports(node)) is None


def fill(placement: Placement, order: Callable[[PodClass], int]) -> Placement:
    """Put every unplaced pod that fits somewhere on its best node; changes and returns `placement`.

    A gang takes its turn with the most urgent of its classes, and gets all its places or none.
    """
    problem = placement.problem
    waiting = [c for c in problem.classes if placement.unplaced(c)]
    met: set[int] = set()
    for pod_class in sorted(waiting, key=lambda c: (-c.priority, order(c), c.index)):
        if pod_class.gang is None:
            _put(placement, pod_class)
        elif pod_class.gang not in met:
            met.add(pod_class.gang)
            together = sorted(problem.together_with(pod_class), key=lambda c: (order(c), c.index))
            if not all(_put(placement, one) for one in together):
                for node, held in placement.without_halved_gangs().items():
                    placement.replace(node, held)
    return placement


def _put(placement: Placement, pod_class: PodClass) -> bool:
    """Put the unplaced pods of a class on nodes, each on its best; whether all of them have one now."""
    for _ in range(placement.unplaced(pod_class)):
        node = _best_node(placement, pod_class)
        if node is None:
            return False
        placement.add(pod_class, node, 1)
    return True


def _best_node(placement: Placement, pod_class: PodClass) -> int | None:
    """The node that is left with the least room, measured in the pod's own resources."""

    def left(node: int) -> tuple[int, int]:
        free, room = placement.problem.free[node], placement.room[node]
        shares = (
            (room[r] - amount) * _PARTS // max(1, free[r]) for r, amount in enumerate(pod_class.requests) if amount
        )
        return sum(shares), node

    return min((node for node in pod_class.eligible if fits(placement, pod_class, node)), key=left, default=None)
