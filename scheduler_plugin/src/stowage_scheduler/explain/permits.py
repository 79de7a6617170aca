"""Rules that keep pods in the way, and what somebody would do about them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from msgspec import Struct

from stowage_scheduler.cluster import Pod
from stowage_scheduler.explain.clauses import MOVE_LIMIT, NO_ROOM_ELSEWHERE, PRIORITY, Clause, ClauseKind
from stowage_scheduler.explain.help import HelpKind
from stowage_scheduler.explain.table import Table
from stowage_scheduler.immovable import Immovable

_MOST_PERMITS = 8
_MOST_NAMES = 3
_COSTS = {
    ClauseKind.TERMINATING: 1.0,
    ClauseKind.MOVE_LIMIT: 2.0,
    ClauseKind.POD_DISRUPTION_BUDGET: 2.5,
    ClauseKind.EVICTIONS_OFF: 4.0,
    ClauseKind.NEVER_PREEMPTS: 5.0,
    ClauseKind.PRIORITY: 12.0,  # more than a node: somebody else loses
}
_PASSES = {
    Immovable.OWNER_ROLLING_OUT: 2.0,
    Immovable.OWNER_UNSETTLED: 1.5,
    Immovable.NOT_NEWEST: 2.0,
    Immovable.TOO_YOUNG: 1.5,
}
_ANNOTATION_COST = 5.0
_BY_HAND_COST = 6.0
_FOR_GOOD = frozenset({Immovable.DAEMON_SET, Immovable.STATIC, Immovable.TERMINATING, Immovable.NODE_OUT_OF_SCOPE})


class Permit(Struct, frozen=True):
    """Rules to do without, so that pods may go: `moves` says that they find a place elsewhere."""

    without: frozenset[Clause]
    moves: bool
    kind: HelpKind
    cost: float


def permits(table: Table) -> tuple[Permit, ...]:
    """What would let pods in the way go that now stay, the cheapest first."""
    found: dict[tuple[frozenset[Clause], bool], Permit] = {}
    for way in table.ways:
        if way.goes(table.clauses):
            continue
        for number, rules in enumerate(way.unless):
            without, moves = rules - {NO_ROOM_ELSEWHERE}, number == 0 and len(way.unless) > 1
            cost = sum(map(_cost, without))
            if math.isfinite(cost):
                found[without, moves] = Permit(without, moves, _kind(without), cost)
    ranked = sorted(found.values(), key=lambda one: (one.cost, not one.moves, sorted(one.without)))
    return tuple(ranked[:_MOST_PERMITS])


def _cost(clause: Clause) -> float:
    if clause.kind is not ClauseKind.NEVER_MOVES:
        return _COSTS.get(clause.kind, math.inf)
    why = Immovable[clause.subject]
    if why in _FOR_GOOD:
        return math.inf
    return _ANNOTATION_COST if why is Immovable.DO_NOT_DISRUPT else _PASSES.get(why, _BY_HAND_COST)


def _kind(without: frozenset[Clause]) -> HelpKind:
    if not without:
        return HelpKind.MORE_TIME
    if PRIORITY in without:
        return HelpKind.HIGHER_PRIORITY
    return HelpKind.WAIT if all(map(_passes, without)) else HelpKind.ALLOW


def _passes(clause: Clause) -> bool:
    """Whether it goes away by itself."""
    if clause.kind is ClauseKind.NEVER_MOVES:
        return Immovable[clause.subject] in _PASSES
    return clause.kind in {ClauseKind.TERMINATING, ClauseKind.POD_DISRUPTION_BUDGET}


def permit_words(permit: Permit, node: str, pods: Sequence[Pod], targets: Sequence[str]) -> str:
    """What to do, for people.

    Args:
        permit: what is to be done without.
        node: where the waiting pod would go.
        pods: that go.
        targets: where they move, if they do.
    """
    who = names(pods, priority=not targets)
    one = len(pods) == 1
    if targets:
        where = ", ".join(dict.fromkeys(targets[:_MOST_NAMES])) + (" …" if len(targets) > _MOST_NAMES else "")
        then = f"{who} {'moves' if one else 'move'} from node {node} to {where}"
    else:
        then = f"{who} on node {node} {'makes' if one else 'make'} room"
    if not permit.without:
        return f"it fits when {then}: plan again with more time"
    rules = sorted(permit.without, key=lambda clause: (-_cost(clause), clause))
    if rules == [Clause(ClauseKind.TERMINATING)]:
        return f"wait until {names(pods)} on node {node} {'is' if one else 'are'} gone"
    return f"{' and '.join(_words(rule, pods) for rule in rules)}: then {then}"


def _words(clause: Clause, pods: Sequence[Pod]) -> str:
    match clause.kind:
        case ClauseKind.POD_DISRUPTION_BUDGET:
            return f"wait until PodDisruptionBudget {clause.subject} allows a disruption"
        case ClauseKind.TERMINATING:
            return "wait until pods that are on their way out are gone"
        case ClauseKind.EVICTIONS_OFF:
            return "disruption.evictLowerPriority: true"
        case ClauseKind.NEVER_PREEMPTS:
            return "preemptionPolicy PreemptLowerPriority"
        case ClauseKind.PRIORITY:
            return f"a priority above {max(pod.priority for pod in pods)}"
        case _ if clause == MOVE_LIMIT:
            return "raise maxMovesPerPlan"
        case _:
            why = Immovable[clause.subject]
            if why in _PASSES:
                return f"wait: of a pod there holds that {why.value}"
            if why is Immovable.DO_NOT_DISRUPT:
                return "take off the annotation that forbids to disrupt it"
            return f"do it by hand ({why.value})"


def names(pods: Iterable[Pod], *, priority: bool = False) -> str:
    """Pods by name: `team/web-7 (priority 10), team/web-8 and 2 more`."""
    every = list(pods)
    told = [f"{pod.key} (priority {pod.priority})" if priority else pod.key for pod in every[:_MOST_NAMES]]
    more = f" and {len(every) - _MOST_NAMES} more" if len(every) > _MOST_NAMES else ""
    return ", ".join(told) + more
