"""What is left of a placement when some of its changes have no safe order: all the rest, not the start.

The changes that could not start are taken back, and with them every arrival that has no room without them. What such an
arrival was evicted for stays where it is, and free room goes to whoever waits.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from stowage_scheduler.assign import Change
from stowage_scheduler.greedy import fill, sizes
from stowage_scheduler.kube.matching import port_conflict
from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import Problem


def salvaged(
    problem: Problem, made: Sequence[Change], blocked: Collection[Change], *, again: bool = True
) -> Placement | None:
    """The placement of `made` as far as it can be had without `blocked`.

    Args:
        problem: what runs.
        made: the changes of a placement that has no safe order.
        blocked: those of them that could not start.
        again: whether pods of these may come where there is room; else they wait.

    Returns:
        A placement with fewer moves than `made`; None when a rule that spans nodes would be broken.
    """
    kept = [change for change in made if change not in blocked]
    if len(kept) == len(made):
        return None
    placement = Placement(problem)
    for change in kept:
        _apply(placement, change, 1)
    _take_back_what_has_no_room(placement, kept)
    for change in [one for one in kept if one.target is None]:
        if _fits(placement, change.class_index, change.source):
            _apply(placement, change, -1)  # nobody needs the room now
    for node, held in placement.without_halved_gangs().items():
        placement.replace(node, held)
    largest = sizes(problem)
    leave = () if again else {change.class_index for change in blocked if change.source is None}
    fill(placement, lambda pod_class: -largest[pod_class.index], leave)
    return placement if placement.within_limits() else None


def _take_back_what_has_no_room(placement: Placement, kept: list[Change]) -> None:
    """Take arrivals back until every node holds what stands there; each round leaves fewer changes."""
    while True:
        full = {node for node in range(len(placement.room)) if not _holds(placement, node)}
        arrivals = [change for change in kept if change.target in full]
        if not arrivals:
            return
        classes = placement.problem.classes
        least = min(arrivals, key=lambda one: (classes[one.class_index].priority, one.source is not None, one.uid))
        kept.remove(least)
        _apply(placement, least, -1)


def _apply(placement: Placement, change: Change, times: int) -> None:
    """Carry a change out, or take it back (`times` = -1); a pod that is displaced stands on no node of a placement."""
    pod_class = placement.problem.classes[change.class_index]
    if change.target is not None:
        placement.add(pod_class, change.target, times)
    if change.source is not None and change.source in pod_class.running:
        placement.add(pod_class, change.source, -times)


def _holds(placement: Placement, node: int) -> bool:
    return all(amount >= 0 for amount in placement.room[node]) and not _ports_clash(placement, node)


def _ports_clash(placement: Placement, node: int) -> bool:
    """Whether two pods on a node want one host port."""
    problem = placement.problem
    with_ports = [index for index in placement.on_node[node] if problem.classes[index].ports]
    if not with_ports:
        return False
    taken = list(problem.ports[node]) if problem.ports else []
    for index in with_ports:
        for _ in range(placement.on_node[node][index]):
            if port_conflict(problem.classes[index].ports, taken) is not None:
                return True
            taken += problem.classes[index].ports
    return False


def _fits(placement: Placement, index: int, node: int | None) -> bool:
    """Whether one more pod of a class has room on a node."""
    pod_class = placement.problem.classes[index]
    if node is None or placement.clashes(pod_class, node):
        return False
    room = placement.room[node]
    return all(amount <= room[resource] for resource, amount in enumerate(pod_class.requests))
